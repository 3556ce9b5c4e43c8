//! How a delivery ends: acknowledged, failed or returned, and the batch that follows.

use std::time::Duration;

use super::super::fixture::{
    Fixture, HOUR, LEASE, WholeStore, assert_due_after, numbers, on_all_stores, on_both_stores,
    plain, settlement, texts,
};
use crate::bus::attempt::Failure;
use crate::bus::health::Health;
use crate::store::{BatchOutcome, BatchSettled, BatchSettlement, Lane, QueueLease};

on_all_stores!(
    an_acknowledgement_removes_exactly_the_batch,
    an_acknowledgement_counts_once,
    items_published_during_a_lease_are_neither_lost_nor_acknowledged,
    a_failed_batch_stays_at_the_head_until_its_pause_is_over,
    a_failed_batch_waits_its_pause_whatever_is_published,
    a_returned_batch_is_due_at_once,
    health_is_kept_for_the_next_attempt,
    the_last_failure_is_shown_until_the_next_acknowledgement,
    many_batches_are_settled_at_once_each_by_itself,
    taking_the_next_batch_keeps_the_queue,
    the_next_batch_is_not_taken_before_it_is_due,
    without_take_next_the_queue_is_released,
    after_a_failure_no_batch_is_taken,
);

async fn an_acknowledgement_removes_exactly_the_batch(f: &Fixture) {
    f.subscribe("alice", &["a"], |terms| terms.max = 3).await;
    f.subscribe("bob", &["a"], plain).await;
    f.publish("a", &numbers(1, 8)).await;
    let batches = f.claim(10).await.batches;
    let alice = batches.iter().find(|one| one.lease.subscriber.reveal() == "alice").unwrap();
    assert!(matches!(
        f.settle(&alice.lease, BatchOutcome::Acknowledged).await,
        BatchSettled::Released
    ));
    let (alice, bob) = (f.status("alice").await, f.status("bob").await);
    assert_eq!((alice.sent, alice.queued), (3, 5));
    assert_eq!((bob.sent, bob.queued), (0, 8));
    assert_eq!(texts(&f.claim_one().await), numbers(4, 6));
}

async fn an_acknowledgement_counts_once(f: &Fixture) {
    f.subscribe("alice", &["a"], |terms| terms.max = 1).await;
    f.publish("a", &["1", "2"]).await;
    let leased = f.claim_one().await;
    assert!(matches!(
        f.settle(&leased.lease, BatchOutcome::Acknowledged).await,
        BatchSettled::Released
    ));
    assert!(matches!(
        f.settle(&leased.lease, BatchOutcome::Acknowledged).await,
        BatchSettled::Stale
    ));
    let status = f.status("alice").await;
    assert_eq!((status.sent, status.queued), (1, 1));
}

async fn items_published_during_a_lease_are_neither_lost_nor_acknowledged(f: &Fixture) {
    f.subscribe("alice", &["a"], plain).await;
    f.publish("a", &["1"]).await;
    let leased = f.claim_one().await;
    f.publish("a", &["2"]).await;
    f.publish("a", &["3"]).await;
    assert_eq!(f.status("alice").await.queued, 3);
    f.settle(&leased.lease, BatchOutcome::Acknowledged).await;
    let next = f.claim_one().await;
    assert_eq!(texts(&next), ["2", "3"]);
    f.publish("a", &["4"]).await;
    f.settle(&next.lease, BatchOutcome::Failed { retry_in: Duration::ZERO }).await;
    assert_eq!(f.drain().await["alice"], ["2", "3", "4"]);
}

async fn a_failed_batch_stays_at_the_head_until_its_pause_is_over(f: &Fixture) {
    let pause = Duration::from_millis(150);
    f.subscribe("alice", &["a"], |terms| terms.max = 2).await;
    f.publish("a", &numbers(1, 3)).await;
    let first = f.claim_one().await;
    let start_ms = f.now_ms();
    let settled = f.settle(&first.lease, BatchOutcome::Failed { retry_in: pause }).await;
    assert!(matches!(settled, BatchSettled::Released), "{settled:?}");
    let second = f.claim_eventually().await;
    assert!(f.now_ms() - start_ms >= pause.as_millis() as u64, "sent again too early");
    assert_eq!(second.batch.id, first.batch.id);
    assert_eq!((texts(&second), second.batch.attempt), (numbers(1, 2), 2));
    let status = f.status("alice").await;
    assert_eq!((status.sent, status.queued), (0, 3));
}

