//! Dead letters: events that were taken out of queues. Each function that writes runs inside one transaction.

use std::time::Duration;

use async_trait::async_trait;
use rusqlite::{Connection, OptionalExtension, Row, params};

use super::SqliteStore;
use super::items::{append, queued_item};
use crate::bus::attempt::Failure;
use crate::bus::item::replayed;
use crate::bus::position::EventPosition;
use crate::bus::token::ClientToken;
use crate::store::{
    DEAD_EVENTS_AT_ONCE, DeadBounds, DeadCause, DeadCursor, DeadEvent, DeadEvents, DeadEventsPage,
    ForgottenDead, Lane, StoreResult,
};

#[async_trait]
impl DeadEvents for SqliteStore {
    async fn dead_events(
        &self,
        subscriber: Option<&ClientToken>,
        before: Option<DeadCursor>,
        limit: usize,
    ) -> StoreResult<DeadEventsPage> {
        let subscriber = subscriber.map(|subscriber| subscriber.reveal().to_owned());
        let before = before.map_or(i64::MAX as u64, |cursor| cursor.number);
        self.reader.run(move |db| page(db, subscriber.as_deref(), before, limit)).await
    }

    async fn dead_event(
        &self,
        subscriber: &ClientToken,
        position: EventPosition,
    ) -> StoreResult<Option<DeadEvent>> {
        let subscriber = subscriber.clone();
        self.reader.run(move |db| find(db, &subscriber, position)).await
    }

    async fn retry_dead_event(
        &self,
        subscriber: &ClientToken,
        position: EventPosition,
    ) -> StoreResult<bool> {
        let (subscriber, now_ms) = (subscriber.clone(), self.clock.now_ms());
        let woken = subscriber.clone();
        let retried = self.write(move |db| retry(db, &subscriber, position, now_ms)).await?;
        self.alarm.ring_in(Duration::ZERO);
        self.arrivals.tell([&woken]);
        Ok(retried)
    }

    async fn delete_dead_event(
        &self,
        subscriber: &ClientToken,
        position: EventPosition,
    ) -> StoreResult<bool> {
        let subscriber = subscriber.clone();
        self.write(move |db| Ok(take(db, &subscriber, position)?.is_some())).await
    }

    async fn forget_dead_events(
        &self,
        _lane: Lane,
        bounds: DeadBounds,
    ) -> StoreResult<ForgottenDead> {
        let dead_ms = self.clock.now_ms().saturating_sub(bounds.retention.as_millis() as u64);
        self.write_lazily(move |db| forget(db, dead_ms, bounds.max_bytes)).await
    }

    async fn dead_event_count(&self) -> StoreResult<u64> {
        let count = "SELECT events FROM dead_room";
        self.reader.run(|db| db.query_row(count, [], |row| row.get(0))).await
    }
}

/// How events became dead letters.
pub struct Death {
    at_ms: u64,
    cause: DeadCause,
    failure: Option<Failure>,
}

impl Death {
    pub fn of_refused(failure: &Failure, at_ms: u64) -> Self {
        Self { at_ms, cause: DeadCause::Refused, failure: Some(failure.clone()) }
    }

    pub fn of_skipped(failure: Option<Failure>, at_ms: u64) -> Self {
        Self { at_ms, cause: DeadCause::Skipped, failure }
    }

    /// Makes a dead letter of an event that is set aside.
    pub fn bury_aside(
        &self,
        db: &Connection,
        subscriber: &str,
        number: i64,
    ) -> rusqlite::Result<()> {
        let failure = self.failure.as_ref();
        db.prepare_cached(
            "INSERT INTO dead_events (subscriber, event, dead_ms, cause, status, reason, payload)
             SELECT ?2, event, ?3, ?4, ?5, ?6, payload FROM aside_events WHERE number = ?1",
        )?
        .execute(params![
            number,
            subscriber,
            self.at_ms,
            self.cause.as_str(),
            failure.and_then(|failure| failure.status),
            failure.map(|failure| &failure.reason),
        ])?;
        db.prepare_cached("DELETE FROM aside_events WHERE number = ?1")?.execute([number])?;
        Ok(())
    }
}

/// Makes dead letters of the items of a queue from one number to another. Its head is the caller's business.
pub fn bury(
    db: &Connection,
    queue_id: i64,
    subscriber: &str,
    from: i64,
    to: i64,
    death: &Death,
) -> rusqlite::Result<usize> {
    let Death { at_ms, cause, failure } = death;
    let failure = failure.as_ref();
    db.prepare_cached(
        "INSERT INTO dead_events (subscriber, event, dead_ms, cause, status, reason, payload)
         SELECT ?4, coalesce(event, at_ms * 1000), ?5, ?6, ?7, ?8, payload FROM items
         WHERE position BETWEEN (?1 << 40) + ?2 AND (?1 << 40) + ?3 ORDER BY position",
    )?
    .execute(params![
        queue_id,
        from,
        to,
        subscriber,
        at_ms,
        cause.as_str(),
        failure.and_then(|failure| failure.status),
        failure.map(|failure| &failure.reason),
    ])?;
    db.prepare_cached(
        "DELETE FROM items WHERE position BETWEEN (?1 << 40) + ?2 AND (?1 << 40) + ?3",
    )?
    .execute([queue_id, from, to])
}

