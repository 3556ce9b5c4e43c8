//! Topics that keep their events: how much, in which order, and for whom they are delivered once more.

use std::collections::BTreeSet;
use std::time::Duration;

use super::fixture::{
    Fixture, HOUR, PUBLISHER, client, numbers, on_all_stores, on_both_stores, plain, subscription,
    text, texts, topic,
};
use crate::bus::item::{ItemParts, replayed};
use crate::bus::position::EventPosition;
use crate::bus::subscription::SubscriptionRequest;
use crate::bus::topic::{Keep, TopicName};
use crate::store::{Caught, KEPT_AT_ONCE, KeepSet, TopicDeleted};

on_all_stores!(
    what_topics_keep_is_read_in_the_order_of_publishing,
    what_is_old_or_too_much_is_forgotten,
    who_may_say_what_a_topic_keeps_and_how_much_all_may,
    what_is_kept_is_put_at_the_end_of_a_queue,
    a_topic_made_anew_has_kept_nothing,
    what_is_kept_takes_no_room_of_the_events,
);
on_both_stores!(a_subscription_that_begins_in_the_past_has_no_seam);

const PLENTY: Keep = Keep { age: HOUR, bytes: 10_000_000 };

async fn keep(f: &Fixture, name: &str, keep: Keep) {
    let set = f.store.keep(&topic(name), Some(keep), None, u64::MAX).await.unwrap();
    assert_eq!(set, KeepSet::Done);
    assert_eq!(f.topic(name).await.keep, Some(keep));
}

/// All that some topics have kept, read page by page.
async fn kept(f: &Fixture, names: &[&str]) -> Vec<String> {
    let topics: Vec<TopicName> = names.iter().map(|name| topic(name)).collect();
    let (mut after, mut all) = (EventPosition::BEFORE_ALL, Vec::new());
    loop {
        let page = f.store.kept_events(&topics, after).await.unwrap();
        let Some(last) = page.last() else { return all };
        assert!(page.len() <= KEPT_AT_ONCE && page[0].position > after);
        after = last.position;
        all.extend(page.iter().map(|queued| text(&queued.item)));
    }
}

async fn what_topics_keep_is_read_in_the_order_of_publishing(f: &Fixture) {
    for name in ["a", "b", "c"] {
        f.publish(name, &["before it kept anything"]).await;
    }
    assert_eq!(kept(f, &["a", "b", "c"]).await, [""; 0]);
    keep(f, "a", PLENTY).await;
    keep(f, "b", PLENTY).await;
    for n in 0..30 {
        let first = n * 50;
        f.publish(["a", "b", "c"][n as usize % 3], &numbers(first + 1, first + 50)).await;
    }
    let of_ab = (0..30).filter(|n| n % 3 < 2).flat_map(|n| numbers(n * 50 + 1, n * 50 + 50));
    assert_eq!(kept(f, &["b", "a", "c"]).await, of_ab.collect::<Vec<_>>(), "1,000 of 1,500");
    assert_eq!(kept(f, &["b"]).await.len(), 500);
    assert_eq!(kept(f, &["c", "unknown"]).await, [""; 0]);
    assert_eq!(kept(f, &[]).await, [""; 0]);
}

async fn what_is_old_or_too_much_is_forgotten(f: &Fixture) {
    f.publish("a", &["0"]).await;
    keep(f, "a", Keep { age: Duration::from_millis(900), ..PLENTY }).await;
    f.publish("a", &numbers(1, 10)).await;
    f.store.forget_kept().await.unwrap();
    assert_eq!(kept(f, &["a"]).await, numbers(1, 10));
    f.pass(Duration::from_millis(1000)).await;
    f.publish("a", &numbers(11, 12)).await;
    f.store.forget_kept().await.unwrap();
    assert_eq!(kept(f, &["a"]).await, numbers(11, 12), "the old ones are gone");

    keep(f, "a", Keep { bytes: 3_000, ..PLENTY }).await;
    f.publish("a", &numbers(13, 100)).await;
    f.store.forget_kept().await.unwrap();
    let left = kept(f, &["a"]).await;
    let oldest: usize = left[0].parse().unwrap();
    assert!((20..=80).contains(&left.len()), "about 3,000 bytes: {left:?}");
    assert_eq!((oldest + left.len() - 1, left.last().unwrap().as_str()), (100, "100"));

    f.store.keep(&topic("a"), None, None, 0).await.unwrap();
    f.publish("a", &["101"]).await;
    f.store.forget_kept().await.unwrap();
    assert_eq!(kept(f, &["a"]).await, [""; 0]);
    assert_eq!(f.topic("a").await.keep, None);

    keep(f, "a", PLENTY).await;
    f.publish("a", &numbers(1, 6_000)).await;
    keep(f, "a", Keep { bytes: 1, ..PLENTY }).await;
    let mut portions = 1;
    while f.store.forget_kept().await.unwrap() {
        portions += 1;
    }
    assert!((2..=6).contains(&portions), "in {portions} portions");
    assert_eq!(kept(f, &["a"]).await, [""; 0]);
}

