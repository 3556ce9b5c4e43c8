//! Dropping: of the queues that hold most, the oldest items first, each one counted, and nothing of
//! what is on its way to a subscriber.

use std::time::Duration;

use super::fixture::{
    Fixture, HOUR, SHORT_LEASE, assert_due_after, client, numbers, on_both_stores, plain,
    publication, soon, subscription, text, texts,
};
use crate::bus::subscription::{Retention, Subscription};
use crate::bus::token::ClientToken;
use crate::store::{BatchOutcome, BatchSettled, DROP_STEP, Dropped, Drops, Duty, Lane, StoreError};

on_both_stores!(
    the_oldest_items_go_first_across_queues,
    as_much_goes_as_was_asked_for_and_each_item_is_counted,
    who_holds_less_than_its_share_loses_nothing,
    of_a_long_queue_about_as_much_is_known_as_it_holds,
    one_call_drops_no_more_than_a_step,
    a_batch_in_flight_is_left_alone_and_acknowledged_alone,
    a_batch_in_flight_that_fails_is_sent_again_whole,
    what_stands_behind_a_long_batch_in_flight_goes_as_well,
    a_batch_that_waits_to_be_sent_again_may_go_and_its_rest_is_another_batch,
    the_pause_of_a_failed_batch_outlives_the_batch,
    an_emptied_queue_is_due_when_something_is_published_again,
    an_emptied_queue_keeps_its_pause,
    what_is_left_leaves_when_it_would_have_by_itself,
    items_older_than_the_retention_go,
    more_items_than_max_queued_go_the_oldest_first,
    without_a_retention_nothing_expires,
    a_retention_that_is_taken_back_drops_nothing_more,
    one_process_at_a_time_has_a_duty,
    the_store_says_how_much_room_it_takes,
);

/// Bytes that are more than anything here takes up.
const ALL: u64 = 1 << 40;
const PAUSE: Duration = Duration::from_millis(5);

/// Items of 1,000 bytes that begin with these numbers, so that bytes and items can be compared.
fn heavy(from: u32, to: u32) -> Vec<String> {
    (from..=to).map(|number| format!("{number:01000}")).collect()
}

fn items(drops: &Drops) -> Vec<(&str, u64)> {
    drops.iter().map(|(subscriber, dropped)| (subscriber.reveal(), dropped.items)).collect()
}

async fn limit(f: &Fixture, subscriber: &str, age: Option<Duration>, count: Option<u64>) {
    let subscription =
        Subscription { retention: Retention { age, count }, ..subscription(&[subscriber], plain) };
    f.store.subscribe(&client(subscriber), &subscription.into(), true).await.unwrap();
}

async fn the_oldest_items_go_first_across_queues(f: &Fixture) {
    for subscriber in ["alice", "bob", "carol"] {
        f.subscribe(subscriber, &[subscriber], plain).await;
    }
    for (round, subscriber) in ["carol", "alice", "carol", "bob", "alice"].into_iter().enumerate() {
        f.publish(subscriber, &heavy(round as u32, round as u32)).await;
        f.pass(PAUSE).await;
    }
    let mut order = Vec::new();
    loop {
        let drops = f.drop_oldest(1).await;
        match items(&drops)[..] {
            [] => break,
            [(subscriber, 1)] => order.push(subscriber.to_owned()),
            ref other => panic!("one item was to go: {other:?}"),
        }
    }
    assert_eq!(order, ["carol", "alice", "carol", "bob", "alice"]);
}

