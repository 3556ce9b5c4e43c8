//! Who is known to the bus: subscriptions, topics, tokens.

use std::time::Duration;

use super::fixture::{
    Fixture, HOUR, LEASE, MAX_TOPICS, PUBLISHER, STORED, WholeStore, assert_due_after, callback,
    client, numbers, on_all_stores, on_both_stores, plain, settlement, subscription, texts, topic,
};
use crate::bus::health::Health;
use crate::bus::subscription::{Change, Retention, RetentionRequest, SubscriptionRequest, Terms};
use crate::bus::token::ApiToken;
use crate::store::{
    BatchOutcome, BatchSettlement, NEW_UUID_PAUSE, Published, Subscribed, TopicDeleted,
};

on_all_stores!(
    a_subscription_is_shown_as_it_was_asked_for,
    subscriptions_show_what_waits_and_since_when,
    a_new_subscription_replaces_the_old_one_and_keeps_its_queue,
    what_is_not_asked_for_of_the_retention_stays,
    a_subscription_is_found_by_its_subscriber,
    an_unknown_topic_changes_nothing,
    nobody_has_more_topics_than_it_may,
    topics_made_by_subscribing_count_until_somebody_publishes_to_them,
    the_same_body_again_has_no_effect,
    a_new_callback_starts_with_full_health_at_once_and_a_new_uuid_soon,
    a_new_uuid_during_a_delivery_keeps_full_health_when_that_ends,
    another_timeout_or_max_leaves_health_and_pause_alone,
    unsubscribing_removes_the_queue,
    leaving_one_topic_keeps_the_others_and_what_waits,
    a_topic_is_deleted_by_its_publisher_or_by_root_only,
    a_deleted_topic_leaves_all_subscriptions_and_starts_anew,
    api_tokens_are_added_renamed_deleted_and_sorted,
    a_store_that_works_answers_a_ping,
);

async fn a_subscription_is_shown_as_it_was_asked_for(f: &Fixture) {
    let full = |terms: &mut Terms| {
        terms.target = callback("https://receiver.example:8443/a%20b/ü");
        terms.uuid = Some("a:b \"ü\"".into());
        terms.timeout = HOUR;
        terms.max = 10_000;
    };
    f.subscribe("bob", &["b", "a", "c_"], full).await;
    f.subscribe("alice", &[], |terms| terms.uuid = Some(String::new())).await;
    let all = f.store.subscriptions().await.unwrap();
    assert_eq!(all.len(), 2);
    assert_eq!(all[0].subscriber, client("alice"));
    assert_eq!(all[0].subscription.terms.uuid.as_deref(), Some(""));
    assert_eq!(all[1].subscriber, client("bob"));
    assert_eq!(all[1].subscription, subscription(&["a", "b", "c_"], full));
    for status in &all {
        assert_eq!((status.sent, status.queued, status.oldest_ms), (0, 0, None));
    }
}

async fn subscriptions_show_what_waits_and_since_when(f: &Fixture) {
    f.subscribe("alice", &["a"], |terms| terms.max = 2).await;
    let before_ms = f.now_ms();
    f.publish("a", &["1", "2"]).await;
    let after_ms = f.now_ms();
    f.pass(Duration::from_millis(20)).await;
    f.publish("a", &["3"]).await;

    let status = f.status("alice").await;
    let oldest_ms = status.oldest_ms.expect("items wait");
    assert!((before_ms..=after_ms).contains(&oldest_ms), "{oldest_ms} is when 1 was published");
    assert_eq!((status.sent, status.queued), (0, 3));
    let leased = f.claim_one().await;
    let status = f.status("alice").await;
    assert_eq!((status.queued, status.oldest_ms), (3, Some(oldest_ms)), "in flight still counts");
    f.settle(&leased.lease, BatchOutcome::Acknowledged).await;
    let status = f.status("alice").await;
    assert_eq!((status.sent, status.queued), (2, 1));
    assert!(status.oldest_ms > Some(after_ms), "3 is the oldest now");
    f.drain().await;
    let status = f.status("alice").await;
    assert_eq!((status.sent, status.queued, status.oldest_ms), (3, 0, None));
}