async fn who_may_say_what_a_topic_keeps_and_how_much_all_may(f: &Fixture) {
    f.publish("a", &["1"]).await;
    f.publish("b", &["1"]).await;
    let set = async |name, bytes, owner: Option<&str>, all| {
        let keep = Some(Keep { bytes, ..PLENTY });
        f.store.keep(&topic(name), keep, owner.map(client).as_ref(), all).await.unwrap()
    };
    assert_eq!(set("unknown", 10, None, 100).await, KeepSet::UnknownTopic);
    assert_eq!(set("a", 10, Some("another"), 100).await, KeepSet::OwnedByAnother);
    assert_eq!(set("a", 101, Some(PUBLISHER), 100).await, KeepSet::NoRoom);
    assert_eq!(set("a", 60, Some(PUBLISHER), 100).await, KeepSet::Done);
    assert_eq!(set("b", 41, Some(PUBLISHER), 100).await, KeepSet::NoRoom);
    assert_eq!(set("b", 40, None, 100).await, KeepSet::Done);
    assert_eq!(set("a", 61, None, 100).await, KeepSet::NoRoom);
    assert_eq!(set("a", 59, None, 100).await, KeepSet::Done, "its own is not counted twice");
}

async fn what_is_kept_is_put_at_the_end_of_a_queue(f: &Fixture) {
    const IN_SEVERAL_LANES: [&str; 3] = ["alice", "bob", "carol"];
    f.publish("a", &["0"]).await;
    keep(f, "a", PLENTY).await;
    f.publish("a", &numbers(1, 3)).await;
    for subscriber in IN_SEVERAL_LANES {
        f.subscribe(subscriber, &["a"], plain).await;
    }
    f.publish("a", &["4"]).await;
    let all = f.store.kept_events(&[topic("a")], EventPosition::BEFORE_ALL).await.unwrap();
    for subscriber in IN_SEVERAL_LANES {
        let items = all[..3].iter().map(replayed).collect();
        assert!(f.store.replay(&client(subscriber), items).await.unwrap());
        assert!(f.store.replay(&client(subscriber), Vec::new()).await.unwrap());
    }
    assert!(!f.store.replay(&client("nobody"), Vec::new()).await.unwrap());
    for _ in IN_SEVERAL_LANES {
        let leased = f.claim_eventually().await;
        let parts: Vec<_> = leased.batch.items.iter().map(|q| ItemParts::of(&q.item)).collect();
        let told: Vec<_> = parts.iter().map(|parts| String::from_utf8_lossy(parts.json)).collect();
        assert_eq!(told, ["4", "1", "2", "3"]);
        let first = all.iter().map(|queued| queued.position);
        let of = parts.iter().map(|parts| parts.replay_of);
        assert!(of.eq([None].into_iter().chain(first.take(3).map(Some))));
        f.acknowledge_and_take(&leased.lease).await;
    }
}

async fn a_topic_made_anew_has_kept_nothing(f: &Fixture) {
    f.publish("a", &["0"]).await;
    keep(f, "a", PLENTY).await;
    f.publish("a", &["1"]).await;
    let deleted = f.store.delete_topic(&topic("a"), None).await.unwrap();
    assert_eq!(deleted, TopicDeleted::Done);
    f.publish("a", &["2"]).await;
    assert_eq!((f.topic("a").await.keep, kept(f, &["a"]).await.len()), (None, 0));
    keep(f, "a", PLENTY).await;
    f.publish("a", &["3"]).await;
    for _ in 0..2 {
        f.store.forget_kept().await.unwrap();
    }
    assert_eq!(kept(f, &["a"]).await, ["3"]);
}

async fn what_is_kept_takes_no_room_of_the_events(f: &Fixture) {
    f.publish("a", &["0"]).await;
    keep(f, "a", PLENTY).await;
    let before = f.store.usage(crate::store::Lane::HOME).await.unwrap();
    let text = "x".repeat(300);
    for _ in 0..50 {
        f.publish("a", &vec![text.as_str(); 100]).await;
    }
    let after = f.store.usage(crate::store::Lane::HOME).await.unwrap();
    let grown = after.used.saturating_sub(before.used);
    assert!(grown < 400_000, "{grown} bytes more of 1,500,000 that are kept");
}

async fn a_subscription_that_begins_in_the_past_has_no_seam(f: &Fixture) {
    f.publish("a", &["0"]).await;
    keep(f, "a", PLENTY).await;
    let many = KEPT_AT_ONCE as u32 * 2 + 10;
    f.publish("a", &numbers(1, many)).await;
    let request = SubscriptionRequest {
        topics: BTreeSet::new(),
        ..subscription(&["a"], |terms| terms.max = 10_000).into()
    };
    f.store.subscribe(&client("alice"), &request, false).await.unwrap();
    let from = async |subscriber, after| {
        f.store.subscribe_from(&client(subscriber), &[topic("a")], after).await.unwrap()
    };
    assert_eq!(from("nobody", EventPosition::BEFORE_ALL).await, Caught::Gone);
    let mut after = EventPosition::BEFORE_ALL;
    let mut published = many;
    let mut steps = 0;
    while let Caught::UpTo(position) = from("alice", after).await {
        after = position;
        published += 1;
        steps += 1;
        f.publish("a", &[published.to_string()]).await;
    }
    assert_eq!(steps, 2);
    f.publish("a", &[(published + 1).to_string()]).await;
    let mut got: Vec<String> = Vec::new();
    while got.len() <= published as usize {
        let leased = f.claim_eventually().await;
        got.extend(texts(&leased));
        f.acknowledge_and_take(&leased.lease).await;
    }
    assert_eq!(got, numbers(1, published + 1), "each once, in order");
}