async fn as_much_goes_as_was_asked_for_and_each_item_is_counted(f: &Fixture) {
    f.subscribe("alice", &["a"], plain).await;
    f.subscribe("bob", &["b"], plain).await;
    f.publish("a", &heavy(1, 30)).await;
    f.pass(PAUSE).await;
    f.publish("b", &heavy(1, 30)).await;
    let drops = f.drop_oldest(40 * 1_000).await;
    let Dropped { items: dropped, bytes } = drops.total();
    assert!((38..=41).contains(&dropped), "{drops:?}");
    assert!((39_000..43_000).contains(&bytes), "{drops:?}");
    let of = |name: &str| drops.of(&client(name)).items;
    assert!((18..=21).contains(&of("alice")) && (18..=21).contains(&of("bob")), "{drops:?}");
    let (alice, bob) = (f.status("alice").await, f.status("bob").await);
    assert_eq!((alice.autodropped, alice.queued), (of("alice"), 30 - of("alice")));
    assert_eq!((bob.autodropped, bob.queued), (of("bob"), 30 - of("bob")));
    assert_eq!((alice.sent, alice.expired, bob.sent, bob.expired), (0, 0, 0, 0));
    let kept = f.drain().await;
    assert_eq!(kept["alice"], heavy(of("alice") as u32 + 1, 30));
    assert_eq!(kept["bob"], heavy(of("bob") as u32 + 1, 30));
}

/// Contract §6: nobody can push another client's events out, however old these are.
async fn who_holds_less_than_its_share_loses_nothing(f: &Fixture) {
    for subscriber in ["alice", "bob", "flood"] {
        f.subscribe(subscriber, &[subscriber], plain).await;
    }
    f.publish("alice", &heavy(1, 5)).await;
    f.publish("bob", &heavy(1, 40)).await;
    f.pass(PAUSE).await;
    f.publish("flood", &heavy(1, 300)).await;
    // Down to what is fair for all three, and a flood that comes again.
    for _ in 0..2 {
        let drops = f.drop_oldest(200_000).await;
        assert_eq!(items(&drops).len(), 1, "{drops:?}");
        assert!((190..=202).contains(&drops.of(&client("flood")).items), "{drops:?}");
        f.publish("flood", &heavy(1, 200)).await;
    }
    // When more has to go than the flood has over others, the next largest gives as well.
    let drops = f.drop_oldest(300_000).await;
    let of = |name: &str| drops.of(&client(name)).items;
    assert_eq!(of("alice"), 0, "{drops:?}");
    assert!((8..=22).contains(&of("bob")), "{drops:?}");
    assert_eq!(f.status("alice").await.queued, 5);
    let left = (f.status("bob").await.queued, f.status("flood").await.queued);
    assert!(left.0.abs_diff(left.1) <= 12, "about as much is left of both: {left:?}");
}

async fn of_a_long_queue_about_as_much_is_known_as_it_holds(f: &Fixture) {
    f.subscribe("alice", &["a"], |terms| terms.max = 10).await;
    f.publish("a", &numbers(1, 500)).await;
    f.publish("a", &heavy(1, 1_000)).await;
    f.publish("a", &numbers(1, 500)).await;
    let held = f.store.droppable(Lane::HOME).await.unwrap().of(&client("alice"));
    assert_eq!(held.items, 2_000);
    assert!((800_000..1_400_000).contains(&held.bytes), "{held:?}");
    let leased = f.claim_one().await;
    let waiting = f.store.droppable(Lane::HOME).await.unwrap().of(&client("alice"));
    assert_eq!(waiting.items, 1_990, "what is in flight cannot go");
    f.settle(&leased.lease, BatchOutcome::Acknowledged).await;
}

async fn one_call_drops_no_more_than_a_step(f: &Fixture) {
    f.subscribe("alice", &["a"], plain).await;
    let all: Vec<String> = (0..DROP_STEP + 5).map(|number| format!("item {number}")).collect();
    f.publish("a", &all).await;
    assert_eq!(f.drop_oldest(ALL).await.total().items, DROP_STEP as u64);
    assert_eq!(f.status("alice").await.queued, 5);
    assert_eq!(texts(&f.claim_one().await), all[DROP_STEP..]);
}

async fn a_batch_in_flight_is_left_alone_and_acknowledged_alone(f: &Fixture) {
    f.subscribe("alice", &["a"], |terms| terms.max = 3).await;
    f.publish("a", &numbers(1, 9)).await;
    let leased = f.claim_one().await;
    // One item of those behind the batch, then two.
    assert_eq!(items(&f.drop_oldest(1).await), [("alice", 1)]);
    assert_eq!(items(&f.drop_oldest(40).await), [("alice", 2)]);
    let status = f.status("alice").await;
    assert_eq!((status.queued, status.autodropped), (6, 3));
    assert!(matches!(
        f.settle(&leased.lease, BatchOutcome::Acknowledged).await,
        BatchSettled::Released
    ));
    let status = f.status("alice").await;
    assert_eq!((status.sent, status.queued, status.autodropped), (3, 3, 3));
    assert_eq!(f.drain().await["alice"], numbers(7, 9));
    assert_eq!(f.status("alice").await.sent, 6);
}

