//! What the Redis store does when Redis goes away, hangs, forgets its scripts or cuts
//! connections: it answers in bounded time and heals by itself.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::fixture::{
    Fixture, HOUR, LEASE, PUBLISHER, STORED, WholeStore, client, numbers, plain, publication,
    settlement, subscription, texts,
};
use super::redis_server::RedisServer;
use crate::bus::tally::{Span, Subject, Tally};
use crate::store::{
    BatchOutcome, BatchSettled, IMPORT_MEMORY, Lane, Portion, QueueLease, Store, StoreError,
    StoreResult,
};

/// How late an answer may come.
const BOUND: Duration = Duration::from_secs(5);

/// Makes every call at the same time; each has to say that the store is not available.
async fn assert_unavailable(store: &Arc<dyn Store>) {
    fn unavailable<T: std::fmt::Debug>(call: &str, result: StoreResult<T>) {
        assert!(matches!(result, Err(StoreError::Unavailable(_))), "{call}: {result:?}");
    }
    let lease = QueueLease { subscriber: client("alice"), queue: "q".into(), fence: 1 };
    let leases = std::slice::from_ref(&lease);
    let start = Instant::now();
    let (alice, wanted) = (client("alice"), subscription(&["a"], plain));
    tokio::join!(
        async {
            unavailable(
                "publish",
                store.publish_placeless(vec![publication("p", "a", &["x"])]).await,
            )
        },
        async { unavailable("subscribe", store.subscribe(&alice, &wanted.into(), true).await) },
        async { unavailable("unsubscribe", store.unsubscribe(&alice).await) },
        async { unavailable("topics", store.topics().await) },
        async { unavailable("subscriptions", store.subscriptions().await) },
        async { unavailable("api_tokens", store.api_tokens().await) },
        async { unavailable("ping", store.ping().await) },
        async { unavailable("claim", store.claim_all(1, LEASE).await) },
        async {
            let settlement = settlement(&lease, BatchOutcome::Acknowledged);
            unavailable("settle", store.settle_one(settlement, LEASE).await);
        },
        async { unavailable("renew", store.renew_all(leases, LEASE).await) },
    );
    assert!(start.elapsed() < BOUND, "the answers took {:?}", start.elapsed());
}