const COLUMNS: &str = "number, subscriber, event, dead_ms, cause, status, reason, payload";

fn from_row(row: &Row<'_>) -> rusqlite::Result<(DeadCursor, DeadEvent)> {
    let reason: Option<String> = row.get(6)?;
    let status = row.get(5)?;
    let dead_ms = row.get(3)?;
    let event = DeadEvent {
        subscriber: ClientToken::from_stored(&row.get::<_, String>(1)?),
        position: EventPosition::new(row.get(2)?),
        dead_ms,
        cause: DeadCause::from_stored(&row.get::<_, String>(4)?),
        failure: reason.map(|reason| Failure { status, reason }),
        item: row.get::<_, Vec<u8>>(7)?.into(),
    };
    Ok((DeadCursor { dead_ms, number: row.get(0)?, lane: Lane::HOME }, event))
}

fn page(
    db: &Connection,
    subscriber: Option<&str>,
    before: u64,
    limit: usize,
) -> rusqlite::Result<DeadEventsPage> {
    let whose = if subscriber.is_some() { "subscriber = ?3" } else { "?3 IS NULL" };
    let sql = format!(
        "SELECT {COLUMNS} FROM dead_events WHERE {whose} AND number < ?1
         ORDER BY number DESC LIMIT ?2"
    );
    let mut rows = db.prepare_cached(&sql)?;
    rows.query_map(params![before, limit as i64, subscriber], from_row)?.collect()
}

/// The newest of a subscriber's that has this position.
const NEWEST: &str = "number =
    (SELECT max(number) FROM dead_events WHERE subscriber = ?1 AND event = ?2)";

fn find(
    db: &Connection,
    subscriber: &ClientToken,
    position: EventPosition,
) -> rusqlite::Result<Option<DeadEvent>> {
    let sql = format!("SELECT {COLUMNS} FROM dead_events WHERE {NEWEST}");
    newest(db, &sql, subscriber, position)
}

fn take(
    db: &Connection,
    subscriber: &ClientToken,
    position: EventPosition,
) -> rusqlite::Result<Option<DeadEvent>> {
    let sql = format!("DELETE FROM dead_events WHERE {NEWEST} RETURNING {COLUMNS}");
    newest(db, &sql, subscriber, position)
}

fn newest(
    db: &Connection,
    sql: &str,
    subscriber: &ClientToken,
    position: EventPosition,
) -> rusqlite::Result<Option<DeadEvent>> {
    let mut found = db.prepare_cached(sql)?;
    let found = found.query_row(params![subscriber.reveal(), position.number()], from_row);
    Ok(found.optional()?.map(|(_, event)| event))
}

fn retry(
    db: &Connection,
    subscriber: &ClientToken,
    position: EventPosition,
    now_ms: u64,
) -> rusqlite::Result<bool> {
    let queue: Option<i64> = db
        .prepare_cached("SELECT id FROM queues WHERE subscriber = ?1")?
        .query_row([subscriber.reveal()], |row| row.get(0))
        .optional()?;
    let Some(queue) = queue else { return Ok(false) };
    let Some(event) = take(db, subscriber, position)? else { return Ok(false) };
    let queued = queued_item(&event.item, 0, Some(event.position.number()));
    append(db, queue, &[replayed(&queued)], now_ms)?;
    Ok(true)
}

/// What dead letters take.
pub fn taken(db: &Connection) -> rusqlite::Result<u64> {
    db.prepare_cached("SELECT bytes FROM dead_room")?.query_row([], |row| row.get(0))
}

fn forget(db: &Connection, dead_ms: u64, max_bytes: u64) -> rusqlite::Result<ForgottenDead> {
    let limit = DEAD_EVENTS_AT_ONCE as i64;
    let old = db
        .prepare_cached(
            "DELETE FROM dead_events WHERE number IN
                 (SELECT number FROM dead_events ORDER BY number LIMIT ?2) AND dead_ms < ?1",
        )?
        .execute(params![dead_ms, limit])?;
    let mut for_room = 0;
    if taken(db)? > max_bytes {
        for_room = db
            .prepare_cached(
                "DELETE FROM dead_events WHERE number IN
                     (SELECT number FROM dead_events ORDER BY number LIMIT ?1)",
            )?
            .execute([limit])?;
    }
    Ok(ForgottenDead { old: old as u64, for_room: for_room as u64 })
}
