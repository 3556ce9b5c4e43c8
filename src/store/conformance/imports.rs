//! Importing from another bus: what is there stays, nothing is taken twice, and what is taken
//! waits in the queue as if it had been published here.

use std::time::Duration;

use super::fixture::{
    Fixture, HOUR, PUBLISHER, SHORT_LEASE, STORED, assert_due_after, client, numbers,
    on_all_stores, on_both_stores, plain, subscription, texts, topic,
};
use crate::bus::health::Health;
use crate::bus::topic::Topic;
use crate::store::ImportedPortion::{Appended, OutOfStep, TakenBefore};
use crate::store::{
    BatchOutcome, IMPORT_MAX_ITEMS, ImportedPortion, ImportedTopic, Lane, Portion, Published, Taken,
};

on_all_stores!(
    an_imported_topic_belongs_to_its_publisher_and_counts_on,
    a_topic_that_is_there_keeps_its_publisher_and_the_higher_count,
    an_imported_subscriber_receives_what_is_published_from_now_on,
    a_subscriber_that_is_there_stays_as_it_is,
    imported_batches_are_delivered_in_order_and_before_what_is_published_after,
    a_portion_that_was_taken_is_not_taken_again,
    a_batch_that_has_grown_gives_what_is_new,
    a_portion_that_does_not_follow_what_was_taken_changes_nothing,
    entries_that_are_no_events_count_as_taken,
    a_call_takes_as_much_as_it_may,
    batches_for_nobody_are_refused,
    times_in_a_queue_do_not_go_backwards,
    a_full_batch_is_due_at_once_and_another_one_after_its_timeout,
    a_batch_in_a_workers_hands_is_left_alone,
    what_was_taken_is_forgotten_with_its_subscriber,
    what_was_taken_is_known_to_each_queue_and_to_other_processes,
);

on_both_stores!(
    imported_items_have_waited_since_their_batch_was_begun,
    the_alarm_rings_for_what_was_imported
);

fn portion(batch: &str, created_ms: u64, from: u64, texts: &[String]) -> Portion {
    let items = texts.iter().map(|text| text.clone().into_bytes().into());
    let entries = texts.len() as u64;
    Portion { batch: batch.into(), created_ms, from, entries, items: items.collect() }
}

async fn import(f: &Fixture, who: &str, portions: &[Portion]) -> Vec<ImportedPortion> {
    let outcomes = f.store.import_batches(&client(who), portions.to_vec()).await.unwrap();
    outcomes.expect("the subscriber is there")
}

async fn import_topic(f: &Fixture, name: &str, by: Option<&str>, events: u64) -> ImportedTopic {
    let topic = Topic { name: topic(name), publisher: by.map(client), events, keep: None };
    f.store.import_topic(&topic).await.unwrap()
}

async fn taken(f: &Fixture, who: &str, batch: &str) -> (u64, u64) {
    let taken = f.store.imported_batches(&client(who), &[batch.to_owned()]).await.unwrap();
    let [Taken { entries, items }] = taken[..] else { panic!("one batch was asked for") };
    (entries, items)
}

async fn an_imported_topic_belongs_to_its_publisher_and_counts_on(f: &Fixture) {
    let imported = import_topic(f, "a", Some("one"), 1000).await;
    assert_eq!(imported, ImportedTopic { created: true, publisher: Some(client("one")) });
    let free = import_topic(f, "free", None, 0).await;
    assert_eq!(free, ImportedTopic { created: true, publisher: None });
    let published = f.publish_group(&[("two", "a", "x"), ("one", "a", "y"), ("two", "free", "z")]);
    let expected = [Published::OwnedByAnother, STORED, STORED];
    assert_eq!(published.await, expected);
    assert_eq!(f.topic("a").await.events, 1001);
    assert_eq!(f.topic("free").await.publisher, Some(client("two")));
}