async fn a_new_subscription_replaces_the_old_one_and_keeps_its_queue(f: &Fixture) {
    f.subscribe("alice", &["a", "b"], |terms| terms.uuid = Some("old".into())).await;
    f.publish("a", &["1"]).await;
    f.subscribe("alice", &["b", "c"], |terms| terms.max = 5).await;
    f.publish("a", &["unwanted"]).await;
    f.publish("b", &["2"]).await;
    f.publish("c", &["3"]).await;
    let status = f.status("alice").await;
    let expected = subscription(&["b", "c"], |terms| terms.max = 5);
    assert_eq!(status.subscription, expected);
    assert_eq!(f.drain().await["alice"], numbers(1, 3));
    f.subscribe("alice", &[], plain).await;
    f.publish("b", &["unwanted"]).await;
    assert_eq!(f.drain().await.len(), 0);
}

async fn what_is_not_asked_for_of_the_retention_stays(f: &Fixture) {
    let alice = client("alice");
    let subscribe = async |age, count, timeout| {
        let wanted = subscription(&["a"], |terms| terms.timeout = timeout);
        let mut request = SubscriptionRequest::from(wanted);
        request.retention = RetentionRequest { age, count };
        let subscribed = f.store.subscribe(&alice, &request, true).await.unwrap();
        (subscribed, f.status("alice").await.subscription)
    };
    let retention = |age, count| Retention { age, count };
    let (_, made) = subscribe(Change::Keep, Change::Set(7), Duration::ZERO).await;
    assert_eq!(made.retention, retention(None, Some(7)));
    let (_, aged) = subscribe(Change::Set(HOUR), Change::Keep, Duration::ZERO).await;
    assert_eq!(aged.retention, retention(Some(HOUR), Some(7)));
    let (_, same) = subscribe(Change::Keep, Change::Keep, Duration::ZERO).await;
    assert_eq!(same.retention, aged.retention);
    // Nothing would ever be delivered.
    let (refused, unchanged) = subscribe(Change::Keep, Change::Clear, HOUR).await;
    assert_eq!(refused, Subscribed::KeptRetentionTooShort(HOUR));
    assert_eq!(unchanged, same);
    let (_, cleared) = subscribe(Change::Clear, Change::Clear, HOUR).await;
    assert_eq!(cleared.retention, Retention::default());
    assert_eq!(cleared.terms.timeout, HOUR);
}

async fn a_subscription_is_found_by_its_subscriber(f: &Fixture) {
    f.subscribe("bob", &["b", "a"], |terms| terms.max = 7).await;
    f.subscribe("carol", &["a"], plain).await;
    f.publish("a", &["1", "2"]).await;
    for status in f.store.subscriptions().await.unwrap() {
        let found = f.store.subscription(&status.subscriber).await.unwrap();
        assert_eq!(found, Some(status));
    }
    assert_eq!(f.store.subscription(&client("alice")).await.unwrap(), None);
}

async fn an_unknown_topic_changes_nothing(f: &Fixture) {
    f.publish("a", &["0"]).await;
    let wanted = subscription(&["a", "unknown"], |terms| terms.max = 1);
    let unknown = Subscribed::UnknownTopic(topic("unknown"));
    let subscribed =
        f.store.subscribe(&client("alice"), &wanted.clone().into(), false).await.unwrap();
    assert_eq!(subscribed, unknown);
    assert_eq!(f.store.subscriptions().await.unwrap(), []);
    assert_eq!(f.store.topics().await.unwrap().len(), 1);

    f.subscribe("alice", &["a"], plain).await;
    f.publish("a", &["1"]).await;
    let before = f.status("alice").await;
    let subscribed =
        f.store.subscribe(&client("alice"), &wanted.clone().into(), false).await.unwrap();
    assert_eq!(subscribed, unknown);
    assert_eq!(f.status("alice").await, before);
    f.publish("a", &["2"]).await;
    assert_eq!(texts(&f.claim_one().await), ["1", "2"]);
}

/// Leaves a subscriber of `a` with low health and a batch that failed and is due after a pause.
async fn back_off(f: &Fixture, retry_in: Duration, change: impl FnOnce(&mut Terms)) {
    f.subscribe("alice", &["a"], change).await;
    f.publish("a", &["1"]).await;
    let leased = f.claim_one().await;
    let outcome = BatchOutcome::Failed { retry_in };
    let failed = BatchSettlement { health: Health::new(3), ..settlement(&leased.lease, outcome) };
    f.store.settle_one(failed, LEASE).await.unwrap();
}

/// The names of topics from one to another, which have letters only.
fn topic_names(from: u32, to: u32) -> Vec<String> {
    let letter = |digit: char| char::from(b'a' + digit as u8 - b'0');
    (from..to).map(|number| number.to_string().chars().map(letter).collect()).collect()
}