async fn a_batch_in_flight_that_fails_is_sent_again_whole(f: &Fixture) {
    f.subscribe("alice", &["a"], |terms| terms.max = 3).await;
    f.publish("a", &numbers(1, 5)).await;
    let leased = f.claim_one().await;
    assert_eq!(items(&f.drop_oldest(ALL).await), [("alice", 2)]);
    assert!(f.drop_oldest(ALL).await.is_empty());
    f.settle(&leased.lease, BatchOutcome::Failed { retry_in: Duration::ZERO }).await;
    f.publish("a", &["6"]).await;
    let again = f.claim_one().await;
    assert_eq!((texts(&again), &again.batch.id), (numbers(1, 3), &leased.batch.id));
    assert_eq!(again.batch.attempt, 2);
    f.settle(&again.lease, BatchOutcome::Acknowledged).await;
    assert_eq!(f.drain().await["alice"], ["6"]);
}

async fn what_stands_behind_a_long_batch_in_flight_goes_as_well(f: &Fixture) {
    f.subscribe("alice", &["a"], |terms| terms.max = 500).await;
    f.publish("a", &numbers(1, 700)).await;
    let leased = f.claim_one_for(SHORT_LEASE).await;
    // Fewer than the batch has, so that the numbers of the items overlap before and after.
    for _ in 0..3 {
        assert!(f.drop_oldest(40).await.total().items > 0);
    }
    let dropped = f.status("alice").await.autodropped as u32;
    f.pass(SHORT_LEASE * 2).await;
    let again = f.claim_one().await;
    assert_eq!(again.batch.id, leased.batch.id);
    assert_eq!(texts(&again), numbers(1, 500), "taken over, whole and in order");
    f.settle(&again.lease, BatchOutcome::Acknowledged).await;
    assert_eq!(f.drain().await["alice"], numbers(501 + dropped, 700));
}

async fn a_batch_that_waits_to_be_sent_again_may_go_and_its_rest_is_another_batch(f: &Fixture) {
    f.subscribe("alice", &["a"], |terms| terms.max = 3).await;
    f.publish("a", &numbers(1, 5)).await;
    let first = f.claim_one().await;
    f.settle(&first.lease, BatchOutcome::Failed { retry_in: Duration::ZERO }).await;
    assert_eq!(items(&f.drop_oldest(1).await), [("alice", 1)]);
    let second = f.claim_one().await;
    assert_eq!(texts(&second), numbers(2, 4));
    assert_ne!(second.batch.id, first.batch.id, "a receiver may have seen the first one");
    assert_eq!(second.batch.attempt, 1);
    f.settle(&second.lease, BatchOutcome::Acknowledged).await;
    assert_eq!(f.drain().await["alice"], ["5"]);
    assert_eq!(f.status("alice").await.sent, 4);
}

async fn the_pause_of_a_failed_batch_outlives_the_batch(f: &Fixture) {
    f.subscribe("alice", &["a"], |terms| terms.max = 2).await;
    f.publish("a", &numbers(1, 5)).await;
    let failed = f.claim_one().await;
    f.settle(&failed.lease, BatchOutcome::Failed { retry_in: HOUR }).await;
    assert_eq!(items(&f.drop_oldest(80).await), [("alice", 4)]);
    assert_due_after(f.claim_none().await, HOUR);
    f.publish("a", &numbers(6, 9)).await;
    assert_due_after(f.claim_none().await, HOUR);
}

async fn an_emptied_queue_is_due_when_something_is_published_again(f: &Fixture) {
    f.subscribe("alice", &["a"], plain).await;
    f.publish("a", &numbers(1, 5)).await;
    assert_eq!(items(&f.drop_oldest(ALL).await), [("alice", 5)]);
    assert_eq!(f.claim_none().await, None);
    f.publish("a", &["6"]).await;
    assert_eq!(texts(&f.claim_one().await), ["6"]);
}

