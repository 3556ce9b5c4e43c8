//! Queues in the order of entities. Each function that writes runs inside one transaction.
//!
//! The window is what other queues' batch is: the items up to `batch_last`.

use std::time::Duration;

use async_trait::async_trait;
use rusqlite::{Connection, OptionalExtension, params};

use super::SqliteStore;
use super::batches::{Queue, leased_queue};
use super::dead_events::Death;
use super::due::{broken_off_ms, reschedule};
use super::items::queued_item;
use crate::bus::attempt::Failure;
use crate::bus::batch::MAX_BATCH_BYTES;
use crate::bus::entity::Entity;
use crate::bus::item::QueuedItem;
use crate::bus::position::EventPosition;
use crate::bus::token::ClientToken;
use crate::store::{
    AsideEntity, AsideProgress, EntityOrder, Lane, QueueLease, SKIP_STEP, StoreResult,
    WaitingEvent, Window, WindowStep,
};

#[async_trait]
impl EntityOrder for SqliteStore {
    async fn step_window(
        &self,
        _lane: Lane,
        step: WindowStep,
        lease: Duration,
    ) -> StoreResult<Option<Window>> {
        let clock = self.clock.clone();
        self.write_lazily(move |db| advance(db, &step, lease, clock.now_ms())).await
    }

    async fn close_window(&self, _lane: Lane, lease: &QueueLease) -> StoreResult<()> {
        let (lease, clock) = (lease.clone(), self.clock.clone());
        self.write_lazily(move |db| close(db, &lease, clock.now_ms())).await?;
        self.alarm.ring_in(Duration::ZERO);
        Ok(())
    }

    async fn is_behind_window(&self, _lane: Lane, lease: &QueueLease) -> StoreResult<bool> {
        let name = lease.queue.clone();
        let sql = "SELECT next > batch_last + 1 FROM queues WHERE name = ?1";
        let look = move |db: &Connection| {
            db.prepare_cached(sql)?
                .query_row([name], |row| row.get::<_, Option<bool>>(0))
                .optional()
        };
        Ok(self.reader.run(look).await?.flatten().unwrap_or(false))
    }

    async fn entities_aside(
        &self,
        _lane: Lane,
        lease: &QueueLease,
    ) -> StoreResult<Vec<AsideEntity>> {
        let (name, now_ms) = (lease.queue.clone(), self.clock.now_ms());
        self.reader.run(move |db| entities_aside(db, &name, now_ms)).await
    }

    async fn events_aside(
        &self,
        _lane: Lane,
        lease: &QueueLease,
        entity: &Entity,
        limit: usize,
    ) -> StoreResult<Vec<QueuedItem>> {
        let (name, entity) = (lease.queue.clone(), entity.clone());
        self.reader.run(move |db| events_aside(db, &name, &entity, limit)).await
    }
}