async fn a_topic_that_is_there_keeps_its_publisher_and_the_higher_count(f: &Fixture) {
    f.publish("a", &numbers(1, 5)).await;
    let there = ImportedTopic { created: false, publisher: Some(client(PUBLISHER)) };
    for (events, expected) in [(3, 5), (9, 9), (9, 9)] {
        assert_eq!(import_topic(f, "a", Some("another"), events).await, there);
        assert_eq!(f.topic("a").await.events, expected);
    }
    assert_eq!(import_topic(f, "a", None, 0).await, there);
    // One without a publisher gets one.
    f.subscribe("alice", &["b"], plain).await;
    let claimed = ImportedTopic { created: false, publisher: Some(client("one")) };
    assert_eq!(import_topic(f, "b", Some("one"), 0).await, claimed);
    assert_eq!(f.publish_group(&[("two", "b", "x")]).await, [Published::OwnedByAnother]);
}

async fn an_imported_subscriber_receives_what_is_published_from_now_on(f: &Fixture) {
    import_topic(f, "a", Some(PUBLISHER), 0).await;
    import_topic(f, "b", Some(PUBLISHER), 0).await;
    let wanted = subscription(&["a", "b"], |terms| {
        terms.uuid = Some("secret".into());
        terms.max = 2;
    });
    let alice = client("alice");
    assert!(f.store.import_subscriber(&alice, &wanted, Health::new(42)).await.unwrap());
    let status = f.status("alice").await;
    assert_eq!((status.subscription, status.health), (wanted.clone(), Health::new(42)));
    assert_eq!((status.sent, status.queued), (0, 0));
    f.publish("a", &["1"]).await;
    f.publish("b", &["2"]).await;
    let leased = f.claim_one().await;
    assert_eq!((texts(&leased), leased.terms), (numbers(1, 2), wanted.terms));
    assert_eq!(leased.health, Health::new(42));
}

async fn a_subscriber_that_is_there_stays_as_it_is(f: &Fixture) {
    f.subscribe("alice", &["a"], plain).await;
    f.publish("a", &["1"]).await;
    let before = f.status("alice").await;
    let other = subscription(&["b"], |terms| terms.max = 7);
    let imported = f.store.import_subscriber(&client("alice"), &other, Health::new(1)).await;
    assert!(!imported.unwrap());
    assert_eq!(f.status("alice").await, before);
    f.publish("b", &["unwanted"]).await;
    assert_eq!(f.drain().await["alice"], ["1"]);
}

async fn imported_batches_are_delivered_in_order_and_before_what_is_published_after(f: &Fixture) {
    f.subscribe("alice", &["a"], |terms| terms.max = 2).await;
    f.publish("a", &["1"]).await;
    let now = f.now_ms();
    let portions = [portion("x", now, 0, &numbers(2, 4)), portion("y", now, 0, &numbers(5, 5))];
    assert_eq!(import(f, "alice", &portions).await, [Appended; 2]);
    f.publish("a", &["6"]).await;
    assert_eq!(f.status("alice").await.queued, 6);
    assert_eq!(f.drain().await["alice"], numbers(1, 6));
    assert_eq!(f.status("alice").await.sent, 6);
}

async fn a_portion_that_was_taken_is_not_taken_again(f: &Fixture) {
    f.subscribe("alice", &["a"], plain).await;
    let x = portion("x", 0, 0, &numbers(1, 3));
    assert_eq!(import(f, "alice", std::slice::from_ref(&x)).await, [Appended]);
    let again = [x.clone(), portion("y", 0, 0, &numbers(4, 4)), x.clone()];
    assert_eq!(import(f, "alice", &again).await, [TakenBefore, Appended, TakenBefore]);
    assert_eq!(f.drain().await["alice"], numbers(1, 4));
    // Nor once it was delivered.
    assert_eq!(import(f, "alice", &again).await, [TakenBefore; 3]);
    assert_eq!(f.status("alice").await.queued, 0);
}

async fn a_batch_that_has_grown_gives_what_is_new(f: &Fixture) {
    f.subscribe("alice", &["a"], plain).await;
    import(f, "alice", &[portion("x", 0, 0, &numbers(1, 2))]).await;
    let grown = [portion("x", 0, 2, &numbers(3, 3)), portion("x", 0, 3, &numbers(4, 5))];
    assert_eq!(import(f, "alice", &grown).await, [Appended; 2]);
    assert_eq!(taken(f, "alice", "x").await, (5, 5));
    assert_eq!(f.drain().await["alice"], numbers(1, 5));
}

