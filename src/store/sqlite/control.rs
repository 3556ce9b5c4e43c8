//! Looking into queues, and holding them. Each function that writes runs inside one transaction.

use std::time::Duration;

use async_trait::async_trait;
use rusqlite::{Connection, OptionalExtension, params};

use super::SqliteStore;
use super::batches;
use super::dead_events::{Death, bury};
use super::directory::failed_attempt_from_row;
use super::due::{broken_off_ms, let_go, reschedule};
use super::entity_order;
use super::items::queued_item;
use crate::bus::pause::PausedBy;
use crate::bus::position::EventPosition;
use crate::bus::token::ClientToken;
use crate::store::{Control, Retried, SKIP_STEP, Skip, Skipped, StoreResult, WaitingEvent};

#[async_trait]
impl Control for SqliteStore {
    async fn pause(&self, subscriber: &ClientToken, by: PausedBy) -> StoreResult<bool> {
        let (subscriber, now_ms) = (subscriber.clone(), self.clock.now_ms());
        self.write(move |db| {
            let Some(queue) = Queue::find(db, &subscriber)? else { return Ok(false) };
            batches::pause(db, queue.id, by, now_ms)?;
            Ok(true)
        })
        .await
    }

    async fn resume(&self, subscriber: &ClientToken) -> StoreResult<bool> {
        let woken = subscriber.clone();
        let (subscriber, now_ms) = (subscriber.clone(), self.clock.now_ms());
        let resumed = self
            .write(move |db| {
                let Some(queue) = Queue::find(db, &subscriber)? else { return Ok(false) };
                if queue.is_paused {
                    let_go(db, queue.id, now_ms)?;
                }
                Ok(true)
            })
            .await?;
        self.alarm.ring_in(Duration::ZERO);
        self.arrivals.tell([&woken]);
        Ok(resumed)
    }

    async fn retry_now(&self, subscriber: &ClientToken) -> StoreResult<Retried> {
        let (subscriber, now_ms) = (subscriber.clone(), self.clock.now_ms());
        let retried = self.write(move |db| retry_now(db, &subscriber, now_ms)).await?;
        self.alarm.ring_in(Duration::ZERO);
        Ok(retried)
    }

    async fn peek(
        &self,
        subscriber: &ClientToken,
        after: EventPosition,
        limit: usize,
    ) -> StoreResult<Option<Vec<WaitingEvent>>> {
        let subscriber = subscriber.clone();
        self.reader.run(move |db| peek(db, &subscriber, after, limit)).await
    }

    async fn waiting_event(
        &self,
        subscriber: &ClientToken,
        position: EventPosition,
    ) -> StoreResult<Option<WaitingEvent>> {
        let before = EventPosition::new(position.number().saturating_sub(1));
        let first = self.peek(subscriber, before, 1).await?.and_then(|mut found| found.pop());
        Ok(first.filter(|event| event.position == position))
    }

    async fn skip(&self, subscriber: &ClientToken, skip_to: Skip) -> StoreResult<Skipped> {
        let (subscriber, now_ms) = (subscriber.clone(), self.clock.now_ms());
        let skipped = self.write(move |db| skip(db, &subscriber, skip_to, now_ms)).await?;
        self.alarm.ring_in(Duration::ZERO);
        Ok(skipped)
    }
}

/// A row of `queues`, as control needs it.
struct Queue {
    id: i64,
    head: i64,
    next: i64,
    batch: Option<(u64, i64)>,
    is_leased: bool,
    is_paused: bool,
    is_pulled: bool,
    aside: i64,
}

impl Queue {
    fn find(db: &Connection, subscriber: &ClientToken) -> rusqlite::Result<Option<Self>> {
        db.prepare_cached(
            "SELECT id, head, next, iif(parallel IS NULL, batch_number, NULL), batch_last, leased, paused_ms IS NOT NULL,
                 callback = 'pull:', aside
             FROM queues WHERE subscriber = ?1",
        )?
        .query_row([subscriber.reveal()], |row| {
            let number: Option<u64> = row.get(3)?;
            Ok(Self {
                id: row.get(0)?,
                head: row.get(1)?,
                next: row.get(2)?,
                batch: number.zip(row.get(4)?),
                is_leased: row.get(5)?,
                is_paused: row.get(6)?,
                is_pulled: row.get(7)?,
                aside: row.get(8)?,
            })
        })
        .optional()
    }

    /// The number of the first item behind a position. Positions grow in a queue.
    fn first_behind(&self, db: &Connection, position: EventPosition) -> rusqlite::Result<i64> {
        let mut select = db.prepare_cached(
            "SELECT coalesce(event, at_ms * 1000) FROM items WHERE position = (?1 << 40) + ?2",
        )?;
        let (mut low, mut high) = (self.head, self.next);
        while low < high {
            let middle = low + (high - low) / 2;
            let at: Option<u64> =
                select.query_row([self.id, middle], |row| row.get(0)).optional()?;
            match at {
                Some(at) if at > position.number() => high = middle,
                _ => low = middle + 1,
            }
        }
        Ok(low)
    }
}