fn advance(
    db: &Connection,
    step: &WindowStep,
    lease: Duration,
    now_ms: u64,
) -> rusqlite::Result<Option<Window>> {
    let Some(mut queue) = leased_queue(db, &step.lease)? else { return Ok(None) };
    let id = queue.id;
    let mut last = queue.batch.map_or(queue.head - 1, |(_, last)| last);
    for (place, entity) in &step.aside {
        db.prepare_cached(
            "INSERT OR IGNORE INTO aside_entities (queue_id, entity, due_ms) VALUES (?1, ?2, ?3)",
        )?
        .execute(params![id, entity.as_str(), now_ms])?;
        db.prepare_cached(
            "INSERT INTO aside_events (queue_id, entity, event, at_ms, payload)
             SELECT ?1, ?2, coalesce(event, at_ms * 1000), at_ms, payload FROM items
             WHERE position = (?1 << 40) + ?3",
        )?
        .execute(params![id, entity.as_str(), queue.head + *place as i64])?;
    }
    let mut gone: Vec<i64> = step.done.iter().map(|place| queue.head + *place as i64).collect();
    gone.extend(step.aside.iter().map(|(place, _)| queue.head + *place as i64));
    gone.sort_unstable();
    remove(db, id, queue.head, &gone)?;
    queue.head += gone.len() as i64;
    let mut sent = step.done.len();
    for progress in &step.entities {
        sent += progress.done;
        progress_aside(db, &queue, progress, now_ms)?;
    }
    if step.entities.iter().any(|progress| progress.done > 0 || progress.dead.is_some()) {
        forget_empty(db, id)?;
    }
    let items = read_more(db, &queue, last, step.more)?;
    last += items.len() as i64;
    queue.lease.fence = (queue.lease.fence + 1).max(now_ms * 1000);
    let (status, reason) = step
        .failure
        .as_ref()
        .map_or((None, None), |Failure { status, reason }| (*status, Some(reason)));
    db.prepare_cached(
        "UPDATE queues SET head = ?2, batch_last = ?3, fence = ?4, sent = sent + ?5,
             health = iif(health_restored, health, ?6), health_restored = 0,
             failed_at_ms = CASE WHEN ?8 IS NOT NULL THEN ?9
                 WHEN aside > 0 OR NOT ?11 THEN failed_at_ms END,
             failed_status = iif(?8 IS NULL, failed_status, ?7),
             failed_reason = coalesce(?8, failed_reason), failed_attempt = coalesce(failed_attempt, 1),
             due_ms = ?10
         WHERE id = ?1",
    )?
    .execute(params![
        id,
        queue.head,
        last,
        queue.lease.fence,
        sent as u64,
        step.health.points(),
        status,
        reason,
        now_ms,
        now_ms + lease.as_millis() as u64,
        step.has_recovered
    ])?;
    Ok(Some(Window { lease: queue.lease, items, is_paused: queue.is_paused }))
}

/// Takes these items of a window away, of which the first is `head`: what stays moves up, so that there is no gap before
/// what comes behind the window.
fn remove(db: &Connection, id: i64, head: i64, gone: &[i64]) -> rusqlite::Result<()> {
    let Some(last) = gone.last() else { return Ok(()) };
    let mut delete = db.prepare_cached("DELETE FROM items WHERE position = (?1 << 40) + ?2")?;
    for number in gone {
        delete.execute([id, *number])?;
    }
    let mut shift = db.prepare_cached(
        "UPDATE items SET position = (?1 << 40) + ?3 WHERE position = (?1 << 40) + ?2",
    )?;
    let mut free = *last;
    for number in (head..*last).rev() {
        if gone.binary_search(&number).is_err() {
            shift.execute([id, number, free])?;
            free -= 1;
        }
    }
    Ok(())
}

fn progress_aside(
    db: &Connection,
    queue: &Queue,
    progress: &AsideProgress,
    now_ms: u64,
) -> rusqlite::Result<()> {
    let entity = progress.entity.as_str();
    let mut first = db.prepare_cached(
        "DELETE FROM aside_events WHERE number IN (
             SELECT number FROM aside_events WHERE queue_id = ?1 AND entity = ?2
             ORDER BY number LIMIT ?3)",
    )?;
    first.execute(params![queue.id, entity, progress.done as i64])?;
    if let Some(failure) = &progress.dead {
        let number: Option<i64> = db
            .prepare_cached(
                "SELECT number FROM aside_events WHERE queue_id = ?1 AND entity = ?2
                 ORDER BY number LIMIT 1",
            )?
            .query_row(params![queue.id, entity], |row| row.get(0))
            .optional()?;
        if let Some(number) = number {
            let death = Death::of_refused(failure, now_ms);
            death.bury_aside(db, queue.lease.subscriber.reveal(), number)?;
        }
    }
    let due_ms = now_ms + progress.due_in.as_millis() as u64;
    db.prepare_cached(
        "UPDATE aside_entities SET due_ms = ?3, attempts = ?4 WHERE queue_id = ?1 AND entity = ?2",
    )?
    .execute(params![queue.id, entity, due_ms, progress.attempts])?;
    Ok(())
}

