//! When a batch leaves and how much it carries, and that a worker is woken for it.

use std::time::{Duration, Instant};

use super::super::fixture::{
    Fixture, HOUR, LEASE, PUBLISHER, WholeStore, assert_due_after, numbers, on_both_stores, plain,
    texts,
};
use crate::bus::batch::MAX_BATCH_BYTES;
use crate::store::{BatchOutcome, Lane, Store};

on_both_stores!(
    a_batch_is_due_at_once_when_max_items_wait,
    a_batch_is_due_when_its_oldest_item_has_waited_the_timeout,
    without_enough_items_nothing_is_given_out_before_the_timeout,
    a_batch_never_carries_more_than_max,
    a_batch_is_cut_before_it_grows_past_the_byte_limit,
    an_item_larger_than_the_byte_limit_travels_alone,
    a_new_max_or_timeout_holds_for_what_waits_already,
    an_idle_store_has_nothing_due,
    due_batches_counts_what_is_due_in_time_and_what_is_in_flight,
    the_alarm_rings_at_once_for_a_batch_that_is_due_at_once,
    the_alarm_wakes_a_worker_when_the_timeout_is_over,
    the_alarm_rings_when_a_settled_queue_is_due_again,
    the_alarm_of_another_process_rings_within_a_second,
);

const TIMEOUT: Duration = Duration::from_millis(150);

async fn a_batch_is_due_at_once_when_max_items_wait(f: &Fixture) {
    f.subscribe("alice", &["a"], |terms| {
        terms.max = 3;
        terms.timeout = HOUR;
    })
    .await;
    f.publish("a", &["1", "2"]).await;
    assert_due_after(f.claim_none().await, HOUR);
    f.publish("a", &["3"]).await;
    assert_eq!(texts(&f.claim_one().await), numbers(1, 3));
}

async fn a_batch_is_due_when_its_oldest_item_has_waited_the_timeout(f: &Fixture) {
    f.subscribe("alice", &["a"], |terms| terms.timeout = TIMEOUT).await;
    let published_ms = f.now_ms();
    f.publish("a", &["1"]).await;
    f.publish("a", &["2"]).await;
    let leased = f.claim_eventually().await;
    let waited_ms = f.now_ms() - published_ms;
    assert!(waited_ms >= TIMEOUT.as_millis() as u64, "given out after {waited_ms} ms");
    assert_eq!(texts(&leased), ["1", "2"]);
}

async fn without_enough_items_nothing_is_given_out_before_the_timeout(f: &Fixture) {
    f.subscribe("alice", &["a"], |terms| terms.timeout = HOUR).await;
    f.publish("a", &["1"]).await;
    f.pass(TIMEOUT).await;
    // A later item does not prolong the wait of the first one.
    f.publish("a", &["2"]).await;
    let next_due = f.claim_none().await.expect("something waits");
    assert!(next_due <= HOUR - TIMEOUT, "{next_due:?}");
    assert_due_after(Some(next_due), HOUR - TIMEOUT);
}

async fn a_batch_never_carries_more_than_max(f: &Fixture) {
    f.subscribe("alice", &["a"], |terms| {
        terms.max = 300;
        terms.timeout = HOUR;
    })
    .await;
    f.publish("a", &numbers(1, 700)).await;
    let first = f.claim_one().await;
    assert_eq!(texts(&first), numbers(1, 300));
    f.settle(&first.lease, BatchOutcome::Acknowledged).await;
    let second = f.claim_one().await;
    assert_eq!(texts(&second), numbers(301, 600));
    f.settle(&second.lease, BatchOutcome::Acknowledged).await;
    // What is left is no full batch and waits for its time.
    assert_due_after(f.claim_none().await, HOUR);
    assert_eq!(f.status("alice").await.queued, 100);
}

async fn a_batch_is_cut_before_it_grows_past_the_byte_limit(f: &Fixture) {
    f.subscribe("alice", &["a"], plain).await;
    let large = |digit: &str| digit.repeat(MAX_BATCH_BYTES / 5 * 2);
    let items = ["1", "2", "3"].map(large);
    f.publish("a", &items).await;
    let first = f.claim_one().await;
    assert_eq!(texts(&first), items[..2]);
    f.settle(&first.lease, BatchOutcome::Returned).await;
    let again = f.claim_one().await;
    assert_eq!(texts(&again), items[..2]);
    f.settle(&again.lease, BatchOutcome::Acknowledged).await;
    assert_eq!(texts(&f.claim_one().await), items[2..]);
}

async fn an_item_larger_than_the_byte_limit_travels_alone(f: &Fixture) {
    f.subscribe("alice", &["a"], plain).await;
    let items = ["small".to_owned(), "x".repeat(MAX_BATCH_BYTES + 1), "last".to_owned()];
    f.publish("a", &items).await;
    for item in items {
        let leased = f.claim_one().await;
        assert!(texts(&leased) == [item], "{} items", leased.batch.items.len());
        f.settle(&leased.lease, BatchOutcome::Acknowledged).await;
    }
}