/// Else a dead subscriber whose events expire would be tried for each new one.
async fn an_emptied_queue_keeps_its_pause(f: &Fixture) {
    let pause = Duration::from_millis(300);
    f.subscribe("alice", &["a"], plain).await;
    f.publish("a", &numbers(1, 5)).await;
    let failed = f.claim_one().await;
    f.settle(&failed.lease, BatchOutcome::Failed { retry_in: pause }).await;
    assert_eq!(items(&f.drop_oldest(ALL).await), [("alice", 5)]);
    f.publish("a", &["6"]).await;
    assert_due_after(f.claim_none().await, pause);
    f.pass(pause).await;
    let again = f.claim_eventually().await;
    assert_eq!((texts(&again), again.batch.attempt), (vec!["6".to_owned()], 1));
    f.settle(&again.lease, BatchOutcome::Failed { retry_in: Duration::ZERO }).await;

    // When the pause is over and there still is nothing, all is as with any empty queue.
    assert_eq!(items(&f.drop_oldest(ALL).await), [("alice", 1)]);
    assert_eq!(f.claim_none().await, None);
    f.publish("a", &["7"]).await;
    assert_eq!(texts(&f.claim_one().await), ["7"]);
}

async fn what_is_left_leaves_when_it_would_have_by_itself(f: &Fixture) {
    f.subscribe("alice", &["a"], |terms| {
        terms.timeout = HOUR;
        terms.max = 3;
    })
    .await;
    f.publish("a", &numbers(1, 4)).await;
    // Full, and so due; then not full any more.
    assert_eq!(items(&f.drop_oldest(40).await), [("alice", 2)]);
    assert_due_after(f.claim_none().await, HOUR);
    f.publish("a", &["5"]).await;
    assert_eq!(texts(&f.claim_one().await), numbers(3, 5));
}

async fn items_older_than_the_retention_go(f: &Fixture) {
    let age = Duration::from_millis(300);
    limit(f, "alice", Some(age), None).await;
    f.subscribe("bob", &["alice"], plain).await;
    f.publish("alice", &numbers(1, 3)).await;
    assert!(f.store.drop_expired(Lane::HOME).await.unwrap().is_empty(), "none of them is that old");
    f.pass(age * 2).await;
    f.publish("alice", &["4"]).await;
    let drops = f.store.drop_expired(Lane::HOME).await.unwrap();
    assert_eq!(items(&drops), [("alice", 3)]);
    assert!(drops.total().bytes > 0);
    let status = f.status("alice").await;
    assert_eq!((status.expired, status.autodropped, status.queued), (3, 0, 1));
    let received = f.drain().await;
    assert_eq!(received["alice"], ["4"]);
    assert_eq!(received["bob"], numbers(1, 4));
}

async fn more_items_than_max_queued_go_the_oldest_first(f: &Fixture) {
    limit(f, "alice", None, Some(4)).await;
    f.publish("alice", &numbers(1, 4)).await;
    assert!(f.store.drop_expired(Lane::HOME).await.unwrap().is_empty());
    f.publish("alice", &numbers(5, 10)).await;
    assert_eq!(items(&f.store.drop_expired(Lane::HOME).await.unwrap()), [("alice", 6)]);
    assert_eq!(f.drain().await["alice"], numbers(7, 10));

    f.publish("alice", &["11"]).await;
    let leased = f.claim_one().await;
    f.publish("alice", &numbers(12, 19)).await;
    f.store.drop_expired(Lane::HOME).await.unwrap();
    assert_eq!(f.status("alice").await.queued, 5, "the one in flight is on its way");
    f.settle(&leased.lease, BatchOutcome::Acknowledged).await;
    assert_eq!(f.drain().await["alice"], numbers(16, 19));
}

async fn without_a_retention_nothing_expires(f: &Fixture) {
    f.subscribe("alice", &["a"], plain).await;
    f.publish("a", &numbers(1, 3)).await;
    f.pass(Duration::from_millis(100)).await;
    assert!(f.store.drop_expired(Lane::HOME).await.unwrap().is_empty());
}

