//! Exclusivity: one holder of a queue at a time, and what becomes of a holder that is late.

use std::time::Duration;

use super::super::fixture::{
    Fixture, HOUR, LEASE, SHORT_LEASE, WholeStore, assert_due_after, callback, numbers,
    on_all_stores, on_both_stores, plain, texts,
};
use crate::bus::health::Health;
use crate::store::{
    BROKEN_OFF_AFTER, BatchOutcome, BatchSettled, BatchSettlement, LeasedBatch, QueueLease,
};

on_all_stores!(
    a_claim_gives_all_that_delivering_needs,
    a_leased_queue_is_given_to_nobody_else,
    a_claim_takes_no_more_queues_than_asked_for,
    a_lease_that_ran_out_is_taken_over_with_the_same_batch,
    the_former_holder_of_a_lease_changes_nothing,
    a_lease_that_ran_out_still_holds_while_nobody_has_taken_it_over,
    a_renewed_lease_outlives_its_first_length,
    renewing_reports_the_leases_that_were_lost,
    a_subscriber_that_comes_back_has_another_queue,
    another_uuid_topic_or_batch_size_does_not_end_a_lease,
    a_new_callback_ends_the_lease_of_the_old_one,
);

async fn a_claim_gives_all_that_delivering_needs(f: &Fixture) {
    f.subscribe("alice", &["a"], |terms| {
        terms.uuid = Some("s3cr3t".into());
        terms.max = 7;
    })
    .await;
    f.publish("a", &["1"]).await;
    f.pass(Duration::from_millis(30)).await;
    let LeasedBatch { lease, terms, health, waited, batch, .. } = f.claim_one().await;
    let status = f.status("alice").await;
    assert_eq!(lease.subscriber, status.subscriber);
    assert_eq!(terms, status.subscription.terms);
    assert_eq!(terms.uuid.as_deref(), Some("s3cr3t"));
    assert_eq!((health, batch.attempt), (Health::MAX, 1));
    assert!((30..20_000).contains(&waited.as_millis()), "{waited:?}");
    assert_eq!(batch.id.queue, lease.queue);
}

async fn a_leased_queue_is_given_to_nobody_else(f: &Fixture) {
    f.subscribe("alice", &["a"], |terms| terms.max = 2).await;
    f.publish("a", &["1"]).await;
    let _held = f.claim_one().await;
    assert_due_after(f.claim_none().await, LEASE);
    f.publish("a", &["2", "3", "4"]).await;
    assert_due_after(f.claim_none().await, LEASE);
    let other = f.open_another().claim_all(10, LEASE).await.unwrap();
    assert!(other.batches.is_empty(), "{other:?}");
}

async fn a_claim_takes_no_more_queues_than_asked_for(f: &Fixture) {
    for subscriber in ["alice", "bob", "carol"] {
        f.subscribe(subscriber, &["a"], plain).await;
    }
    f.publish("a", &["1"]).await;
    let first = f.claim(2).await;
    assert_eq!(first.batches.len(), 2);
    assert_eq!(first.next_due, Some(Duration::ZERO), "one more is due");
    f.claim_one().await;
    assert_due_after(f.claim_none().await, LEASE);
}

