//! Importing from another bus. Each function that writes runs inside one transaction.
//!
//! Which batches were taken stands in two tables that the first import makes, and that are no part
//! of the tables' version: a process that does not know them can go on working with the file. They
//! name queues by a number that is never used again, so what was taken for a queue is forgotten
//! some time after the queue is gone; [`forget`] does that, and forgets what is old.

use std::time::Duration;

use async_trait::async_trait;
use rusqlite::{Connection, OptionalExtension, params};

use super::SqliteStore;
use super::due::reschedule;
use crate::bus::health::Health;
use crate::bus::subscription::Subscription;
use crate::bus::token::{ClientToken, random_hex};
use crate::bus::topic::Topic;
use crate::store::{
    IMPORT_MEMORY, ImportedPortion, ImportedTopic, Imports, Portion, StoreError, StoreResult, Taken,
};

const TABLES: &str = "
    CREATE TABLE IF NOT EXISTS imports (
        queue_id INTEGER PRIMARY KEY,
        remembered_until_ms INTEGER NOT NULL
    );
    CREATE TABLE IF NOT EXISTS imported_batches (
        queue_id INTEGER NOT NULL,
        batch TEXT NOT NULL,
        entries INTEGER NOT NULL,
        items INTEGER NOT NULL,
        PRIMARY KEY (queue_id, batch)
    ) WITHOUT ROWID;
";

#[async_trait]
impl Imports for SqliteStore {
    async fn import_topic(&self, topic: &Topic) -> StoreResult<ImportedTopic> {
        let topic = topic.clone();
        self.write(move |db| import_topic(db, &topic)).await
    }

    async fn import_subscriber(
        &self,
        subscriber: &ClientToken,
        subscription: &Subscription,
        health: Health,
    ) -> StoreResult<bool> {
        let (subscriber, subscription) = (subscriber.clone(), subscription.clone());
        let queue = random_hex().map_err(|error| StoreError::Unavailable(error.to_string()))?;
        self.write(move |db| import_subscriber(db, &subscriber, &subscription, health, &queue))
            .await
    }

    async fn import_batches(
        &self,
        subscriber: &ClientToken,
        portions: Vec<Portion>,
    ) -> StoreResult<Option<Vec<ImportedPortion>>> {
        let (subscriber, now_ms) = (subscriber.clone(), self.clock.now_ms());
        let take = move |db: &Connection| import_batches(db, &subscriber, &portions, now_ms);
        let imported = self.write(take).await?;
        self.alarm.ring_in(Duration::ZERO);
        Ok(imported)
    }

    async fn imported_batches(
        &self,
        subscriber: &ClientToken,
        batches: &[String],
    ) -> StoreResult<Vec<Taken>> {
        let (subscriber, batches) = (subscriber.clone(), batches.to_vec());
        self.reader.run(move |db| taken(db, &subscriber, &batches)).await
    }
}
/// How many batches are forgotten at once.
const FORGET_AT_ONCE: u32 = 2_000;

fn import_topic(db: &Connection, topic: &Topic) -> rusqlite::Result<ImportedTopic> {
    let name = topic.name.as_str();
    let created = !db.prepare_cached("SELECT 1 FROM topics WHERE name = ?1")?.exists([name])?;
    let publisher: Option<String> = db
        .prepare_cached(
            "INSERT INTO topics (name, publisher, events) VALUES (?1, ?2, ?3)
             ON CONFLICT (name) DO UPDATE SET
                 publisher = coalesce(publisher, ?2), events = max(events, ?3)
             RETURNING publisher",
        )?
        .query_row(
            params![name, topic.publisher.as_ref().map(ClientToken::reveal), topic.events],
            |row| row.get(0),
        )?;
    Ok(ImportedTopic { created, publisher: publisher.as_deref().map(ClientToken::from_stored) })
}

/// `queue` names the subscriber's queue if it has none yet.
fn import_subscriber(
    db: &Connection,
    subscriber: &ClientToken,
    subscription: &Subscription,
    health: Health,
    queue: &str,
) -> rusqlite::Result<bool> {
    let Subscription { topics, terms, .. } = subscription;
    let queue_id: Option<i64> = db
        .prepare_cached(
            "INSERT INTO queues (name, subscriber, callback, uuid, timeout_ms, max, health)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)
             ON CONFLICT (subscriber) DO NOTHING RETURNING id",
        )?
        .query_row(
            params![
                queue,
                subscriber.reveal(),
                terms.target.to_string(),
                terms.uuid,
                terms.timeout.as_millis() as u64,
                terms.max,
                health.points()
            ],
            |row| row.get(0),
        )
        .optional()?;
    let Some(queue_id) = queue_id else {
        return Ok(false);
    };
    for topic in topics {
        db.prepare_cached("INSERT INTO subscriptions (topic, queue_id) VALUES (?1, ?2)")?
            .execute(params![topic.as_str(), queue_id])?;
    }
    Ok(true)
}