/// Entities of which nothing is set aside any more are as any other.
fn forget_empty(db: &Connection, queue_id: i64) -> rusqlite::Result<()> {
    db.prepare_cached(
        "DELETE FROM aside_entities WHERE queue_id = ?1 AND NOT EXISTS (
             SELECT 1 FROM aside_events
             WHERE aside_events.queue_id = ?1 AND aside_events.entity = aside_entities.entity)",
    )?
    .execute([queue_id])?;
    Ok(())
}

/// What stands behind a window.
fn read_more(
    db: &Connection,
    queue: &Queue,
    last: i64,
    more: usize,
) -> rusqlite::Result<Vec<QueuedItem>> {
    let mut select = db.prepare_cached(
        "SELECT payload, at_ms, event FROM items
         WHERE position > (?1 << 40) + ?2 AND position < (?1 << 40) + ?3 ORDER BY position LIMIT ?4",
    )?;
    let mut rows = select.query(params![queue.id, last, queue.next, more as i64])?;
    let (mut items, mut bytes) = (Vec::new(), 0);
    while let Some(row) = rows.next()? {
        let payload = row.get_ref(0)?.as_blob()?;
        bytes += payload.len();
        if bytes > MAX_BATCH_BYTES && !items.is_empty() {
            break;
        }
        items.push(queued_item(payload, row.get(1)?, row.get(2)?));
    }
    Ok(items)
}

fn close(db: &Connection, lease: &QueueLease, now_ms: u64) -> rusqlite::Result<()> {
    let Some(queue) = leased_queue(db, lease)? else { return Ok(()) };
    db.prepare_cached(
        "UPDATE queues SET leased = 0, due_ms = NULL, batch_number = NULL, batch_last = NULL,
             attempts = 0 WHERE id = ?1",
    )?
    .execute([queue.id])?;
    reschedule(db, queue.id, now_ms)
}

fn entities_aside(db: &Connection, name: &str, now_ms: u64) -> rusqlite::Result<Vec<AsideEntity>> {
    db.prepare_cached(
        "SELECT entity, attempts, due_ms,
             count(number), coalesce(sum(length(payload)), 0)
         FROM aside_entities LEFT JOIN aside_events USING (queue_id, entity)
         WHERE queue_id = (SELECT id FROM queues WHERE name = ?1) GROUP BY entity",
    )?
    .query_map([name], |row| {
        let due_ms: u64 = row.get(2)?;
        Ok(AsideEntity {
            entity: Entity::from_stored(row.get(0)?),
            attempts: row.get(1)?,
            due_in: Duration::from_millis(due_ms.saturating_sub(now_ms)),
            events: row.get(3)?,
            bytes: row.get(4)?,
        })
    })?
    .collect()
}

fn events_aside(
    db: &Connection,
    name: &str,
    entity: &Entity,
    limit: usize,
) -> rusqlite::Result<Vec<QueuedItem>> {
    db.prepare_cached(
        "SELECT payload, at_ms, event FROM aside_events
         WHERE queue_id = (SELECT id FROM queues WHERE name = ?1) AND entity = ?2
         ORDER BY number LIMIT ?3",
    )?
    .query_map(params![name, entity.as_str(), limit as i64], |row| {
        Ok(queued_item(row.get_ref(0)?.as_blob()?, row.get(1)?, row.get(2)?))
    })?
    .collect()
}

/// Makes all that is set aside due at once.
pub fn hurry(db: &Connection, queue_id: i64, now_ms: u64) -> rusqlite::Result<()> {
    db.prepare_cached("UPDATE aside_entities SET due_ms = ?2 WHERE queue_id = ?1")?
        .execute(params![queue_id, now_ms])?;
    Ok(())
}

/// What is set aside behind a position, in the order of positions.
pub fn peek(
    db: &Connection,
    queue_id: i64,
    after: EventPosition,
    limit: usize,
) -> rusqlite::Result<Vec<WaitingEvent>> {
    db.prepare_cached(
        "SELECT payload, at_ms, event FROM aside_events WHERE queue_id = ?1 AND event > ?2
         ORDER BY event LIMIT ?3",
    )?
    .query_map(params![queue_id, after.number(), limit as i64], |row| {
        let since_ms = row.get(1)?;
        let queued = queued_item(row.get_ref(0)?.as_blob()?, since_ms, row.get(2)?);
        let (position, item) = (queued.position, queued.item);
        Ok(WaitingEvent { position, since_ms, is_in_batch: false, item })
    })?
    .collect()
}