async fn nobody_has_more_topics_than_it_may(f: &Fixture) {
    use Published::TooManyTopics;
    f.subscribe("watcher", &["last", "more"], plain).await;
    f.publish("mine", &["1"]).await;
    let names = topic_names(0, MAX_TOPICS - 3);
    let group: Vec<_> = names.iter().map(|name| (PUBLISHER, name.as_str(), "1")).collect();
    let stored = f.publish_group(&group).await;
    assert!(stored.iter().all(|outcome| *outcome == STORED));
    // Two more fit, in one group with what does not.
    let group = [
        (PUBLISHER, "last", "1"),
        (PUBLISHER, "other", "1"),
        (PUBLISHER, "more", "2"),
        (PUBLISHER, "last", "3"),
        ("another", "more", "4"),
    ];
    let outcomes = f.publish_group(&group).await;
    assert_eq!(outcomes, [STORED, STORED, TooManyTopics, STORED, STORED]);
    assert_eq!(f.drain().await["watcher"], ["1", "3", "4"]);
    // One that is deleted makes room for another.
    assert_eq!(f.publish_group(&[(PUBLISHER, "new", "1")]).await, [TooManyTopics]);
    f.store.delete_topic(&topic("mine"), Some(&client(PUBLISHER))).await.unwrap();
    let outcomes = f.publish_group(&[(PUBLISHER, "new", "1"), (PUBLISHER, "newer", "1")]).await;
    assert_eq!(outcomes, [STORED, TooManyTopics]);
    assert_eq!(f.store.topics().await.unwrap().len(), MAX_TOPICS as usize + 1);
}

async fn topics_made_by_subscribing_count_until_somebody_publishes_to_them(f: &Fixture) {
    let names = topic_names(0, MAX_TOPICS - 1);
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    f.subscribe("alice", &names, plain).await;
    let request = subscription(&["one", "two"], plain).into();
    let subscribe =
        async |who: &str, create| f.store.subscribe(&client(who), &request, create).await.unwrap();
    assert_eq!(subscribe("alice", true).await, Subscribed::TooManyTopics);
    assert_eq!(f.status("alice").await.subscription.topics.len(), names.len(), "all as before");
    assert_eq!(subscribe("alice", false).await, Subscribed::UnknownTopic(topic("one")));
    assert_eq!(f.publish_group(&[("alice", "mine", "1")]).await, [STORED]);
    assert_eq!(f.publish_group(&[("alice", "mine_too", "1")]).await, [Published::TooManyTopics]);
    // One of her own making is hers already; what another one publishes to is not hers any more.
    assert_eq!(f.publish_group(&[("alice", names[0], "1")]).await, [STORED]);
    f.publish(names[1], &["1"]).await;
    f.publish(names[2], &["1"]).await;
    assert_eq!(subscribe("alice", true).await, Subscribed::Done);
    assert_eq!(subscribe("bob", true).await, Subscribed::Done);
    assert_eq!(f.publish_group(&[("alice", "mine_too", "1")]).await, [Published::TooManyTopics]);
    f.store.delete_topic(&topic("two"), None).await.unwrap();
    assert_eq!(f.publish_group(&[("alice", "mine_too", "1")]).await, [STORED]);
}

async fn the_same_body_again_has_no_effect(f: &Fixture) {
    // Neither on a batch that is backed off, nor on health;
    let body = |terms: &mut Terms| terms.uuid = Some("same".into());
    back_off(f, HOUR, body).await;
    let before = f.status("alice").await;
    f.subscribe("alice", &["a"], body).await;
    assert_eq!(f.status("alice").await, before);
    assert_due_after(f.claim_none().await, HOUR);
    f.store.unsubscribe(&client("alice")).await.unwrap();
    back_off(f, Duration::ZERO, body).await;
    f.subscribe("alice", &["a"], body).await;
    assert_eq!(f.claim_one().await.health, Health::new(3));
    f.store.unsubscribe(&client("alice")).await.unwrap();

    // nor on items that wait for their time, nor on a batch in flight.
    let waiting = |terms: &mut Terms| terms.timeout = HOUR;
    f.subscribe("alice", &["a"], waiting).await;
    f.publish("a", &["1"]).await;
    f.subscribe("alice", &["a"], waiting).await;
    assert_due_after(f.claim_none().await, HOUR);
    f.publish("a", &numbers(2, 100)).await;
    let leased = f.claim_one().await;
    f.subscribe("alice", &["a"], waiting).await;
    assert_due_after(f.claim_none().await, LEASE);
    assert_eq!(f.store.renew_all(&[leased.lease], LEASE).await.unwrap(), []);
}