async fn a_failed_batch_waits_its_pause_whatever_is_published(f: &Fixture) {
    f.subscribe("alice", &["a"], |terms| terms.max = 4).await;
    f.publish("a", &["1"]).await;
    let leased = f.claim_one().await;
    f.publish("a", &["2"]).await;
    f.settle(&leased.lease, BatchOutcome::Failed { retry_in: HOUR }).await;
    assert_due_after(f.claim_none().await, HOUR);
    f.publish("a", &["3"]).await;
    assert_due_after(f.claim_none().await, HOUR);
    // From here on, enough for a full batch waits.
    f.publish("a", &["4", "5"]).await;
    assert_due_after(f.claim_none().await, HOUR);
    // Neither does another `max` make it leave earlier.
    f.subscribe("alice", &["a"], |terms| terms.max = 3).await;
    assert_due_after(f.claim_none().await, HOUR);
}

async fn a_returned_batch_is_due_at_once(f: &Fixture) {
    f.subscribe("alice", &["a"], |terms| {
        terms.max = 2;
        terms.timeout = HOUR;
    })
    .await;
    f.publish("a", &numbers(1, 3)).await;
    let first = f.claim_one().await;
    assert!(matches!(f.settle(&first.lease, BatchOutcome::Returned).await, BatchSettled::Released));
    let second = f.claim_one().await;
    assert_eq!((&second.batch.id, texts(&second)), (&first.batch.id, numbers(1, 2)));
}

async fn health_is_kept_for_the_next_attempt(f: &Fixture) {
    f.subscribe("alice", &["a"], |terms| terms.max = 1).await;
    f.publish("a", &["1", "2"]).await;
    let outcomes = [
        (BatchOutcome::Failed { retry_in: Duration::ZERO }, 42),
        (BatchOutcome::Returned, 7),
        (BatchOutcome::Acknowledged, 0),
    ];
    for (outcome, points) in outcomes {
        let leased = f.claim_one().await;
        let settlement =
            BatchSettlement { health: Health::new(points), ..settlement(&leased.lease, outcome) };
        f.store.settle_one(settlement, LEASE).await.unwrap();
        let next = f.claim_one().await;
        assert_eq!(next.health, Health::new(points), "{outcome:?}");
        f.settle(&next.lease, BatchOutcome::Returned).await;
    }
}

async fn the_last_failure_is_shown_until_the_next_acknowledgement(f: &Fixture) {
    f.subscribe("alice", &["a"], |terms| terms.max = 1).await;
    f.publish("a", &["1"]).await;
    assert_eq!(f.status("alice").await.last_failure, None);
    for (attempt, status, reason) in [(1, Some(503), "503: a b  c"), (2, None, "no answer – ü")]
    {
        let leased = f.claim_one().await;
        let failed = BatchSettlement {
            failure: Some(Failure::new(status, reason)),
            ..settlement(&leased.lease, BatchOutcome::Failed { retry_in: Duration::ZERO })
        };
        let before_ms = f.now_ms();
        f.store.settle_one(failed, LEASE).await.unwrap();
        let last = f.status("alice").await.last_failure.expect("it has failed");
        assert!((before_ms..=f.now_ms()).contains(&last.at_ms), "{last:?}");
        assert_eq!((last.attempt, last.failure), (attempt, Failure::new(status, reason)));
    }
    let leased = f.claim_one().await;
    f.settle(&leased.lease, BatchOutcome::Returned).await;
    assert!(f.status("alice").await.last_failure.is_some(), "it says nothing of an attempt");
    let leased = f.claim_one().await;
    f.settle(&leased.lease, BatchOutcome::Acknowledged).await;
    assert_eq!(f.status("alice").await.last_failure, None);
}