fn import_batches(
    db: &Connection,
    subscriber: &ClientToken,
    portions: &[Portion],
    now_ms: u64,
) -> rusqlite::Result<Option<Vec<ImportedPortion>>> {
    let Some(mut tail) = Tail::load(db, subscriber)? else {
        return Ok(None);
    };
    db.execute_batch(TABLES)?;
    let outcomes = portions.iter().map(|portion| tail.take(db, portion, now_ms));
    let outcomes = outcomes.collect::<rusqlite::Result<Vec<_>>>()?;
    if outcomes.contains(&ImportedPortion::Appended) {
        db.prepare_cached("UPDATE queues SET next = ?2 WHERE id = ?1")?
            .execute([tail.queue_id, tail.next])?;
        reschedule(db, tail.queue_id, now_ms)?;
        let until_ms = now_ms + IMPORT_MEMORY.as_millis() as u64;
        db.prepare_cached("INSERT OR REPLACE INTO imports VALUES (?1, ?2)")?
            .execute(params![tail.queue_id, until_ms])?;
    }
    Ok(Some(outcomes))
}

/// The end of a queue.
struct Tail {
    queue_id: i64,
    next: i64,
    /// When its last item was accepted: times in a queue do not go backwards.
    last_ms: u64,
}

impl Tail {
    fn load(db: &Connection, subscriber: &ClientToken) -> rusqlite::Result<Option<Self>> {
        db.prepare_cached(
            "SELECT id, next, coalesce(
                 (SELECT at_ms FROM items WHERE next > head AND position = (id << 40) + next - 1), 0)
             FROM queues WHERE subscriber = ?1",
        )?
        .query_row([subscriber.reveal()], |row| {
            Ok(Self { queue_id: row.get(0)?, next: row.get(1)?, last_ms: row.get(2)? })
        })
        .optional()
    }

    fn take(
        &mut self,
        db: &Connection,
        portion: &Portion,
        now_ms: u64,
    ) -> rusqlite::Result<ImportedPortion> {
        let taken = taken_of(db, self.queue_id, &portion.batch)?;
        if taken.entries >= portion.from + portion.entries {
            return Ok(ImportedPortion::TakenBefore);
        }
        if taken.entries != portion.from {
            return Ok(ImportedPortion::OutOfStep);
        }
        self.last_ms = self.last_ms.max(portion.created_ms.min(now_ms));
        let mut insert = db.prepare_cached(
            "INSERT INTO items (position, at_ms, payload) VALUES ((?1 << 40) + ?2, ?3, ?4)",
        )?;
        for item in &portion.items {
            insert.execute(params![self.queue_id, self.next, self.last_ms, &item[..]])?;
            self.next += 1;
        }
        db.prepare_cached("INSERT OR REPLACE INTO imported_batches VALUES (?1, ?2, ?3, ?4)")?
            .execute(params![
                self.queue_id,
                portion.batch,
                portion.from + portion.entries,
                taken.items + portion.items.len() as u64
            ])?;
        Ok(ImportedPortion::Appended)
    }
}

fn taken_of(db: &Connection, queue_id: i64, batch: &str) -> rusqlite::Result<Taken> {
    let taken = db
        .prepare_cached(
            "SELECT entries, items FROM imported_batches WHERE queue_id = ?1 AND batch = ?2",
        )?
        .query_row(params![queue_id, batch], |row| {
            Ok(Taken { entries: row.get(0)?, items: row.get(1)? })
        })
        .optional()?;
    Ok(taken.unwrap_or_default())
}

fn taken(
    db: &Connection,
    subscriber: &ClientToken,
    batches: &[String],
) -> rusqlite::Result<Vec<Taken>> {
    // One transaction, so that all is read at the same moment.
    let db = db.unchecked_transaction()?;
    let tail = if was_ever_used(&db)? { Tail::load(&db, subscriber)? } else { None };
    match tail {
        Some(tail) => batches.iter().map(|batch| taken_of(&db, tail.queue_id, batch)).collect(),
        None => Ok(vec![Taken::default(); batches.len()]),
    }
}

fn was_ever_used(db: &Connection) -> rusqlite::Result<bool> {
    db.prepare_cached("SELECT 1 FROM sqlite_schema WHERE type = 'table' AND name = 'imports'")?
        .exists([])
}

/// Forgets some of what was taken for a queue that is gone, or so long ago that nobody brings it
/// again; `false` if there is no more of it.
pub fn forget(db: &Connection, now_ms: u64) -> rusqlite::Result<bool> {
    if !was_ever_used(db)? {
        return Ok(false);
    }
    let queue_id: Option<i64> = db
        .prepare_cached(
            "SELECT queue_id FROM imports WHERE remembered_until_ms <= ?1
                 OR NOT EXISTS (SELECT 1 FROM queues WHERE id = queue_id) LIMIT 1",
        )?
        .query_row([now_ms], |row| row.get(0))
        .optional()?;
    let Some(queue_id) = queue_id else {
        return Ok(false);
    };
    let forgotten = db
        .prepare_cached(
            "DELETE FROM imported_batches WHERE queue_id = ?1 AND batch IN
                 (SELECT batch FROM imported_batches WHERE queue_id = ?1 LIMIT ?2)",
        )?
        .execute(params![queue_id, FORGET_AT_ONCE])?;
    if forgotten == 0 {
        db.execute("DELETE FROM imports WHERE queue_id = ?1", [queue_id])?;
    }
    Ok(true)
}
