//! Message topics and publishers.

use std::time::Duration;

use super::fixture::{Fixture, client, on_all_stores, on_both_stores};
use crate::bus::message::{NewPublisher, NewTopic, PublisherChange, TargetKind};
use crate::store::{
    MessagePublisher, PublisherAdded, PublisherChanged, PublisherRemoved, TopicAdded, TopicRemoved,
};

on_all_stores!(
    topics_are_kept_as_they_were_asked_for,
    a_name_is_given_once,
    publishers_are_kept_as_they_were_asked_for,
    a_target_is_taken_once_for_a_topic,
    nobody_has_more_than_it_may,
    a_change_leaves_the_rest_alone,
    an_id_is_never_given_again,
    a_topic_with_publishers_goes_only_with_them,
);

fn topic(name: &str) -> NewTopic {
    let json = format!(r#"{{"name":"{name}","origin_host":"a.example","recovery_enabled":true}}"#);
    NewTopic::parse(json.as_bytes()).unwrap()
}

fn publisher(topic: &str, kind: &str, target: &str) -> NewPublisher {
    let json = format!(
        r#"{{"topic":"{topic}","type":"{kind}","target":"{target}","active":true,"from_now":false,
            "seconds_timeout":7,"seconds_retry":9,"chunk_size":3,"max_attempts":4}}"#
    );
    NewPublisher::parse(json.as_bytes()).unwrap()
}

async fn add(f: &Fixture, name: &str) -> u64 {
    match f.store.add_message_topic(&topic(name), &client("alice"), 100).await.unwrap() {
        TopicAdded::Added(id) => id,
        other => panic!("{name}: {other:?}"),
    }
}

async fn publish_to(f: &Fixture, topic: &str, kind: &str, target: &str) -> u64 {
    let new = publisher(topic, kind, target);
    match f.store.add_message_publisher(&new, &client("bob"), 100).await.unwrap() {
        PublisherAdded::Added(id) => id,
        other => panic!("{topic} {target}: {other:?}"),
    }
}

async fn only_publisher(f: &Fixture) -> MessagePublisher {
    let mut all = f.store.message_publishers().await.unwrap();
    assert_eq!(all.len(), 1, "{all:?}");
    all.remove(0)
}

async fn topics_are_kept_as_they_were_asked_for(f: &Fixture) {
    let before_ms = f.now_ms();
    let first = add(f, "some topic/ü").await;
    let second = add(f, "b").await;
    assert!(second > first);
    let all = f.store.message_topics().await.unwrap();
    assert_eq!(all.iter().map(|topic| topic.id).collect::<Vec<_>>(), [first, second]);
    assert_eq!((all[0].name.as_str(), &all[0].owner), ("some topic/ü", &client("alice")));
    assert_eq!((all[0].origin_host.as_str(), all[0].recovery_enabled), ("http://a.example/", true));
    assert!((before_ms..=f.now_ms()).contains(&all[0].made_ms), "{}", all[0].made_ms);
}

async fn a_name_is_given_once(f: &Fixture) {
    let id = add(f, "a").await;
    let again = f.store.add_message_topic(&topic("a"), &client("bob"), 100).await.unwrap();
    assert_eq!(again, TopicAdded::NameTaken);
    assert_eq!(f.store.remove_message_topic(id, false).await.unwrap(), TopicRemoved::Gone);
    assert_eq!(f.store.remove_message_topic(id, false).await.unwrap(), TopicRemoved::Unknown);
    assert!(add(f, "a").await > id);
}

async fn publishers_are_kept_as_they_were_asked_for(f: &Fixture) {
    let topic_id = add(f, "a").await;
    let id = publish_to(f, "a", "http", "b.example/x?y=z").await;
    let kept = only_publisher(f).await;
    assert_eq!((kept.id, kept.topic_id, kept.kind), (id, topic_id, TargetKind::Http));
    assert_eq!((kept.target.as_str(), kept.owner), ("http://b.example/x?y=z", client("bob")));
    assert!(!kept.from_now && kept.terms.active);
    let terms = publisher("a", "http", "b.example").terms;
    assert_eq!(kept.terms, terms);
    assert_eq!((terms.timeout.as_secs(), terms.max_attempts), (7, Some(4)));
}