async fn a_lease_that_ran_out_is_taken_over_with_the_same_batch(f: &Fixture) {
    f.subscribe("alice", &["a"], |terms| terms.max = 2).await;
    f.publish("a", &numbers(1, 3)).await;
    let start_ms = f.now_ms();
    let first = f.claim_one_for(SHORT_LEASE).await;
    f.publish("a", &["4"]).await;
    f.subscribe("alice", &["a"], |terms| terms.max = 1).await;

    let second = f.claim_eventually().await;
    assert!(f.now_ms() - start_ms >= SHORT_LEASE.as_millis() as u64, "taken over too early");
    assert_eq!(second.batch.id, first.batch.id);
    assert_eq!(texts(&second), ["1", "2"]);
    assert_eq!((first.batch.attempt, second.batch.attempt), (1, 2));
    assert_ne!(second.lease.fence, first.lease.fence);

    // And so on, with a larger `max` too.
    f.settle(&second.lease, BatchOutcome::Returned).await;
    f.subscribe("alice", &["a"], plain).await;
    let third = f.claim_one().await;
    assert_eq!(third.batch.id, first.batch.id);
    assert_eq!((texts(&third), third.batch.attempt), (numbers(1, 2), 3));
    f.settle(&third.lease, BatchOutcome::Acknowledged).await;
    let next = f.claim_one().await;
    assert_ne!(next.batch.id, first.batch.id);
    assert_eq!((texts(&next), next.batch.attempt), (numbers(3, 4), 1));
}

async fn the_former_holder_of_a_lease_changes_nothing(f: &Fixture) {
    f.subscribe("alice", &["a"], |terms| terms.max = 2).await;
    f.publish("a", &numbers(1, 3)).await;
    let late = f.claim_one_for(SHORT_LEASE).await;
    let holder = f.claim_eventually().await;
    let before = f.status("alice").await;
    for outcome in [
        BatchOutcome::Acknowledged,
        BatchOutcome::Failed { retry_in: Duration::ZERO },
        BatchOutcome::Failed { retry_in: HOUR },
        BatchOutcome::Returned,
    ] {
        for take_next in [false, true] {
            let settlement = BatchSettlement {
                lease: late.lease.clone(),
                outcome,
                failure: None,
                health: Health::new(1),
                take_next,
            };
            let settled = f.store.settle_one(settlement, LEASE).await.unwrap();
            assert!(matches!(settled, BatchSettled::Stale), "{outcome:?}: {settled:?}");
        }
    }
    let lost = f.store.renew_all(std::slice::from_ref(&late.lease), HOUR).await.unwrap();
    assert_eq!(lost, [late.lease]);
    assert_eq!(f.status("alice").await, before);
    assert_due_after(f.claim_none().await, LEASE);

    assert!(matches!(
        f.settle(&holder.lease, BatchOutcome::Returned).await,
        BatchSettled::Released
    ));
    let again = f.claim_one().await;
    assert_eq!((again.batch.id, again.health), (late.batch.id, Health::MAX));
}

async fn a_lease_that_ran_out_still_holds_while_nobody_has_taken_it_over(f: &Fixture) {
    f.subscribe("alice", &["a"], plain).await;
    f.publish("a", &["1"]).await;
    let late = f.claim_one_for(SHORT_LEASE).await;
    f.pass(SHORT_LEASE * 2).await;
    assert!(matches!(
        f.settle(&late.lease, BatchOutcome::Acknowledged).await,
        BatchSettled::Released
    ));
    assert_eq!(f.claim_none().await, None);
    assert_eq!(f.status("alice").await.sent, 1);
}

async fn a_renewed_lease_outlives_its_first_length(f: &Fixture) {
    f.subscribe("alice", &["a"], plain).await;
    f.publish("a", &["1"]).await;
    let held = f.claim_one_for(SHORT_LEASE).await;
    let lost = f.store.renew_all(std::slice::from_ref(&held.lease), LEASE).await.unwrap();
    assert_eq!(lost, []);
    f.pass(SHORT_LEASE * 2).await;
    assert_due_after(f.claim_none().await, LEASE);
    assert!(matches!(
        f.settle(&held.lease, BatchOutcome::Acknowledged).await,
        BatchSettled::Released
    ));
    // A renewed lease runs out too.
    f.publish("a", &["2"]).await;
    let held = f.claim_one().await;
    f.store.renew_all(std::slice::from_ref(&held.lease), SHORT_LEASE).await.unwrap();
    assert_eq!(f.claim_eventually().await.batch.id, held.batch.id);
}

