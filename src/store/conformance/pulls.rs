//! Pulling: who asks for its batches gets them in order, one at a time, and whoever waits is woken.

use std::time::Duration;

use super::fixture::{
    Fixture, HOUR, SHORT_LEASE, client, numbers, on_all_stores, on_both_stores, plain, texts,
};
use crate::bus::batch::BatchId;
use crate::bus::pause::PausedBy;
use crate::bus::position::EventPosition;
use crate::bus::subscription::Target;
use crate::store::{BatchOutcome, LeasedBatch, PullRequest, Pulled, PulledBatch, Skip};

on_all_stores!(
    a_pulled_batch_stays_the_same_until_it_is_acknowledged,
    a_stale_acknowledgement_changes_nothing,
    no_worker_gets_what_is_pulled,
    whoever_waits_is_woken_by_any_process,
    a_subscriber_may_go_over_from_being_sent_to_pulling_and_back,
    an_abandoned_batch_can_be_dropped_and_skipped,
);

/// Subscribers that are in several lanes where there are some.
const IN_SEVERAL_LANES: [&str; 3] = ["alice", "bob", "carol"];

async fn pull(f: &Fixture, subscriber: &str, request: PullRequest) -> Pulled {
    f.store.pull(&client(subscriber), &request).await.unwrap()
}

fn of(lease: Duration) -> PullRequest {
    PullRequest { acknowledge: None, max: 100, lease }
}

fn after(batch: &BatchId) -> PullRequest {
    PullRequest { acknowledge: Some(batch.clone()), ..of(HOUR) }
}

async fn pulled(f: &Fixture, subscriber: &str, request: PullRequest) -> LeasedBatch {
    match pull(f, subscriber, request).await {
        Pulled::Batch(leased) => *leased,
        other => panic!("no batch: {other:?}"),
    }
}

async fn a_pulled_batch_stays_the_same_until_it_is_acknowledged(f: &Fixture) {
    for subscriber in IN_SEVERAL_LANES {
        f.subscribe(subscriber, &["a"], |terms| (terms.target, terms.max) = (Target::Pull, 3))
            .await;
    }
    f.publish("a", &numbers(1, 8)).await;
    for subscriber in IN_SEVERAL_LANES {
        let first = pulled(f, subscriber, PullRequest { max: 2, ..of(SHORT_LEASE) }).await;
        assert_eq!((texts(&first), first.batch.attempt), (numbers(1, 2), 1));
        let out = pull(f, subscriber, of(HOUR)).await;
        assert!(matches!(out, Pulled::Out(left) if left <= SHORT_LEASE), "{out:?}");
        f.publish("a", &["9"]).await;
        f.pass(SHORT_LEASE * 2).await;
        let again = pulled(f, subscriber, of(HOUR)).await;
        assert_eq!((&again.batch.id, again.batch.attempt), (&first.batch.id, 2));
        assert_eq!(texts(&again), numbers(1, 2));
        let released = f.store.release_pulled(&client(subscriber), &again.batch.id).await;
        assert_eq!(released.unwrap(), PulledBatch::Done { events: 2, attempt: 2 });
        assert_eq!(pulled(f, subscriber, of(HOUR)).await.batch.attempt, 3);
        let next = pulled(f, subscriber, after(&first.batch.id)).await;
        assert_eq!((texts(&next), next.batch.attempt), (numbers(3, 5), 1));
        let done = f.store.acknowledge_pulled(&client(subscriber), &next.batch.id).await;
        assert_eq!(done.unwrap(), PulledBatch::Done { events: 3, attempt: 1 });
        let status = f.status(subscriber).await;
        assert_eq!((status.sent, status.progress.batch), (5, None));
    }
}

async fn a_stale_acknowledgement_changes_nothing(f: &Fixture) {
    f.subscribe("alice", &["a"], |terms| (terms.target, terms.max) = (Target::Pull, 1)).await;
    f.publish("a", &numbers(1, 3)).await;
    let first = pulled(f, "alice", of(HOUR)).await;
    let other = BatchId { queue: "another".into(), number: first.batch.id.number };
    assert!(matches!(pull(f, "alice", after(&other)).await, Pulled::Stale));
    let second = pulled(f, "alice", after(&first.batch.id)).await;
    assert!(matches!(pull(f, "alice", after(&first.batch.id)).await, Pulled::Stale));
    let alice = client("alice");
    for stale in [&first.batch.id, &other] {
        let done = f.store.acknowledge_pulled(&alice, stale).await.unwrap();
        assert_eq!(done, PulledBatch::Stale);
        assert_eq!(f.store.release_pulled(&alice, stale).await.unwrap(), PulledBatch::Stale);
    }
    assert!(matches!(pull(f, "alice", of(HOUR)).await, Pulled::Out(_)));
    assert_eq!(texts(&pulled(f, "alice", after(&second.batch.id)).await), ["3"]);
    assert!(matches!(pull(f, "nobody", of(HOUR)).await, Pulled::NoPullQueue));
}