fn retry_now(db: &Connection, subscriber: &ClientToken, now_ms: u64) -> rusqlite::Result<Retried> {
    let Some(queue) = Queue::find(db, subscriber)? else { return Ok(Retried::Unknown) };
    if queue.is_paused {
        return Ok(Retried::Paused);
    }
    if queue.is_leased || queue.head == queue.next && queue.aside == 0 || queue.is_pulled {
        return Ok(Retried::Nothing);
    }
    entity_order::hurry(db, queue.id, now_ms)?;
    db.prepare_cached("UPDATE queues SET due_ms = ?2 WHERE id = ?1")?
        .execute(params![queue.id, now_ms])?;
    Ok(Retried::Due)
}

fn peek(
    db: &Connection,
    subscriber: &ClientToken,
    after: EventPosition,
    limit: usize,
) -> rusqlite::Result<Option<Vec<WaitingEvent>>> {
    // One transaction, so that all is read at the same moment.
    let db = db.unchecked_transaction()?;
    let Some(queue) = Queue::find(&db, subscriber)? else { return Ok(None) };
    let from = queue.first_behind(&db, after)?;
    let batch_last = queue.batch.map_or(0, |(_, last)| last);
    let mut select = db.prepare_cached(
        "SELECT position - (?1 << 40), at_ms, event, payload FROM items
         WHERE position >= (?1 << 40) + ?2 AND position < (?1 << 40) + ?3
         ORDER BY position LIMIT ?4",
    )?;
    let waiting = select.query_map(params![queue.id, from, queue.next, limit as i64], |row| {
        let (number, since_ms): (i64, u64) = (row.get(0)?, row.get(1)?);
        let queued = queued_item(row.get_ref(3)?.as_blob()?, since_ms, row.get(2)?);
        Ok(WaitingEvent {
            position: queued.position,
            since_ms,
            is_in_batch: number <= batch_last,
            item: queued.item,
        })
    })?;
    let mut waiting = waiting.collect::<rusqlite::Result<Vec<_>>>()?;
    if queue.aside > 0 {
        waiting.extend(entity_order::peek(&db, queue.id, after, limit)?);
        waiting.sort_by_key(|event| event.position);
        waiting.truncate(limit);
    }
    Ok(Some(waiting))
}

fn skip(
    db: &Connection,
    subscriber: &ClientToken,
    skip: Skip,
    now_ms: u64,
) -> rusqlite::Result<Skipped> {
    let Some(queue) = Queue::find(db, subscriber)? else { return Ok(Skipped::Unknown) };
    let last = match skip {
        Skip::Through(position) => queue.first_behind(db, position)? - 1,
        Skip::Batch(number) => match queue.batch {
            Some((given, last)) if given == number => last,
            _ => return Ok(Skipped::NotThisBatch),
        },
    };
    // A batch goes as a whole: what is left of it would be another one.
    let step_last = match skip {
        Skip::Through(_) => last.min(queue.head + SKIP_STEP as i64 - 1),
        Skip::Batch(_) => last,
    };
    if step_last < queue.head && queue.aside == 0 {
        return Ok(Skipped::Done { events: 0, has_more: false });
    }
    let failure = db
        .prepare_cached(
            "SELECT failed_at_ms, failed_attempt, failed_status, failed_reason FROM queues
             WHERE id = ?1",
        )?
        .query_row([queue.id], |row| failed_attempt_from_row(row, 0))?;
    let death = Death::of_skipped(failure.map(|failed| failed.failure), now_ms);
    let aside = match skip {
        Skip::Through(position) if queue.aside > 0 => {
            entity_order::skip(db, queue.id, subscriber, position, &death)?
        }
        _ => 0,
    };
    if step_last < queue.head && aside == 0 {
        return Ok(Skipped::Done { events: 0, has_more: false });
    }
    let events = bury(db, queue.id, subscriber.reveal(), queue.head, step_last, &death)? + aside;
    // An attempt that is on its way is broken off when its lease is not renewed; what comes behind must not
    // overtake it.
    db.prepare_cached(
        "UPDATE queues SET head = ?2, leased = 0, batch_number = NULL, batch_last = NULL,
             attempts = 0, refusals = 0, suspect_last = NULL, next_max = NULL, failed_at_ms = NULL,
             keeps_pause = leased OR (keeps_pause AND batch_number IS NULL),
             pull_until_ms = NULL,
             due_ms = CASE WHEN paused_ms IS NOT NULL OR callback = 'pull:' THEN NULL WHEN leased THEN ?3
                 WHEN keeps_pause AND batch_number IS NULL THEN due_ms END
         WHERE id = ?1",
    )?
    .execute(params![queue.id, step_last + 1, broken_off_ms(now_ms)])?;
    reschedule(db, queue.id, now_ms)?;
    Ok(Skipped::Done { events: events as u64, has_more: step_last < last || aside == SKIP_STEP })
}