/// Makes dead letters of what is set aside up to a position, [`SKIP_STEP`] of them at most. Returns how many those are.
pub fn skip(
    db: &Connection,
    queue_id: i64,
    subscriber: &ClientToken,
    through: EventPosition,
    death: &Death,
) -> rusqlite::Result<usize> {
    let numbers: Vec<i64> = db
        .prepare_cached(
            "SELECT number FROM aside_events WHERE queue_id = ?1 AND event <= ?2
             ORDER BY event LIMIT ?3",
        )?
        .query_map(params![queue_id, through.number(), SKIP_STEP as i64], |row| row.get(0))?
        .collect::<rusqlite::Result<_>>()?;
    for number in &numbers {
        death.bury_aside(db, subscriber.reveal(), *number)?;
    }
    if !numbers.is_empty() {
        forget_empty(db, queue_id)?;
    }
    Ok(numbers.len())
}

/// Ends the order of entities of a subscriber's queue: what is set aside goes back to where it stood. Deliveries that are
/// on their way are broken off, and what comes next does not overtake them.
pub fn end(db: &Connection, subscriber: &ClientToken, now_ms: u64) -> rusqlite::Result<()> {
    let queue_id: i64 = db
        .prepare_cached(
            "UPDATE queues SET keeps_pause = leased, due_ms = iif(leased, ?2, NULL), leased = 0,
                 batch_number = NULL, batch_last = NULL, attempts = 0
             WHERE subscriber = ?1 RETURNING id",
        )?
        .query_row(params![subscriber.reveal(), broken_off_ms(now_ms)], |row| row.get(0))?;
    put_back(db, queue_id)
}

/// Puts all that is set aside at the head of its queue, of which nothing is leased.
fn put_back(db: &Connection, queue_id: i64) -> rusqlite::Result<()> {
    let aside: i64 = db
        .prepare_cached("SELECT aside FROM queues WHERE id = ?1")?
        .query_row([queue_id], |row| row.get(0))?;
    if aside == 0 {
        return Ok(());
    }
    // What was left behind in the window may be older than some of it: the head is put together anew.
    let (head, newest): (i64, u64) = db.query_row(
        "SELECT head, (SELECT max(event) FROM aside_events WHERE queue_id = ?1) FROM queues WHERE id = ?1",
        [queue_id],
        |row| Ok((row.get(0)?, row.get(1)?)),
    )?;
    db.execute(
        "INSERT INTO aside_events (queue_id, entity, event, at_ms, payload)
         SELECT ?1, '', coalesce(event, at_ms * 1000), at_ms, payload FROM items
         WHERE position >= (?1 << 40) + ?2 AND position < ((?1 + 1) << 40)
             AND coalesce(event, at_ms * 1000) <= ?3 ORDER BY position",
        params![queue_id, head, newest],
    )?;
    db.execute(
        "DELETE FROM items WHERE position >= (?1 << 40) + ?2 AND position < ((?1 + 1) << 40)
             AND coalesce(event, at_ms * 1000) <= ?3",
        params![queue_id, head, newest],
    )?;
    db.execute(
        "INSERT INTO items (position, at_ms, payload, event)
         SELECT (?1 << 40) + ?2 - 1 + row_number() OVER (ORDER BY event, number), at_ms, payload, event
         FROM aside_events WHERE queue_id = ?1",
        [queue_id, head - aside],
    )?;
    db.execute("UPDATE queues SET head = ?2 WHERE id = ?1", [queue_id, head - aside])?;
    db.execute("DELETE FROM aside_events WHERE queue_id = ?1", [queue_id])?;
    db.execute("DELETE FROM aside_entities WHERE queue_id = ?1", [queue_id])?;
    Ok(())
}