async fn many_batches_are_settled_at_once_each_by_itself(f: &Fixture) {
    let who = ["alice", "bob", "carol", "dave"];
    for subscriber in who {
        f.subscribe(subscriber, &["a"], |terms| terms.max = 1).await;
    }
    f.publish("a", &["1", "2"]).await;
    for lane in Lane::first(f.store.lanes().await.unwrap()) {
        let batches = f.store.claim_queues(lane, 10, LEASE).await.unwrap().batches;
        let settlements: Vec<_> = batches
            .iter()
            .map(|leased| {
                let lease = &leased.lease;
                let failed = BatchOutcome::Failed { retry_in: HOUR };
                match lease.subscriber.reveal() {
                    "alice" => settlement(lease, BatchOutcome::Acknowledged),
                    "bob" => BatchSettlement {
                        take_next: true,
                        ..settlement(lease, BatchOutcome::Acknowledged)
                    },
                    "carol" => settlement(lease, failed),
                    _ => {
                        let stale = QueueLease { fence: lease.fence - 1, ..lease.clone() };
                        settlement(&stale, BatchOutcome::Acknowledged)
                    }
                }
            })
            .collect();
        let settled = f.store.settle_batches(lane, settlements, LEASE).await.unwrap();
        assert_eq!(settled.len(), batches.len());
        for (leased, settled) in batches.iter().zip(settled) {
            let subscriber = leased.lease.subscriber.reveal();
            let is_right = match (subscriber, &settled) {
                ("bob", BatchSettled::Next(next)) => texts(next) == ["2"],
                ("alice" | "carol", BatchSettled::Released) => true,
                ("dave", BatchSettled::Stale) => true,
                _ => false,
            };
            assert!(is_right, "{subscriber}: {settled:?}");
        }
    }
    for (subscriber, sent) in who.into_iter().zip([1, 1, 0, 0]) {
        assert_eq!(f.status(subscriber).await.sent, sent, "{subscriber}");
    }
}

async fn taking_the_next_batch_keeps_the_queue(f: &Fixture) {
    f.subscribe("alice", &["a"], |terms| {
        terms.max = 2;
        terms.timeout = HOUR;
    })
    .await;
    f.publish("a", &numbers(1, 4)).await;
    let first = f.claim_one().await;
    let BatchSettled::Next(next) = f.acknowledge_and_take(&first.lease).await else {
        panic!("a full batch waits")
    };
    assert_eq!((texts(&next), next.batch.attempt), (numbers(3, 4), 1));
    assert_ne!(next.batch.id, first.batch.id);
    assert_due_after(f.claim_none().await, LEASE);
    assert_eq!(f.store.renew_all(std::slice::from_ref(&next.lease), LEASE).await.unwrap(), []);
    // The first batch is settled for good.
    if next.lease != first.lease {
        assert!(matches!(
            f.settle(&first.lease, BatchOutcome::Acknowledged).await,
            BatchSettled::Stale
        ));
    }
    assert_eq!(f.status("alice").await.sent, 2);
    // And the last one releases the queue.
    let settled = f.acknowledge_and_take(&next.lease).await;
    assert!(matches!(settled, BatchSettled::Released), "{settled:?}");
    let status = f.status("alice").await;
    assert_eq!((status.sent, status.queued, status.oldest_ms), (4, 0, None));
    assert_eq!(f.claim_none().await, None);
}

async fn the_next_batch_is_not_taken_before_it_is_due(f: &Fixture) {
    f.subscribe("alice", &["a"], |terms| {
        terms.max = 2;
        terms.timeout = HOUR;
    })
    .await;
    f.publish("a", &numbers(1, 3)).await;
    let leased = f.claim_one().await;
    let settled = f.acknowledge_and_take(&leased.lease).await;
    assert!(matches!(settled, BatchSettled::Released), "{settled:?}");
    assert_due_after(f.claim_none().await, HOUR);
    f.publish("a", &["4"]).await;
    assert_eq!(texts(&f.claim_one().await), ["3", "4"]);
}

async fn without_take_next_the_queue_is_released(f: &Fixture) {
    f.subscribe("alice", &["a"], |terms| terms.max = 2).await;
    f.publish("a", &numbers(1, 4)).await;
    let leased = f.claim_one().await;
    assert!(matches!(
        f.settle(&leased.lease, BatchOutcome::Acknowledged).await,
        BatchSettled::Released
    ));
    let lost = f.store.renew_all(std::slice::from_ref(&leased.lease), LEASE).await.unwrap();
    assert_eq!(lost, [leased.lease]);
    assert_eq!(texts(&f.claim_one().await), ["3", "4"]);
}

async fn after_a_failure_no_batch_is_taken(f: &Fixture) {
    f.subscribe("alice", &["a"], |terms| terms.max = 2).await;
    f.publish("a", &numbers(1, 4)).await;
    for outcome in [BatchOutcome::Failed { retry_in: Duration::ZERO }, BatchOutcome::Returned] {
        let leased = f.claim_one().await;
        let settlement = BatchSettlement { take_next: true, ..settlement(&leased.lease, outcome) };
        let settled = f.store.settle_one(settlement, LEASE).await.unwrap();
        assert!(matches!(settled, BatchSettled::Released), "{settled:?}");
    }
    assert_eq!(texts(&f.claim_one().await), ["1", "2"]);
}