async fn a_target_is_taken_once_for_a_topic(f: &Fixture) {
    add(f, "a").await;
    add(f, "b").await;
    publish_to(f, "a", "pubsub", "news").await;
    publish_to(f, "b", "pubsub", "news").await;
    let again = publisher("a", "pubsub", "news");
    let again = f.store.add_message_publisher(&again, &client("eve"), 100).await.unwrap();
    assert_eq!(again, PublisherAdded::Taken);
    // A URL of that name is another target.
    publish_to(f, "a", "http", "news").await;
    let nowhere = publisher("c", "pubsub", "news");
    let nowhere = f.store.add_message_publisher(&nowhere, &client("eve"), 100).await.unwrap();
    assert_eq!(nowhere, PublisherAdded::UnknownTopic);
}

async fn nobody_has_more_than_it_may(f: &Fixture) {
    let (alice, bob) = (client("alice"), client("bob"));
    for name in ["a", "b"] {
        f.store.add_message_topic(&topic(name), &alice, 2).await.unwrap();
    }
    let third = f.store.add_message_topic(&topic("c"), &alice, 2).await.unwrap();
    assert_eq!(third, TopicAdded::TooMany);
    let anothers = f.store.add_message_topic(&topic("c"), &bob, 2).await.unwrap();
    assert!(matches!(anothers, TopicAdded::Added(_)));
    let id = publish_to(f, "a", "pubsub", "one").await;
    let second = publisher("a", "pubsub", "two");
    let refused = f.store.add_message_publisher(&second, &bob, 1).await.unwrap();
    assert_eq!(refused, PublisherAdded::TooMany);
    f.store.remove_message_publisher(id).await.unwrap();
    let taken = f.store.add_message_publisher(&second, &bob, 1).await.unwrap();
    assert!(matches!(taken, PublisherAdded::Added(_)));
}

async fn a_change_leaves_the_rest_alone(f: &Fixture) {
    add(f, "a").await;
    let id = publish_to(f, "a", "http", "b.example").await;
    let before = only_publisher(f).await;
    let change = PublisherChange {
        target: Some("http://c.example/".into()),
        retry: Some(Duration::from_secs(60)),
        ..PublisherChange::default()
    };
    let changed = f.store.change_message_publisher(id, &change).await.unwrap();
    assert_eq!(changed, PublisherChanged::Changed);
    let after = only_publisher(f).await;
    let terms = change.applied_to(before.terms);
    assert_eq!(after, MessagePublisher { target: "http://c.example/".into(), terms, ..before });
    // Its own target is no other one's; the one that it had is free.
    let same = f.store.change_message_publisher(id, &change).await.unwrap();
    assert_eq!(same, PublisherChanged::Changed);
    let other = publish_to(f, "a", "http", "b.example").await;
    let taken = f.store.change_message_publisher(other, &change).await.unwrap();
    assert_eq!(taken, PublisherChanged::Taken);
    let unknown = f.store.change_message_publisher(other + 1, &change).await.unwrap();
    assert_eq!(unknown, PublisherChanged::Unknown);
}

async fn an_id_is_never_given_again(f: &Fixture) {
    add(f, "a").await;
    let id = publish_to(f, "a", "pubsub", "news").await;
    let remove = async |id: u64| f.store.remove_message_publisher(id).await.unwrap();
    assert_eq!(remove(id + 1).await, PublisherRemoved::Unknown);
    assert_eq!(remove(0).await, PublisherRemoved::Unknown);
    assert_eq!(remove(id).await, PublisherRemoved::Gone);
    assert_eq!(remove(id).await, PublisherRemoved::WasGone);
    assert!(publish_to(f, "a", "pubsub", "news").await > id);
    assert_eq!(remove(id).await, PublisherRemoved::WasGone);
}

async fn a_topic_with_publishers_goes_only_with_them(f: &Fixture) {
    let id = add(f, "a").await;
    add(f, "b").await;
    publish_to(f, "a", "pubsub", "news").await;
    let others = publish_to(f, "b", "pubsub", "news").await;
    assert_eq!(f.store.remove_message_topic(id, false).await.unwrap(), TopicRemoved::HasPublishers);
    assert_eq!(f.store.remove_message_topic(id, true).await.unwrap(), TopicRemoved::Gone);
    assert_eq!(only_publisher(f).await.id, others);
    // What the topic had is free for one of its name.
    add(f, "a").await;
    publish_to(f, "a", "pubsub", "news").await;
}