async fn a_new_max_or_timeout_holds_for_what_waits_already(f: &Fixture) {
    f.subscribe("alice", &["a"], |terms| terms.timeout = HOUR).await;
    f.publish("a", &["1", "2", "3"]).await;
    f.subscribe("alice", &["a"], |terms| terms.timeout = HOUR * 2).await;
    assert_due_after(f.claim_none().await, HOUR * 2);
    f.subscribe("alice", &["a"], |terms| {
        terms.timeout = HOUR;
        terms.max = 2;
    })
    .await;
    let first = f.claim_one().await;
    assert_eq!(texts(&first), ["1", "2"]);
    f.settle(&first.lease, BatchOutcome::Acknowledged).await;
    assert_due_after(f.claim_none().await, HOUR);
    f.subscribe("alice", &["a"], plain).await;
    assert_eq!(texts(&f.claim_one().await), ["3"]);
}

async fn an_idle_store_has_nothing_due(f: &Fixture) {
    assert_eq!(f.claim_none().await, None);
    f.subscribe("alice", &["a"], plain).await;
    assert_eq!(f.claim_none().await, None);
    f.publish("a", &["1"]).await;
    f.drain().await;
    assert_eq!(f.claim_none().await, None);
}

async fn due_batches_counts_what_is_due_in_time_and_what_is_in_flight(f: &Fixture) {
    let due = async |within| f.store.due_batches(within).await.unwrap();
    f.subscribe("alice", &["a"], |terms| terms.max = 2).await;
    f.subscribe("bob", &["b"], |terms| terms.timeout = HOUR).await;
    assert_eq!(due(HOUR * 2).await, 0);
    f.publish("a", &numbers(1, 5)).await;
    f.publish("b", &["1"]).await;
    assert_eq!(due(Duration::ZERO).await, 3);
    assert_eq!(due(HOUR * 2).await, 4);
    let leased = f.claim_one().await;
    assert_eq!(due(Duration::ZERO).await, 3);
    f.settle(&leased.lease, BatchOutcome::Acknowledged).await;
    assert_eq!(due(Duration::ZERO).await, 2);
    let leased = f.claim_one().await;
    f.settle(&leased.lease, BatchOutcome::Failed { retry_in: HOUR }).await;
    assert_eq!(due(Duration::ZERO).await, 0);
    assert_eq!(due(HOUR * 2).await, 3);
}

/// How long the alarm lets its worker wait.
async fn rings_after(store: &dyn Store) -> Duration {
    let start = Instant::now();
    store.alarm(Lane::HOME).wait(Duration::from_secs(30)).await;
    start.elapsed()
}

async fn the_alarm_rings_at_once_for_a_batch_that_is_due_at_once(f: &Fixture) {
    f.subscribe("alice", &["a"], plain).await;
    // Clears what the subscription rang for.
    f.store.alarm(Lane::HOME).wait(Duration::ZERO).await;
    f.publish("a", &["1"]).await;
    let waited = rings_after(&*f.store).await;
    assert!(waited < Duration::from_secs(1), "{waited:?}");
    assert_eq!(texts(&f.claim_one().await), ["1"]);
}

async fn the_alarm_wakes_a_worker_when_the_timeout_is_over(f: &Fixture) {
    f.subscribe("alice", &["a"], |terms| terms.timeout = TIMEOUT).await;
    f.store.alarm(Lane::HOME).wait(Duration::ZERO).await;
    let start = Instant::now();
    f.publish("a", &["1"]).await;
    // What a worker does between two batches.
    let leased = loop {
        f.store.alarm(Lane::HOME).wait(Duration::from_secs(30)).await;
        let mut claim = f.claim(1).await;
        match (claim.batches.pop(), claim.next_due) {
            (Some(leased), _) => break leased,
            (None, Some(next_due)) => f.store.alarm(Lane::HOME).ring_in(next_due),
            (None, None) => panic!("the item is gone"),
        }
    };
    assert_eq!(texts(&leased), ["1"]);
    assert!(start.elapsed() < TIMEOUT + Duration::from_secs(5), "{:?}", start.elapsed());
}

async fn the_alarm_rings_when_a_settled_queue_is_due_again(f: &Fixture) {
    f.subscribe("alice", &["a"], |terms| terms.max = 1).await;
    f.publish("a", &["1", "2"]).await;
    for outcome in [
        BatchOutcome::Failed { retry_in: Duration::from_millis(50) },
        BatchOutcome::Returned,
        BatchOutcome::Acknowledged,
    ] {
        let leased = f.claim_eventually().await;
        f.store.alarm(Lane::HOME).wait(Duration::ZERO).await;
        f.settle(&leased.lease, outcome).await;
        let waited = rings_after(&*f.store).await;
        assert!(waited < Duration::from_secs(1), "{outcome:?}: {waited:?}");
    }
}

async fn the_alarm_of_another_process_rings_within_a_second(f: &Fixture) {
    let worker = f.open_another();
    f.subscribe("alice", &["a"], plain).await;
    // The first messages may come before the other process listens.
    f.eventually("the worker hears of a publication", async || {
        worker.alarm(Lane::HOME).wait(Duration::ZERO).await;
        f.publish("a", &["1"]).await;
        let start = Instant::now();
        worker.alarm(Lane::HOME).wait(Duration::from_millis(900)).await;
        let heard = start.elapsed() < Duration::from_millis(900);
        let batches = worker.claim_all(1, LEASE).await.unwrap().batches;
        assert_eq!(batches.len(), 1, "{PUBLISHER}'s item is there for everybody");
        f.settle(&batches[0].lease, BatchOutcome::Acknowledged).await;
        heard.then_some(())
    })
    .await;
}
