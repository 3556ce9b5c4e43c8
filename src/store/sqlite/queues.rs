//! Queues: publishing into them, and delivering from them.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use async_trait::async_trait;
use rusqlite::Connection;
use tokio::time::Instant;

use super::writer::Durability;
use super::{SqliteStore, batches, housekeeping, publish};
use crate::store::{
    Alarm, BatchSettled, BatchSettlement, Lane, Publication, Published, Publisher, QueueClaim,
    QueueLease, Queues, StoreResult,
};

/// For each front: one group is committed and synced with those of the others, the next one waits for the writer, and a
/// third one gathers.
const COMMITS_AT_ONCE: usize = 3;

#[async_trait]
impl Publisher for SqliteStore {
    async fn publish(
        &self,
        publications: Vec<Publication>,
        give_up: Instant,
    ) -> StoreResult<Vec<Published>> {
        let (clock, max_topics) = (self.clock.clone(), self.max_topics);
        let append =
            move |db: &Connection| publish::publish(db, &publications, max_topics, clock.now_ms());
        let (published, touched) = self.writer.run(Durability::OnDisk, give_up, append).await?;
        self.arrivals.tell(&touched.arrivals);
        if let Some(delay) = touched.due_in {
            self.alarm.ring_in(delay);
        }
        Ok(published)
    }

    fn commits_at_once(&self) -> usize {
        COMMITS_AT_ONCE
    }
}

#[async_trait]
impl Queues for SqliteStore {
    fn publisher(self: Arc<Self>) -> anyhow::Result<Arc<dyn Publisher>> {
        Ok(self)
    }

    async fn forget_publish_keys(&self) -> StoreResult<()> {
        let clock = self.clock.clone();
        self.write_lazily(move |db| publish::forget_keys(db, clock.now_ms())).await
    }

    async fn due_batches(&self, within: Duration) -> StoreResult<u64> {
        let until_ms = self.clock.now_ms() + within.as_millis() as u64;
        self.reader.run(move |db| batches::due_batches(db, until_ms)).await
    }

    async fn claim_queues(
        &self,
        _lane: Lane,
        limit: usize,
        lease: Duration,
    ) -> StoreResult<QueueClaim> {
        let clock = self.clock.clone();
        let claim = move |db: &Connection| {
            let now_ms = clock.now_ms();
            let claim = batches::claim(db, limit, lease, now_ms)?;
            let more_to_tidy = claim.batches.is_empty() && housekeeping::tidy(db, now_ms)?;
            Ok((claim, more_to_tidy))
        };
        let (claim, more_to_tidy) = self.write_lazily(claim).await?;
        if more_to_tidy {
            self.is_tidying.store(true, Ordering::Relaxed);
            self.alarm.ring_in(housekeeping::PAUSE);
        } else if claim.batches.is_empty() && self.is_tidying.swap(false, Ordering::Relaxed) {
            // The file is as long as it was until what its chores have changed is in it.
            self.checkpoints.ask();
        }
        Ok(claim)
    }

    async fn settle_batches(
        &self,
        _lane: Lane,
        settlements: Vec<BatchSettlement>,
        lease: Duration,
    ) -> StoreResult<Vec<BatchSettled>> {
        let clock = self.clock.clone();
        let settle =
            move |db: &Connection| batches::settle_all(db, &settlements, lease, clock.now_ms());
        let (settled, due_in) = self.write_lazily(settle).await?;
        if let Some(delay) = due_in {
            self.alarm.ring_in(delay);
        }
        Ok(settled)
    }

    async fn renew_queues(
        &self,
        _lane: Lane,
        leases: &[QueueLease],
        lease: Duration,
    ) -> StoreResult<Vec<QueueLease>> {
        let (leases, clock) = (leases.to_vec(), self.clock.clone());
        self.write_lazily(move |db| batches::renew(db, leases, lease, clock.now_ms())).await
    }

    fn alarm(&self, _lane: Lane) -> &Alarm {
        self.is_watched.store(true, Ordering::Relaxed);
        &self.alarm
    }
}