async fn works_again(f: &Fixture) {
    f.eventually("the store works again", async || f.store.ping().await.ok()).await;
    f.subscribe("zoe", &["healed"], plain).await;
    f.publish("healed", &["1"]).await;
    assert_eq!(f.drain().await["zoe"], ["1"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_crashed_server_is_unavailable_in_bounded_time_and_found_again() {
    let mut f = Fixture::redis();
    works_again(&f).await;
    f.server().kill();
    assert_unavailable(&f.store).await;
    f.server().restart();
    works_again(&f).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hanging_server_is_unavailable_in_bounded_time_and_found_again() {
    let mut f = Fixture::redis();
    works_again(&f).await;
    f.server().pause();
    assert_unavailable(&f.store).await;
    f.server().resume();
    // What was sent into the hanging connection may still have been done; that is allowed.
    f.eventually("the store works again", async || f.store.ping().await.ok()).await;
    f.server().command(&["FLUSHALL"]).unwrap();
    works_again(&f).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_store_opened_while_the_server_is_away_works_once_it_is_there() {
    let mut f = Fixture::redis();
    f.server().stop();
    f.reopen();
    assert_unavailable(&f.store).await;
    f.server().restart();
    works_again(&f).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn with_an_append_only_file_what_was_answered_survives_a_crash() {
    let mut f = Fixture::on_redis(RedisServer::start_with_aof());
    f.subscribe("alice", &["a"], |terms| terms.max = 2).await;
    f.publish("a", &numbers(1, 5)).await;
    let leased = f.claim_one().await;
    f.settle(&leased.lease, BatchOutcome::Acknowledged).await;
    let held = f.claim_one().await;
    let (topics, status) = (f.store.topics().await.unwrap(), f.status("alice").await);

    f.server().restart();
    f.eventually("the store works again", async || f.store.ping().await.ok()).await;
    assert_eq!(f.store.topics().await.unwrap(), topics);
    assert_eq!(f.status("alice").await, status);
    assert_eq!(f.store.renew_all(std::slice::from_ref(&held.lease), LEASE).await.unwrap(), []);
    f.settle(&held.lease, BatchOutcome::Acknowledged).await;
    assert_eq!(f.drain().await["alice"], ["5"]);
}

/// The server's clock cannot be set here. What it leaves behind when it is set back can: times
/// that lie in the future.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_clock_that_is_set_back_holds_nothing_up() {
    let mut f = Fixture::redis();
    f.subscribe("alice", &["a"], plain).await;
    f.publish("a", &["1"]).await;
    let later = (f.now_ms() + HOUR.as_millis() as u64).to_string();
    f.server().command(&["ZADD", "rm:{0}:due", &later, "alice"]).unwrap();
    f.claim_none().await;
    f.server().command(&["SET", "rm:{0}:clock", &later]).unwrap();
    let leased = f.claim_eventually().await;
    assert_eq!(texts(&leased), ["1"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_event_is_younger_than_the_clock_says_after_it_was_set_back() {
    let mut f = Fixture::redis();
    f.subscribe("alice", &["a"], plain).await;
    let later_us = (f.now_ms() + HOUR.as_millis() as u64) * 1000;
    f.server().command(&["SET", "rm:{0}:last_event", &later_us.to_string()]).unwrap();
    let before_ms = f.now_ms();
    f.publish("a", &["1"]).await;
    let oldest_ms = f.status("alice").await.oldest_ms.unwrap();
    assert!((before_ms..=f.now_ms()).contains(&oldest_ms), "{oldest_ms}, since {before_ms}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_imported_is_forgotten_after_its_time_or_with_its_queue() {
    let mut f = Fixture::redis();
    f.subscribe("alice", &["a"], plain).await;
    let portion = Portion { batch: "x".into(), created_ms: 0, from: 0, entries: 1, items: vec![] };
    f.store.import_batches(&client("alice"), vec![portion]).await.unwrap();
    let key = "rm:{0}:imported:alice";
    let ttl: u128 = f.server().command(&["PTTL", key]).unwrap().parse().unwrap();
    let memory = IMPORT_MEMORY.as_millis();
    assert!((memory - 60_000..=memory).contains(&ttl), "{ttl}");
    assert!(f.store.unsubscribe(&client("alice")).await.unwrap());
    assert_eq!(f.server().command(&["EXISTS", key]).unwrap(), "0");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn scripts_that_the_server_forgot_are_loaded_again() {
    let mut f = Fixture::redis();
    f.server().command(&["SCRIPT", "FLUSH"]).unwrap();
    f.subscribe("alice", &["a"], plain).await;
    f.server().command(&["SCRIPT", "FLUSH"]).unwrap();
    f.publish("a", &["1"]).await;
    f.server().command(&["SCRIPT", "FLUSH"]).unwrap();
    let leased = f.claim_one().await;
    assert_eq!(texts(&leased), ["1"]);
    f.server().command(&["SCRIPT", "FLUSH"]).unwrap();
    f.settle(&leased.lease, BatchOutcome::Acknowledged).await;
    f.server().command(&["SCRIPT", "FLUSH"]).unwrap();
    assert_eq!(f.status("alice").await.sent, 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_publication_whose_answer_was_lost_is_stored_once() {
    const ROUNDS: u32 = 5;
    let mut f = Fixture::redis();
    f.subscribe("alice", &["a"], plain).await;
    for number in numbers(1, ROUNDS) {
        let mut killer = f.server().connect().unwrap();
        killer.command(&["PING"]).unwrap();
        // When the server goes on, it finds both commands waiting: it does the first one, and
        // the second one cuts the connection before the answer to the first is written.
        f.server().pause();
        let store = f.store.clone();
        let publishing = tokio::spawn(async move {
            store.publish_placeless(vec![publication(PUBLISHER, "a", &[number])]).await
        });
        tokio::time::sleep(Duration::from_millis(50)).await;
        killer.send(&["CLIENT", "KILL", "TYPE", "normal"]).unwrap();
        f.server().resume();
        assert_eq!(publishing.await.unwrap().unwrap(), [STORED]);
    }
    // Connections that were cut while nothing was asked over them are found out by the next question.
    f.eventually("all connections are back", async || f.store.due_batches(LEASE).await.ok()).await;
    let claim = async || f.store.claim_all(1, LEASE).await.ok()?.batches.pop();
    let leased = f.eventually("the queue is due", claim).await;
    assert_eq!(texts(&leased), numbers(1, ROUNDS));
    assert_eq!(f.topic("a").await.events, u64::from(ROUNDS));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn publications_over_connections_that_are_cut_stay_in_order_and_single() {
    const PUBLICATIONS: u32 = 300;
    let mut f = Fixture::redis();
    f.subscribe("alice", &["a"], |terms| terms.max = 10_000).await;
    let store = f.store.clone();
    let publishing = tokio::spawn(async move {
        let (mut stored, mut unknown) = (Vec::new(), Vec::new());
        for number in numbers(1, PUBLICATIONS) {
            match store.publish_placeless(vec![publication(PUBLISHER, "a", &[&number])]).await {
                Ok(published) => {
                    assert_eq!(published, [STORED]);
                    stored.push(number);
                }
                Err(_) => unknown.push(number),
            }
        }
        (stored, unknown)
    });
    let mut cuts = 0;
    while !publishing.is_finished() {
        f.server().command(&["CLIENT", "KILL", "TYPE", "normal"]).unwrap();
        cuts += 1;
        tokio::time::sleep(Duration::from_millis(30)).await;
    }
    let (stored, unknown) = publishing.await.unwrap();
    let received = f.claim_eventually().await;
    let mut received = texts(&received);
    assert!(cuts > 1 && !stored.is_empty(), "{cuts} cuts, {} stored", stored.len());
    // What was not answered for may be there or not.
    received.retain(|number| !unknown.contains(number));
    assert_eq!(received, stored);
}

/// Subscribers for all of the lanes that [`Fixture::redis_in_lanes`] has, most likely.
const IN_ALL_LANES: [&str; 12] = ["a", "b", "c", "d", "e", "f", "g", "h", "i", "j", "k", "l"];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_lost_its_data_gets_its_number_of_lanes_back() {
    let mut f = Fixture::redis_in_lanes();
    f.publish("a", &["lost"]).await;
    f.server().command(&["FLUSHALL"]).unwrap();
    f.publish("a", &["0"]).await;
    for subscriber in IN_ALL_LANES {
        f.subscribe(subscriber, &["a"], plain).await;
    }
    // One that is not told how many there are, and asks the store.
    f.reopen();
    f.publish("a", &["1"]).await;
    let received = f.drain().await;
    assert_eq!(received.len(), IN_ALL_LANES.len());
    assert!(received.values().all(|texts| *texts == ["1"]), "{received:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn processes_that_disagree_about_the_lanes_do_not_publish_past_each_other() {
    let mut f = Fixture::redis_in_lanes();
    f.publish("a", &["lost"]).await;
    f.server().command(&["FLUSHALL"]).unwrap();
    let other = f.open_another();
    let published = other.publish_placeless(vec![publication(PUBLISHER, "a", &["1"])]).await;
    assert_eq!(published.unwrap(), [STORED]);
    let refused = f.store.publish_placeless(vec![publication(PUBLISHER, "a", &["2"])]).await;
    let error = refused.unwrap_err();
    assert!(matches!(error, StoreError::Corrupt(_)), "{error:?}");
    assert!(error.to_string().contains("ROUTEMASTER_REDIS_LANES"), "{error}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_an_older_program_wrote_is_brought_up_to_date() {
    let mut f = Fixture::redis_in_lanes();
    for subscriber in IN_ALL_LANES {
        f.subscribe(subscriber, &["a"], plain).await;
    }
    f.server().command(&["DEL", "rm:{0}:format"]).unwrap();
    for (lane, subscriber) in (0..5).flat_map(|lane| IN_ALL_LANES.map(|name| (lane, name))) {
        let key = format!("rm:{{{lane}}}:subscriber:{subscriber}");
        if f.server().command(&["EXISTS", &key]).unwrap() == "1" {
            f.server().command(&["HSET", &key, "held", "1"]).unwrap();
        }
    }
    f.reopen();
    // Whatever is asked: they keep a pause, so publishing does not make them due.
    f.publish("a", &["1"]).await;
    assert_eq!(f.claim_none().await, None);
    assert_eq!(f.server().command(&["GET", "rm:{0}:format"]).unwrap(), "3");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_newer_program_wrote_is_left_alone_with_a_sentence() {
    let mut f = Fixture::redis();
    f.publish("a", &["1"]).await;
    f.server().command(&["SET", "rm:{0}:format", "4"]).unwrap();
    f.reopen();
    let error = f.store.topics().await.err();
    assert!(error.is_none(), "topics need no lanes: {error:?}");
    let refused = f.store.publish_placeless(vec![publication(PUBLISHER, "a", &["2"])]).await;
    let error = refused.unwrap_err();
    assert!(matches!(error, StoreError::Corrupt(_)), "{error:?}");
    assert!(error.to_string().contains("run the newer program"), "{error}");
}

/// Subscribes some that are not in the home lane to a topic that there is.
async fn subscribe_in_other_lanes(f: &mut Fixture, topic: &str) -> Vec<&'static str> {
    let mut others = vec![];
    for name in IN_ALL_LANES {
        f.subscribe(name, &[topic], plain).await;
        match f.server().command(&["SISMEMBER", "rm:{0}:subscribers", name]).unwrap().as_str() {
            "0" => others.push(name),
            _ => assert!(f.store.unsubscribe(&client(name)).await.unwrap()),
        }
    }
    assert!(!others.is_empty());
    others
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_deletion_that_has_not_come_to_a_lane_yet_holds_there() {
    let mut f = Fixture::redis_in_lanes();
    f.publish("a", &["old"]).await;
    let others = subscribe_in_other_lanes(&mut f, "a").await;
    // What a deletion does first.
    let birth: u64 = f.server().command(&["HGET", BIRTHS, "a"]).unwrap().parse().unwrap();
    lose_topic(&mut f, "a");
    f.server().command(&["SET", "rm:{0}:deleted:a", &(birth + 1).to_string()]).unwrap();
    assert_eq!(f.publish_group(&[("another", "a", "new")]).await, [STORED]);
    assert_eq!(f.drain().await, BTreeMap::new());
    let subscriptions = f.store.subscriptions().await.unwrap();
    assert_eq!(subscriptions.len(), others.len());
    assert!(subscriptions.iter().all(|status| status.subscription.topics.is_empty()));

    f.subscribe(others[0], &["a"], plain).await;
    assert_eq!(f.publish_group(&[("another", "a", "newer")]).await, [STORED]);
    let newer = BTreeMap::from([(others[0].into(), vec!["newer".into()])]);
    assert_eq!(f.drain().await, newer);

    // As if it had been published to the old one, and was on its way since then.
    f.server().command(&["HSET", BIRTHS, "a", &birth.to_string()]).unwrap();
    f.publish_group(&[("another", "a", "late")]).await;
    assert_eq!(f.drain().await, BTreeMap::new());
}

const BIRTHS: &str = "rm:{0}:births";

/// Takes a topic out of the home lane, and nothing else.
fn lose_topic(f: &mut Fixture, topic: &str) {
    for key in ["rm:{0}:topics", BIRTHS, "rm:{0}:events"] {
        assert_eq!(f.server().command(&["HDEL", key, topic]).unwrap(), "1");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn subscriptions_hold_when_the_home_lane_alone_lost_its_data() {
    let mut f = Fixture::redis_in_lanes();
    f.publish("a", &["old"]).await;
    let others = subscribe_in_other_lanes(&mut f, "a").await;
    let each_gets = |text: &str| -> BTreeMap<String, Vec<String>> {
        others.iter().map(|name| ((*name).to_owned(), vec![text.to_owned()])).collect()
    };
    // A part of it, as when a replica takes over that did not have the last of it.
    lose_topic(&mut f, "a");
    f.server().command(&["SET", "rm:{0}:last_birth", "1"]).unwrap();
    f.publish("a", &["new"]).await;
    assert_eq!(f.drain().await, each_gets("new"));
    // All.
    for key in f.server().command(&["KEYS", "rm:{0}:*"]).unwrap().lines() {
        f.server().command(&["DEL", key]).unwrap();
    }
    f.publish("a", &["newer"]).await;
    assert_eq!(f.drain().await, each_gets("newer"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_claim_whose_answer_was_lost_holds_up_nobody() {
    let mut f = Fixture::redis();
    f.publish("a", &["lost"]).await;
    f.subscribe("alice", &["a"], plain).await;
    f.subscribe("bob", &["a"], plain).await;
    f.publish("a", &["1"]).await;
    let answered = f.claim(1).await.batches;
    assert_eq!(answered.len(), 1);
    f.server().pause();
    assert!(f.store.claim_queues(Lane::HOME, 1, HOUR).await.is_err());
    f.server().resume();
    let give_up = Instant::now() + BOUND;
    for key in ["rm:{0}:subscriber:alice", "rm:{0}:subscriber:bob"] {
        while f.server().command(&["HGET", key, "leased"]).unwrap() != "1" {
            assert!(Instant::now() < give_up, "Redis does the claim in the end");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }
    // Not what an answered claim leased, and as if nothing had been tried yet.
    let again = f.claim(10).await.batches;
    assert_eq!(again.len(), 1);
    assert_ne!(again[0].lease.subscriber, answered[0].lease.subscriber);
    assert_eq!((texts(&again[0]), again[0].batch.attempt), (vec!["1".to_owned()], 1));
    assert!(matches!(
        f.settle(&answered[0].lease, BatchOutcome::Acknowledged).await,
        BatchSettled::Released
    ));
}

#[tokio::test]
async fn what_was_counted_expires_by_itself() {
    let mut f = Fixture::redis();
    let (at_ms, tally) = (f.now_ms(), Tally { volume: 1, ..Tally::default() });
    f.store.add_tallies(at_ms, vec![(Subject::Bus, tally)]).await.unwrap();
    for span in Span::ALL {
        let key = format!("rm:{{0}}:tally:{}:{}", span.length_ms(), span.start_of(at_ms));
        let left: u64 = f.server().command(&["PTTL", &key]).unwrap().parse().unwrap();
        let kept = span.kept() * span.length_ms();
        assert!((kept - 60_000..=kept).contains(&left), "{key}: {left}");
    }
}