async fn a_new_callback_starts_with_full_health_at_once_and_a_new_uuid_soon(f: &Fixture) {
    let secret = |terms: &mut Terms| terms.uuid = Some("old".into());
    let uuids: [fn(&mut Terms); 2] =
        [|terms| terms.uuid = Some("new".into()), |terms| terms.uuid = None];
    for change in uuids {
        back_off(f, HOUR, secret).await;
        f.subscribe("alice", &["a"], change).await;
        assert_due_after(f.claim_none().await, NEW_UUID_PAUSE);
        // However often it changes, that comes no earlier.
        f.subscribe("alice", &["a"], secret).await;
        assert_due_after(f.claim_none().await, NEW_UUID_PAUSE);
        assert_eq!(f.status("alice").await.health, Health::MAX);
        f.store.unsubscribe(&client("alice")).await.unwrap();
    }
    let elsewhere = |terms: &mut Terms| {
        terms.uuid = Some("old".into());
        terms.target = callback("https://elsewhere.example/");
    };
    back_off(f, HOUR, secret).await;
    f.subscribe("alice", &["a"], elsewhere).await;
    let leased = f.claim_one().await;
    assert_eq!(leased.health, Health::MAX);
    assert_eq!((texts(&leased), leased.batch.attempt), (vec!["1".to_owned()], 2));
    assert_eq!(leased.terms, subscription(&["a"], elsewhere).terms);
}

async fn a_new_uuid_during_a_delivery_keeps_full_health_when_that_ends(f: &Fixture) {
    for outcome in [BatchOutcome::Failed { retry_in: Duration::ZERO }, BatchOutcome::Acknowledged] {
        f.subscribe("alice", &["a"], |terms| terms.uuid = Some("old".into())).await;
        f.publish("a", &["1"]).await;
        let leased = f.claim_one().await;
        f.subscribe("alice", &["a"], |terms| terms.uuid = Some("new".into())).await;
        let ended =
            BatchSettlement { health: Health::new(3), ..settlement(&leased.lease, outcome) };
        f.store.settle_one(ended, LEASE).await.unwrap();
        assert_eq!(f.status("alice").await.health, Health::MAX, "{outcome:?}");
        // The next delivery counts again.
        f.publish("a", &["2"]).await;
        let next = f.claim_one().await;
        assert_eq!(next.health, Health::MAX);
        let failed = settlement(&next.lease, BatchOutcome::Failed { retry_in: HOUR });
        let failed = BatchSettlement { health: Health::new(98), ..failed };
        f.store.settle_one(failed, LEASE).await.unwrap();
        assert_eq!(f.status("alice").await.health, Health::new(98));
        assert!(f.store.unsubscribe(&client("alice")).await.unwrap());
    }
}

async fn another_timeout_or_max_leaves_health_and_pause_alone(f: &Fixture) {
    let other = |terms: &mut Terms| {
        terms.timeout = Duration::from_millis(1);
        terms.max = 1;
    };
    back_off(f, HOUR, plain).await;
    f.subscribe("alice", &["a"], other).await;
    assert_due_after(f.claim_none().await, HOUR);
    f.store.unsubscribe(&client("alice")).await.unwrap();
    back_off(f, Duration::ZERO, plain).await;
    f.subscribe("alice", &["a"], other).await;
    assert_eq!(f.claim_one().await.health, Health::new(3));
}

async fn unsubscribing_removes_the_queue(f: &Fixture) {
    f.subscribe("alice", &["a"], plain).await;
    f.subscribe("bob", &["a"], plain).await;
    f.publish("a", &["1"]).await;
    assert!(f.store.unsubscribe(&client("alice")).await.unwrap());
    assert!(!f.store.unsubscribe(&client("alice")).await.unwrap());
    assert!(!f.store.unsubscribe(&client("nobody")).await.unwrap());
    f.publish("a", &["2"]).await;
    let received = f.drain().await;
    assert_eq!(received.len(), 1);
    assert_eq!(received["bob"], ["1", "2"]);
    assert_eq!(f.store.subscriptions().await.unwrap().len(), 1);
    f.subscribe("alice", &["a"], plain).await;
    let status = f.status("alice").await;
    assert_eq!((status.sent, status.queued), (0, 0));
}