async fn a_retention_that_is_taken_back_drops_nothing_more(f: &Fixture) {
    limit(f, "alice", Some(Duration::from_millis(100)), Some(2)).await;
    let status = f.status("alice").await;
    let expected = Retention { age: Some(Duration::from_millis(100)), count: Some(2) };
    assert_eq!(status.subscription.retention, expected);
    limit(f, "alice", None, None).await;
    assert_eq!(f.status("alice").await.subscription.retention, Retention::default());
    f.publish("alice", &numbers(1, 5)).await;
    f.pass(Duration::from_millis(200)).await;
    assert!(f.store.drop_expired(Lane::HOME).await.unwrap().is_empty());
}

async fn one_process_at_a_time_has_a_duty(f: &Fixture) {
    let term = Duration::from_millis(200);
    let other = f.open_another();
    assert!(f.store.take_duty(Duty::Upkeep, HOUR / 60).await.unwrap());
    assert!(f.store.take_duty(Duty::Upkeep, term).await.unwrap(), "it keeps what it has");
    assert!(!other.take_duty(Duty::Upkeep, term).await.unwrap());
    assert!(!other.take_duty(Duty::Upkeep, Duration::ZERO).await.unwrap(), "it is not his");
    assert!(other.take_duty(Duty::Gauges, term).await.unwrap(), "that is another duty");
    f.pass(term * 2).await;
    assert!(other.take_duty(Duty::Upkeep, HOUR / 60).await.unwrap(), "the term is over");
    assert!(!f.store.take_duty(Duty::Upkeep, term).await.unwrap());
    assert!(other.take_duty(Duty::Upkeep, Duration::ZERO).await.unwrap());
    assert!(f.store.take_duty(Duty::Upkeep, term).await.unwrap(), "it was given back");
}

async fn the_store_says_how_much_room_it_takes(f: &Fixture) {
    f.subscribe("alice", &["a"], plain).await;
    let before = f.store.usage(Lane::HOME).await.unwrap();
    f.publish("a", &heavy(1, 1_000)).await;
    let full = f.store.usage(Lane::HOME).await.unwrap();
    let grown = full.used - before.used;
    assert!((1_000_000..6_000_000).contains(&grown), "it has grown by {grown}");
    f.drop_oldest(ALL).await;
    let after = f.store.usage(Lane::HOME).await.unwrap();
    assert!(after.used < before.used + grown / 2, "{before:?} {full:?} {after:?}");
}

/// A Redis that is full refuses publications as a whole, and takes them again once there is room.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_redis_says_so_and_can_be_emptied() {
    let options = ["--save", "", "--appendonly", "no", "--maxmemory", "6mb"];
    let f = Fixture::on_redis(super::redis_server::RedisServer::start_with(&options));
    f.subscribe("alice", &["a"], |terms| terms.max = 10_000).await;
    let by: ClientToken = client(super::fixture::PUBLISHER);
    let mut stored = 0;
    let refused = loop {
        let some = publication(by.reveal(), "a", &heavy(stored + 1, stored + 100));
        match f.store.publish(vec![some], soon()).await {
            Ok(_) => stored += 100,
            Err(error) => break error,
        }
    };
    assert!(matches!(refused, StoreError::Full(_)), "{refused}");
    assert_eq!(f.topic("a").await.events, u64::from(stored), "all or nothing");
    let usage = f.store.usage(Lane::HOME).await.unwrap();
    assert_eq!(usage.limit, Some(6 * 1024 * 1024));
    assert!(f.store.take_duty(Duty::Upkeep, HOUR / 60).await.unwrap(), "also when it is full");
    let dropped = f.drop_oldest(1_000_000).await.total().items as u32;
    f.publish("a", &heavy(stored + 1, stored + 100)).await;
    let received = f.claim_one().await;
    let last = received.batch.items.last().map(|queued| text(&queued.item)).unwrap();
    assert_eq!(text(&received.batch.items[0].item), heavy(dropped + 1, dropped + 1)[0]);
    assert_eq!(last, heavy(stored + 100, stored + 100)[0]);
}