async fn no_worker_gets_what_is_pulled(f: &Fixture) {
    for subscriber in IN_SEVERAL_LANES {
        f.subscribe(subscriber, &["a"], |terms| (terms.target, terms.max) = (Target::Pull, 1))
            .await;
    }
    f.publish("a", &numbers(1, 3)).await;
    assert_eq!(f.claim_none().await, None);
    let first = pulled(f, "alice", of(SHORT_LEASE)).await;
    assert_eq!(f.claim_none().await, None);
    f.pass(SHORT_LEASE * 2).await;
    assert_eq!(f.claim_none().await, None, "nor when its lease is over");
    assert_eq!(f.store.due_batches(HOUR).await.unwrap(), 0);
    assert!(f.store.pause(&client("alice"), PausedBy::Root).await.unwrap());
    assert!(matches!(pull(f, "alice", of(HOUR)).await, Pulled::Paused));
    assert!(f.store.resume(&client("alice")).await.unwrap());
    assert_eq!(f.claim_none().await, None);
    f.store.retry_now(&client("alice")).await.unwrap();
    assert_eq!(f.claim_none().await, None);
    assert_eq!(pulled(f, "alice", of(HOUR)).await.batch.id, first.batch.id);
}

async fn whoever_waits_is_woken_by_any_process(f: &Fixture) {
    let other = f.open_another();
    for subscriber in IN_SEVERAL_LANES {
        f.subscribe(subscriber, &["a"], |terms| terms.target = Target::Pull).await;
    }
    f.store.arrivals();
    // Those who listen to other processes need a moment for it.
    f.eventually("it is heard", async || {
        let arrival = f.store.arrivals().listen(&client("alice"));
        let came = arrival.next();
        let published = super::fixture::publication("publisher", "a", &["x"]);
        other.publish(vec![published], super::fixture::soon()).await.unwrap();
        let heard = tokio::time::timeout(Duration::from_millis(500), came).await.is_ok();
        let all = pulled(f, "alice", of(HOUR)).await;
        f.store.acknowledge_pulled(&client("alice"), &all.batch.id).await.unwrap();
        heard.then_some(())
    })
    .await;
    for subscriber in IN_SEVERAL_LANES.into_iter().skip(1) {
        let given = pulled(f, subscriber, of(HOUR)).await;
        f.store.acknowledge_pulled(&client(subscriber), &given.batch.id).await.unwrap();
    }
    let arrivals = IN_SEVERAL_LANES.map(|name| f.store.arrivals().listen(&client(name)));
    let came: Vec<_> = arrivals.iter().map(|arrival| arrival.next()).collect();
    f.publish("a", &["2"]).await;
    for one in came {
        tokio::time::timeout(Duration::from_secs(5), one).await.expect("it is woken");
    }
}

async fn a_subscriber_may_go_over_from_being_sent_to_pulling_and_back(f: &Fixture) {
    f.subscribe("alice", &["a"], |terms| terms.max = 1).await;
    f.publish("a", &numbers(1, 3)).await;
    let sent = f.claim_one().await;
    f.settle(&sent.lease, BatchOutcome::Failed { retry_in: Duration::ZERO }).await;
    f.subscribe("alice", &["a"], |terms| (terms.target, terms.max) = (Target::Pull, 1)).await;
    f.claim_none().await;
    let given = pulled(f, "alice", of(HOUR)).await;
    assert_eq!((given.batch.id, given.batch.attempt), (sent.batch.id, 2));
    f.subscribe("alice", &["a"], |terms| terms.max = 1).await;
    let sent = f.claim_eventually().await;
    assert_eq!(sent.batch.attempt, 3);
    assert!(matches!(pull(f, "alice", of(HOUR)).await, Pulled::NoPullQueue));
    f.settle(&sent.lease, BatchOutcome::Acknowledged).await;
    assert_eq!(f.drain().await["alice"], numbers(2, 3));
}

async fn an_abandoned_batch_can_be_dropped_and_skipped(f: &Fixture) {
    f.subscribe("alice", &["a"], |terms| (terms.target, terms.max) = (Target::Pull, 2)).await;
    f.subscribe("bob", &["b"], plain).await;
    f.publish("a", &numbers(1, 5)).await;
    let given = pulled(f, "alice", of(SHORT_LEASE)).await;
    let skipped = f.store.skip(&client("alice"), Skip::Batch(given.batch.id.number)).await.unwrap();
    assert_eq!(skipped, crate::store::Skipped::Done { events: 2, has_more: false });
    let next = pulled(f, "alice", of(SHORT_LEASE)).await;
    assert_eq!(texts(&next), numbers(3, 4));
    f.pass(SHORT_LEASE * 2).await;
    for lane in crate::store::Lane::first(f.store.lanes().await.unwrap()) {
        f.store.drop_expired(lane).await.unwrap();
    }
    let open = f.status("alice").await.progress.batch.expect("it stays the same");
    assert!(!open.is_in_flight && open.id == next.batch.id);
    let alice = client("alice");
    let waiting = f.store.peek(&alice, EventPosition::BEFORE_ALL, 9).await.unwrap().unwrap();
    assert_eq!(waiting.len(), 3);
}
