//! What a publication puts into which queues, in which order, and who may publish.

use bytes::Bytes;

use super::super::fixture::{
    Fixture, PUBLISHER, STORED, WholeStore, client, numbers, on_all_stores, on_both_stores, plain,
    publication, subscription, texts, topic,
};
use crate::store::Published::OwnedByAnother;
use crate::store::{Publication, Subscribed};

on_all_stores!(
    a_queue_keeps_the_order_of_publications_over_all_its_topics,
    a_group_of_publications_is_stored_in_its_order,
    an_array_is_stored_in_order_and_never_seen_in_part,
    an_item_comes_out_byte_for_byte,
    each_subscriber_of_the_topic_gets_the_item_once_and_nobody_else_does,
    a_subscription_gets_what_is_published_after_it_and_nothing_from_before,
    the_first_publication_makes_the_client_the_publisher,
    a_client_that_does_not_own_the_topic_stores_and_changes_nothing,
    the_first_client_of_a_group_gets_a_new_topic,
    a_topic_created_by_subscribing_belongs_to_its_first_publisher,
    topics_count_all_events_ever_received,
);

async fn a_queue_keeps_the_order_of_publications_over_all_its_topics(f: &Fixture) {
    f.subscribe("alice", &["a", "b"], |terms| terms.max = 7).await;
    for number in 0..30u32 {
        let topic = if number % 3 == 0 { "a" } else { "b" };
        f.publish(topic, &[number.to_string()]).await;
    }
    assert_eq!(f.drain().await["alice"], numbers(0, 29));
}

async fn a_group_of_publications_is_stored_in_its_order(f: &Fixture) {
    f.subscribe("alice", &["a", "b"], plain).await;
    f.subscribe("bob", &["b"], plain).await;
    let group = [
        publication("one", "a", &["1"]),
        publication("two", "b", &["2", "3"]),
        publication("one", "a", &["4"]),
        publication("two", "b", &["5"]),
    ];
    assert_eq!(f.store.publish_placeless(group.to_vec()).await.unwrap(), [STORED; 4]);
    let received = f.drain().await;
    assert_eq!(received["alice"], numbers(1, 5));
    assert_eq!(received["bob"], ["2", "3", "5"]);
}

async fn an_array_is_stored_in_order_and_never_seen_in_part(f: &Fixture) {
    const ITEMS: u32 = 9_000;
    f.subscribe("alice", &["a"], |terms| terms.max = 10_000).await;
    let store = f.store.clone();
    let publishing = tokio::spawn(async move {
        store
            .publish_placeless(vec![publication(PUBLISHER, "a", &numbers(1, ITEMS))])
            .await
            .unwrap()
    });
    // Looks all the time, so as to catch the queue half filled if that can be seen.
    let first = f.claim_eventually().await;
    assert_eq!(texts(&first), numbers(1, ITEMS));
    assert_eq!(publishing.await.unwrap(), [STORED]);
}

async fn an_item_comes_out_byte_for_byte(f: &Fixture) {
    f.subscribe("alice", &["a"], plain).await;
    let every_byte: Vec<u8> = (0..=255).collect();
    let items = vec![Bytes::from(every_byte), Bytes::new(), Bytes::from_static(b"\r\n")];
    let publication = Publication {
        topic: topic("a"),
        publisher: client(PUBLISHER),
        items: items.clone(),
        key: None,
    };
    assert_eq!(f.store.publish_placeless(vec![publication]).await.unwrap(), [STORED]);
    let given = f.claim_one().await.batch.items;
    assert_eq!(given.into_iter().map(|queued| queued.item).collect::<Vec<_>>(), items);
}