async fn a_portion_that_does_not_follow_what_was_taken_changes_nothing(f: &Fixture) {
    f.subscribe("alice", &["a"], plain).await;
    assert_eq!(import(f, "alice", &[portion("x", 0, 1, &numbers(2, 3))]).await, [OutOfStep]);
    import(f, "alice", &[portion("x", 0, 0, &numbers(1, 3))]).await;
    for from in [1, 4] {
        let apart = portion("x", 0, from, &numbers(7, 9));
        assert_eq!(import(f, "alice", &[apart]).await, [OutOfStep]);
    }
    assert_eq!(taken(f, "alice", "x").await, (3, 3));
    assert_eq!(f.drain().await["alice"], numbers(1, 3));
}

async fn entries_that_are_no_events_count_as_taken(f: &Fixture) {
    f.subscribe("alice", &["a"], plain).await;
    let some = Portion { entries: 5, ..portion("x", 0, 0, &numbers(1, 2)) };
    let none = Portion { entries: 4, ..portion("y", 0, 0, &[]) };
    assert_eq!(import(f, "alice", &[some, none]).await, [Appended; 2]);
    assert_eq!(taken(f, "alice", "x").await, (5, 2));
    assert_eq!(taken(f, "alice", "y").await, (4, 0));
    assert_eq!(import(f, "alice", &[portion("x", 0, 5, &numbers(3, 3))]).await, [Appended]);
    assert_eq!(f.drain().await["alice"], numbers(1, 3));
}

async fn a_call_takes_as_much_as_it_may(f: &Fixture) {
    f.subscribe("alice", &["a"], |terms| terms.max = 10_000).await;
    let count = IMPORT_MAX_ITEMS as u32;
    import(f, "alice", &[portion("x", 0, 0, &numbers(1, count))]).await;
    let rest: Vec<_> = (1..=count)
        .map(|number| {
            portion(&format!("y{number}"), 0, 0, &numbers(count + number, count + number))
        })
        .collect();
    assert_eq!(import(f, "alice", &rest).await, vec![Appended; IMPORT_MAX_ITEMS]);
    assert_eq!(f.drain().await["alice"], numbers(1, 2 * count));
}

async fn batches_for_nobody_are_refused(f: &Fixture) {
    let portions = vec![portion("x", 0, 0, &numbers(1, 1))];
    assert_eq!(f.store.import_batches(&client("nobody"), portions).await.unwrap(), None);
    assert_eq!(taken(f, "nobody", "x").await, (0, 0));
    assert_eq!(f.store.subscriptions().await.unwrap(), []);
}

async fn imported_items_have_waited_since_their_batch_was_begun(f: &Fixture) {
    f.subscribe("alice", &["a"], |terms| terms.max = 1).await;
    let begun = f.now_ms() - HOUR.as_millis() as u64;
    import(f, "alice", &[portion("x", begun, 0, &numbers(1, 1))]).await;
    assert_eq!(f.status("alice").await.oldest_ms, Some(begun));
    let leased = f.claim_one().await;
    assert!((HOUR..HOUR + Duration::from_secs(20)).contains(&leased.waited), "{leased:?}");
    // They count for the retention, too, and for what is dropped first.
    f.settle(&leased.lease, BatchOutcome::Acknowledged).await;
    f.subscribe("bob", &["b"], plain).await;
    f.publish("b", &["1"]).await;
    import(f, "alice", &[portion("y", begun, 0, &numbers(2, 2))]).await;
    let drops = f.drop_oldest(1).await;
    assert_eq!((drops.of(&client("alice")).items, drops.of(&client("bob")).items), (1, 0));
}