async fn renewing_reports_the_leases_that_were_lost(f: &Fixture) {
    for subscriber in ["alice", "bob", "carol", "dave"] {
        f.subscribe(subscriber, &["a"], plain).await;
    }
    f.publish("a", &["1"]).await;
    let leases: Vec<QueueLease> =
        f.claim(10).await.batches.into_iter().map(|one| one.lease).collect();
    let [settled, held, gone, also_held] = leases.as_slice() else {
        panic!("four queues were due: {leases:?}")
    };
    f.settle(settled, BatchOutcome::Acknowledged).await;
    f.store.unsubscribe(&gone.subscriber).await.unwrap();
    let never_given = QueueLease { fence: held.fence + 1, ..held.clone() };
    let asked = [settled, held, gone, also_held, &never_given].map(QueueLease::clone);
    let lost = f.store.renew_all(&asked, LEASE).await.unwrap();
    assert_eq!(lost, [settled, gone, &never_given].map(QueueLease::clone));
    assert_eq!(f.store.renew_all(&[], LEASE).await.unwrap(), []);
    assert_due_after(f.claim_none().await, LEASE);
}

async fn a_subscriber_that_comes_back_has_another_queue(f: &Fixture) {
    f.subscribe("alice", &["a"], plain).await;
    f.publish("a", &["old"]).await;
    let old = f.claim_one().await;
    f.store.unsubscribe(&old.lease.subscriber).await.unwrap();
    f.subscribe("alice", &["a"], plain).await;
    f.publish("a", &["new"]).await;
    let new = f.claim_one().await;
    assert_eq!(texts(&new), ["new"]);
    assert_ne!(new.lease.queue, old.lease.queue);
    assert_ne!(new.batch.id, old.batch.id);
    for outcome in [BatchOutcome::Acknowledged, BatchOutcome::Returned] {
        assert!(matches!(f.settle(&old.lease, outcome).await, BatchSettled::Stale));
    }
    let both = [old.lease.clone(), new.lease.clone()];
    assert_eq!(f.store.renew_all(&both, LEASE).await.unwrap(), [old.lease]);
    assert!(matches!(
        f.settle(&new.lease, BatchOutcome::Acknowledged).await,
        BatchSettled::Released
    ));
    assert_eq!(f.status("alice").await.sent, 1);
}

async fn another_uuid_topic_or_batch_size_does_not_end_a_lease(f: &Fixture) {
    f.subscribe("alice", &["a"], plain).await;
    f.publish("a", &["1"]).await;
    let held = f.claim_one().await;
    f.subscribe("alice", &["b"], |terms| {
        terms.uuid = Some("new".into());
        terms.timeout = HOUR;
        terms.max = 1;
    })
    .await;
    assert_due_after(f.claim_none().await, LEASE);
    assert!(matches!(
        f.settle(&held.lease, BatchOutcome::Acknowledged).await,
        BatchSettled::Released
    ));
    assert_eq!(f.claim_none().await, None);
}

async fn a_new_callback_ends_the_lease_of_the_old_one(f: &Fixture) {
    f.subscribe("alice", &["a"], plain).await;
    f.publish("a", &["1"]).await;
    let old = f.claim_one().await;
    let elsewhere = callback("https://elsewhere.example/");
    f.subscribe("alice", &["a"], |terms| terms.target = elsewhere.clone()).await;
    assert_due_after(f.claim_none().await, BROKEN_OFF_AFTER);
    let new = f.claim_eventually().await;
    assert_eq!((&new.batch.id, new.batch.attempt), (&old.batch.id, 2));
    assert_eq!(new.terms.target, elsewhere);
    for outcome in [BatchOutcome::Acknowledged, BatchOutcome::Failed { retry_in: HOUR }] {
        assert!(matches!(f.settle(&old.lease, outcome).await, BatchSettled::Stale));
    }
    assert_eq!(f.status("alice").await.queued, 1);
    assert!(matches!(
        f.settle(&new.lease, BatchOutcome::Acknowledged).await,
        BatchSettled::Released
    ));
}