async fn leaving_one_topic_keeps_the_others_and_what_waits(f: &Fixture) {
    f.subscribe("alice", &["a", "b"], plain).await;
    f.publish("a", &["1"]).await;
    let leave = async |who: &str, name: &str| {
        f.store.unsubscribe_topic(&client(who), &topic(name)).await.unwrap()
    };
    assert!(leave("alice", "a").await);
    assert!(!leave("alice", "a").await);
    assert!(!leave("alice", "unknown").await);
    assert!(!leave("nobody", "b").await);
    f.publish("a", &["unwanted"]).await;
    f.publish("b", &["2"]).await;
    assert_eq!(f.status("alice").await.subscription, subscription(&["b"], plain));
    assert_eq!(f.drain().await["alice"], ["1", "2"]);
    assert!(leave("alice", "b").await);
    assert_eq!(f.status("alice").await.subscription, subscription(&[], plain));
}

async fn a_topic_is_deleted_by_its_publisher_or_by_root_only(f: &Fixture) {
    let delete = async |name: &str, owner: Option<&str>| {
        let owner = owner.map(client);
        f.store.delete_topic(&topic(name), owner.as_ref()).await.unwrap()
    };
    f.publish("a", &["1"]).await;
    f.publish("b", &["1"]).await;
    f.subscribe("alice", &["unclaimed"], plain).await;
    assert_eq!(delete("unknown", Some(PUBLISHER)).await, TopicDeleted::Unknown);
    assert_eq!(delete("unknown", None).await, TopicDeleted::Unknown);
    assert_eq!(delete("a", Some("another")).await, TopicDeleted::OwnedByAnother);
    assert_eq!(delete("unclaimed", Some("another")).await, TopicDeleted::OwnedByAnother);
    assert_eq!(f.store.topics().await.unwrap().len(), 3);
    assert_eq!(delete("a", Some(PUBLISHER)).await, TopicDeleted::Done);
    assert_eq!(delete("a", Some(PUBLISHER)).await, TopicDeleted::Unknown);
    assert_eq!(delete("b", None).await, TopicDeleted::Done);
    assert_eq!(delete("unclaimed", None).await, TopicDeleted::Done);
    assert_eq!(f.store.topics().await.unwrap(), []);
}

async fn a_deleted_topic_leaves_all_subscriptions_and_starts_anew(f: &Fixture) {
    f.subscribe("alice", &["a", "b"], plain).await;
    f.subscribe("bob", &["a"], plain).await;
    f.publish("a", &["1"]).await;
    assert_eq!(f.store.delete_topic(&topic("a"), None).await.unwrap(), TopicDeleted::Done);
    assert_eq!(f.status("alice").await.subscription, subscription(&["b"], plain));
    assert_eq!(f.status("bob").await.subscription, subscription(&[], plain));
    assert_eq!(f.publish_group(&[("another", "a", "2")]).await, [STORED]);
    let created = f.topic("a").await;
    assert_eq!((created.publisher, created.events), (Some(client("another")), 1));
    let received = f.drain().await;
    assert_eq!(
        (&received["alice"][..], &received["bob"][..]),
        (&numbers(1, 1)[..], &numbers(1, 1)[..])
    );
}

async fn api_tokens_are_added_renamed_deleted_and_sorted(f: &Fixture) {
    let token = |name: &str, token: &str| ApiToken::new(name.into(), client(token));
    assert_eq!(f.store.api_tokens().await.unwrap(), []);
    for added in [token("b", "b--2"), token("c", "c--1"), token("b", "b--1"), token("z", "a--1")] {
        f.store.add_api_token(&added).await.unwrap();
    }
    let sorted = [token("b", "b--1"), token("b", "b--2"), token("c", "c--1"), token("z", "a--1")];
    assert_eq!(f.store.api_tokens().await.unwrap(), sorted);
    f.store.add_api_token(&token("a", "c--1")).await.unwrap();
    f.store.delete_api_token(&client("b--1")).await.unwrap();
    f.store.delete_api_token(&client("unknown")).await.unwrap();
    let sorted = [token("a", "c--1"), token("b", "b--2"), token("z", "a--1")];
    assert_eq!(f.store.api_tokens().await.unwrap(), sorted);
    assert_eq!(f.open_another().api_tokens().await.unwrap(), sorted);
}

async fn a_store_that_works_answers_a_ping(f: &Fixture) {
    f.store.ping().await.unwrap();
    assert!(!f.store.describe().is_empty());
}