async fn times_in_a_queue_do_not_go_backwards(f: &Fixture) {
    f.subscribe("alice", &["a"], |terms| terms.max = 1).await;
    let now = f.now_ms();
    let times = [now - 5_000, now - 9_000, now + 9_000_000, now - 1];
    let portions = times
        .iter()
        .enumerate()
        .map(|(index, created_ms)| portion(&index.to_string(), *created_ms, 0, &numbers(1, 1)));
    import(f, "alice", &portions.collect::<Vec<_>>()).await;
    let mut shown = Vec::new();
    for _ in times {
        shown.push(f.status("alice").await.oldest_ms.expect("something waits"));
        let leased = f.claim_one().await;
        f.settle(&leased.lease, BatchOutcome::Acknowledged).await;
    }
    assert_eq!(shown[..2], [now - 5_000, now - 5_000]);
    let in_time = now - 1..=f.now_ms() + 100;
    assert!(in_time.contains(&shown[2]) && shown[3] == shown[2], "{shown:?} around {now}");
}

async fn a_full_batch_is_due_at_once_and_another_one_after_its_timeout(f: &Fixture) {
    f.subscribe("alice", &["a"], |terms| {
        terms.max = 3;
        terms.timeout = 2 * HOUR;
    })
    .await;
    let begun = f.now_ms() - HOUR.as_millis() as u64;
    import(f, "alice", &[portion("x", begun, 0, &numbers(1, 2))]).await;
    assert_due_after(f.claim_none().await, HOUR);
    import(f, "alice", &[portion("y", f.now_ms(), 0, &numbers(3, 3))]).await;
    assert_eq!(texts(&f.claim_one().await), numbers(1, 3));
}

async fn a_batch_in_a_workers_hands_is_left_alone(f: &Fixture) {
    f.subscribe("alice", &["a"], |terms| terms.max = 1).await;
    f.publish("a", &["1"]).await;
    let leased = f.claim_one_for(SHORT_LEASE).await;
    import(f, "alice", &[portion("x", 0, 0, &numbers(2, 3))]).await;
    assert_due_after(f.claim_none().await, SHORT_LEASE);
    f.settle(&leased.lease, BatchOutcome::Failed { retry_in: HOUR }).await;
    import(f, "alice", &[portion("x", 0, 2, &numbers(4, 4))]).await;
    assert_due_after(f.claim_none().await, HOUR);
    assert_eq!(f.status("alice").await.queued, 4);
}

async fn the_alarm_rings_for_what_was_imported(f: &Fixture) {
    f.subscribe("alice", &["a"], plain).await;
    f.store.alarm(Lane::HOME).wait(Duration::ZERO).await;
    import(f, "alice", &[portion("x", 0, 0, &numbers(1, 1))]).await;
    let rings = f.store.alarm(Lane::HOME).wait(HOUR);
    tokio::time::timeout(Duration::from_secs(5), rings).await.expect("the alarm rings");
}

async fn what_was_taken_is_forgotten_with_its_subscriber(f: &Fixture) {
    f.subscribe("alice", &["a"], plain).await;
    let x = portion("x", 0, 0, &numbers(1, 1));
    import(f, "alice", std::slice::from_ref(&x)).await;
    assert!(f.store.unsubscribe(&client("alice")).await.unwrap());
    f.subscribe("alice", &["a"], plain).await;
    assert_eq!(taken(f, "alice", "x").await, (0, 0));
    assert_eq!(import(f, "alice", &[x]).await, [Appended]);
    assert_eq!(f.drain().await["alice"], ["1"]);
}

async fn what_was_taken_is_known_to_each_queue_and_to_other_processes(f: &Fixture) {
    f.subscribe("alice", &["a"], plain).await;
    f.subscribe("bob", &["a"], plain).await;
    assert_eq!(taken(f, "alice", "x").await, (0, 0), "before anything was ever imported");
    import(f, "alice", &[portion("x", 0, 0, &numbers(1, 2)), portion("y", 0, 0, &numbers(3, 3))])
        .await;
    assert_eq!(taken(f, "bob", "x").await, (0, 0));
    let batches = ["y", "z", "x"].map(String::from);
    let seen = f.open_another().imported_batches(&client("alice"), &batches).await.unwrap();
    let counts: Vec<_> = seen.iter().map(|taken| (taken.entries, taken.items)).collect();
    assert_eq!(counts, [(1, 1), (0, 0), (2, 2)]);
}