async fn each_subscriber_of_the_topic_gets_the_item_once_and_nobody_else_does(f: &Fixture) {
    f.subscribe("alice", &["a", "b"], plain).await;
    f.subscribe("bob", &["a"], plain).await;
    f.subscribe("carol", &["b"], plain).await;
    f.subscribe("dave", &[], plain).await;
    f.publish("a", &["1"]).await;
    let received = f.drain().await;
    assert_eq!(received.keys().collect::<Vec<_>>(), ["alice", "bob"]);
    assert_eq!(received["alice"], ["1"]);
    assert_eq!(received["bob"], ["1"]);
}

async fn a_subscription_gets_what_is_published_after_it_and_nothing_from_before(f: &Fixture) {
    f.publish("a", &["early"]).await;
    f.subscribe("alice", &["a"], plain).await;
    f.publish("a", &["late"]).await;
    assert_eq!(f.drain().await["alice"], ["late"]);
}

async fn the_first_publication_makes_the_client_the_publisher(f: &Fixture) {
    assert_eq!(f.publish_group(&[("one", "a", "1")]).await, [STORED]);
    assert_eq!(f.topic("a").await.publisher, Some(client("one")));
    assert_eq!(f.publish_group(&[("one", "a", "2")]).await, [STORED]);
    assert_eq!(f.publish_group(&[("two", "a", "3")]).await, [OwnedByAnother]);
    assert_eq!(f.topic("a").await.publisher, Some(client("one")));
}

async fn a_client_that_does_not_own_the_topic_stores_and_changes_nothing(f: &Fixture) {
    f.subscribe("alice", &["a", "b"], plain).await;
    f.publish_group(&[("one", "a", "1")]).await;
    let group = [("two", "a", "stolen"), ("one", "a", "2"), ("two", "b", "3"), ("two", "a", "x")];
    let published = f.publish_group(&group).await;
    assert_eq!(published, [OwnedByAnother, STORED, STORED, OwnedByAnother]);
    assert_eq!(f.drain().await["alice"], ["1", "2", "3"]);
    let (a, b) = (f.topic("a").await, f.topic("b").await);
    assert_eq!((a.publisher, a.events), (Some(client("one")), 2));
    assert_eq!((b.publisher, b.events), (Some(client("two")), 1));
}

async fn the_first_client_of_a_group_gets_a_new_topic(f: &Fixture) {
    let published = f.publish_group(&[("one", "a", "1"), ("two", "a", "2")]).await;
    assert_eq!(published, [STORED, OwnedByAnother]);
    let topic = f.topic("a").await;
    assert_eq!((topic.publisher, topic.events), (Some(client("one")), 1));
}

async fn a_topic_created_by_subscribing_belongs_to_its_first_publisher(f: &Fixture) {
    let wanted = subscription(&["a"], plain);
    let subscribed =
        f.store.subscribe(&client("alice"), &wanted.clone().into(), true).await.unwrap();
    assert_eq!(subscribed, Subscribed::Done);
    let topic = f.topic("a").await;
    assert_eq!((topic.publisher, topic.events), (None, 0));
    // Somebody may go on subscribing to it without that.
    let subscribed = f.store.subscribe(&client("bob"), &wanted.into(), false).await.unwrap();
    assert_eq!(subscribed, Subscribed::Done);

    let published = f.publish_group(&[("one", "a", "1"), ("two", "a", "2")]).await;
    assert_eq!(published, [STORED, OwnedByAnother]);
    assert_eq!(f.topic("a").await.publisher, Some(client("one")));
    assert_eq!(f.drain().await["bob"], ["1"]);
}

async fn topics_count_all_events_ever_received(f: &Fixture) {
    f.publish("b", &["1"]).await;
    f.subscribe("alice", &["b"], plain).await;
    f.publish("b", &["2", "3"]).await;
    f.publish("a", &["4"]).await;
    f.drain().await;
    let topics = f.store.topics().await.unwrap();
    let counts: Vec<_> = topics.iter().map(|topic| (topic.name.as_str(), topic.events)).collect();
    assert_eq!(counts, [("a", 1), ("b", 3)]);
}
