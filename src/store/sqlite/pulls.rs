//! Pulling: what a subscriber asks for. Each function that writes runs inside one transaction.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use async_trait::async_trait;
use rusqlite::{Connection, OptionalExtension};

use super::SqliteStore;
use super::batches::{Queue, from_ms};
use super::reader::Reader;
use crate::bus::batch::BatchId;
use crate::bus::token::ClientToken;
use crate::store::{Alarm, Arrivals, PullRequest, Pulled, PulledBatch, Pulls, StoreResult};

/// How often is looked at most what another process has brought, and at least.
const LOOK_PAUSE: Duration = Duration::from_millis(30);
const LOOK_LONGEST: Duration = Duration::from_secs(5);

#[async_trait]
impl Pulls for SqliteStore {
    async fn pull(&self, subscriber: &ClientToken, request: &PullRequest) -> StoreResult<Pulled> {
        let (subscriber, request, clock) =
            (subscriber.clone(), request.clone(), self.clock.clone());
        // Most of those who ask for nothing but what is new find nothing.
        if request.acknowledge.is_none() {
            let (own, now_ms) = (subscriber.clone(), clock.now_ms());
            let there = self.reader.run(move |db| look(db, &own, now_ms)).await?;
            if let Some(nothing) = there {
                return Ok(nothing);
            }
        }
        self.write(move |db| pull(db, &subscriber, &request, clock.now_ms())).await
    }

    async fn acknowledge_pulled(
        &self,
        subscriber: &ClientToken,
        batch: &BatchId,
    ) -> StoreResult<PulledBatch> {
        let (own, batch, now_ms) = (subscriber.clone(), batch.clone(), self.clock.now_ms());
        let done = self.write(move |db| acknowledge(db, &own, &batch, now_ms)).await?;
        self.arrivals.tell([subscriber]);
        Ok(done)
    }

    async fn release_pulled(
        &self,
        subscriber: &ClientToken,
        batch: &BatchId,
    ) -> StoreResult<PulledBatch> {
        let (own, batch) = (subscriber.clone(), batch.clone());
        let done = self.write(move |db| release(db, &own, &batch)).await?;
        self.arrivals.tell([subscriber]);
        Ok(done)
    }

    fn arrivals(&self) -> &Arc<Arrivals> {
        self.looks_for_arrivals.get_or_init(|| {
            self.is_watched.store(true, Ordering::Relaxed);
            let watch = Watch {
                arrivals: Arc::downgrade(&self.arrivals),
                alarm: self.arrival_alarm.clone(),
                reader: Arc::downgrade(&self.reader),
            };
            tokio::spawn(watch.run());
        });
        &self.arrivals
    }
}

/// Wakes those who wait for what another process has brought.
struct Watch {
    arrivals: std::sync::Weak<Arrivals>,
    alarm: Arc<Alarm>,
    reader: std::sync::Weak<Reader>,
}

impl Watch {
    /// Until the store is closed.
    async fn run(self) {
        loop {
            self.alarm.wait(LOOK_LONGEST).await;
            let (Some(arrivals), Some(reader)) = (self.arrivals.upgrade(), self.reader.upgrade())
            else {
                return;
            };
            if arrivals.is_awaited() {
                match reader.run(waiting).await {
                    Ok(subscribers) => arrivals.tell(&subscribers),
                    Err(error) => tracing::debug!(%error, "failed to look for what is pulled"),
                }
            }
            drop((arrivals, reader));
            tokio::time::sleep(LOOK_PAUSE).await;
        }
    }
}

/// Those who ask for their batches, and have one waiting.
fn waiting(db: &Connection) -> rusqlite::Result<Vec<ClientToken>> {
    db.prepare_cached(
        "SELECT subscriber FROM queues
         WHERE callback = 'pull:' AND next > head AND NOT leased AND paused_ms IS NULL",
    )?
    .query_map([], |row| Ok(ClientToken::from_stored(&row.get::<_, String>(0)?)))?
    .collect()
}

/// The queue that a subscriber pulls from, and until when its batch is out.
fn find(
    db: &Connection,
    subscriber: &ClientToken,
) -> rusqlite::Result<Option<(Queue, Option<u64>)>> {
    let sql = format!(
        "SELECT {}, pull_until_ms FROM queues WHERE subscriber = ?1 AND callback = 'pull:'",
        Queue::COLUMNS
    );
    db.prepare_cached(&sql)?
        .query_row([subscriber.reveal()], |row| {
            Ok((Queue::from_row(row)?, row.get("pull_until_ms")?))
        })
        .optional()
}

/// Why there is nothing to give out; `None` if there is something.
fn look(
    db: &Connection,
    subscriber: &ClientToken,
    now_ms: u64,
) -> rusqlite::Result<Option<Pulled>> {
    let Some((queue, until_ms)) = find(db, subscriber)? else {
        return Ok(Some(Pulled::NoPullQueue));
    };
    Ok(nothing(&queue, until_ms, now_ms))
}

fn nothing(queue: &Queue, until_ms: Option<u64>, now_ms: u64) -> Option<Pulled> {
    if queue.is_paused {
        return Some(Pulled::Paused);
    }
    if let Some(until_ms) = until_ms.filter(|until_ms| *until_ms > now_ms) {
        return Some(Pulled::Out(from_ms((until_ms - now_ms) as i64)));
    }
    queue.is_empty().then_some(Pulled::Nothing)
}

fn pull(
    db: &Connection,
    subscriber: &ClientToken,
    request: &PullRequest,
    now_ms: u64,
) -> rusqlite::Result<Pulled> {
    if let Some(batch) = &request.acknowledge
        && acknowledge(db, subscriber, batch, now_ms)? == PulledBatch::Stale
    {
        return Ok(Pulled::Stale);
    }
    let Some((mut queue, until_ms)) = find(db, subscriber)? else {
        return Ok(Pulled::NoPullQueue);
    };
    if let Some(nothing) = nothing(&queue, until_ms, now_ms) {
        return Ok(nothing);
    }
    queue.terms.max = queue.terms.max.min(request.max);
    let given = queue.give_out(db, request.lease, now_ms)?;
    Ok(given.map_or(Pulled::Nothing, |batch| Pulled::Batch(Box::new(batch))))
}

/// The queue of a subscriber, if this is its batch.
fn find_batch(
    db: &Connection,
    subscriber: &ClientToken,
    batch: &BatchId,
) -> rusqlite::Result<Option<(Queue, PulledBatch)>> {
    let Some((queue, _)) = find(db, subscriber)? else { return Ok(None) };
    let last = match queue.batch {
        Some((number, last)) if number == batch.number && queue.lease.queue == batch.queue => last,
        _ => return Ok(None),
    };
    let events = (last - queue.head + 1).max(0) as u64;
    let done = PulledBatch::Done { events, attempt: queue.attempts };
    Ok(Some((queue, done)))
}

fn acknowledge(
    db: &Connection,
    subscriber: &ClientToken,
    batch: &BatchId,
    now_ms: u64,
) -> rusqlite::Result<PulledBatch> {
    let Some((mut queue, done)) = find_batch(db, subscriber, batch)? else {
        return Ok(PulledBatch::Stale);
    };
    queue.acknowledge(db, now_ms)?;
    queue.release(db, None)?;
    Ok(done)
}

fn release(
    db: &Connection,
    subscriber: &ClientToken,
    batch: &BatchId,
) -> rusqlite::Result<PulledBatch> {
    let Some((queue, done)) = find_batch(db, subscriber, batch)? else {
        return Ok(PulledBatch::Stale);
    };
    queue.release(db, None)?;
    Ok(done)
}
