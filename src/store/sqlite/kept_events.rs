//! Events that their topics keep. Each function that writes runs inside one transaction.

use std::time::Duration;

use async_trait::async_trait;
use rusqlite::{Connection, OptionalExtension, params};

use super::SqliteStore;
use super::items::{append, queued_item};
use crate::bus::item::{Item, QueuedItem};
use crate::bus::position::EventPosition;
use crate::bus::token::ClientToken;
use crate::bus::topic::{Keep, TopicName};
use crate::store::{Caught, KEPT_AT_ONCE, KeepSet, KeptEvents, StoreResult};

/// How many events are forgotten at once.
const FORGOTTEN_AT_ONCE: usize = 5_000;

#[async_trait]
impl KeptEvents for SqliteStore {
    async fn keep(
        &self,
        topic: &TopicName,
        keep: Option<Keep>,
        owner: Option<&ClientToken>,
        max_bytes: u64,
    ) -> StoreResult<KeepSet> {
        let (topic, owner) = (topic.clone(), owner.cloned());
        self.write(move |db| set_keep(db, &topic, keep, owner.as_ref(), max_bytes)).await
    }

    async fn kept_events(
        &self,
        topics: &[TopicName],
        after: EventPosition,
    ) -> StoreResult<Vec<QueuedItem>> {
        let topics = topics.to_vec();
        self.reader.run(move |db| kept(db, &topics, after)).await
    }

    async fn replay(&self, subscriber: &ClientToken, items: Vec<Item>) -> StoreResult<bool> {
        let (own, now_ms) = (subscriber.clone(), self.clock.now_ms());
        let replayed = self.write(move |db| replay(db, &own, &items, now_ms)).await?;
        self.alarm.ring_in(Duration::ZERO);
        self.arrivals.tell([subscriber]);
        Ok(replayed)
    }

    async fn subscribe_from(
        &self,
        subscriber: &ClientToken,
        topics: &[TopicName],
        after: EventPosition,
    ) -> StoreResult<Caught> {
        let (own, topics, now_ms) = (subscriber.clone(), topics.to_vec(), self.clock.now_ms());
        let caught = self.write(move |db| subscribe_from(db, &own, &topics, after, now_ms)).await?;
        self.alarm.ring_in(Duration::ZERO);
        self.arrivals.tell([subscriber]);
        Ok(caught)
    }

    async fn forget_kept(&self) -> StoreResult<bool> {
        let clock = self.clock.clone();
        self.write_lazily(move |db| forget(db, clock.now_ms())).await
    }
}

/// Adds what is published to a topic to what it keeps.
pub fn add(
    db: &Connection,
    keep_id: i64,
    items: &[Item],
    first: EventPosition,
    now_ms: i64,
) -> rusqlite::Result<()> {
    let mut insert = db.prepare_cached(
        "INSERT INTO kept_events (event, keep_id, at_ms, payload) VALUES (?1, ?2, ?3, ?4)",
    )?;
    let mut bytes = 0;
    for (index, item) in items.iter().enumerate() {
        let event = first.plus(index as u64).number();
        insert.execute(params![event, keep_id, now_ms, &item[..]])?;
        bytes += room_of(item.len());
    }
    db.prepare_cached("UPDATE keeps SET kept_bytes = kept_bytes + ?2 WHERE id = ?1")?
        .execute([keep_id, bytes])?;
    Ok(())
}

/// What an event takes, about.
fn room_of(bytes: usize) -> i64 {
    bytes as i64 + 60
}

/// What all topics keep.
pub fn taken(db: &Connection) -> rusqlite::Result<u64> {
    db.prepare_cached("SELECT coalesce(sum(kept_bytes), 0) FROM keeps")?
        .query_row([], |row| row.get(0))
}

fn set_keep(
    db: &Connection,
    topic: &TopicName,
    keep: Option<Keep>,
    owner: Option<&ClientToken>,
    max_bytes: u64,
) -> rusqlite::Result<KeepSet> {
    let publisher: Option<Option<String>> = db
        .prepare_cached("SELECT publisher FROM topics WHERE name = ?1")?
        .query_row([topic.as_str()], |row| row.get(0))
        .optional()?;
    let Some(publisher) = publisher else { return Ok(KeepSet::UnknownTopic) };
    if owner.is_some_and(|owner| publisher.as_deref() != Some(owner.reveal())) {
        return Ok(KeepSet::OwnedByAnother);
    }
    let Some(keep) = keep else {
        db.prepare_cached("UPDATE keeps SET topic = NULL WHERE topic = ?1")?
            .execute([topic.as_str()])?;
        return Ok(KeepSet::Done);
    };
    let others: u64 = db
        .prepare_cached(
            "SELECT coalesce(sum(bytes), 0) FROM keeps WHERE topic IS NOT NULL AND topic <> ?1",
        )?
        .query_row([topic.as_str()], |row| row.get(0))?;
    if others.saturating_add(keep.bytes) > max_bytes {
        return Ok(KeepSet::NoRoom);
    }
    db.prepare_cached(
        "INSERT INTO keeps (topic, ms, bytes) VALUES (?1, ?2, ?3)
         ON CONFLICT (topic) DO UPDATE SET ms = excluded.ms, bytes = excluded.bytes",
    )?
    .execute(params![topic.as_str(), keep.age.as_millis() as u64, keep.bytes])?;
    Ok(KeepSet::Done)
}

fn kept(
    db: &Connection,
    topics: &[TopicName],
    after: EventPosition,
) -> rusqlite::Result<Vec<QueuedItem>> {
    let mut select = db.prepare_cached(
        "SELECT payload, at_ms, event FROM kept_events
         WHERE keep_id = (SELECT id FROM keeps WHERE topic = ?1) AND event > ?2
         ORDER BY event LIMIT ?3",
    )?;
    let mut kept: Vec<QueuedItem> = Vec::new();
    for topic in topics {
        let rows = select
            .query_map(params![topic.as_str(), after.number(), KEPT_AT_ONCE], |row| {
                Ok(queued_item(row.get_ref(0)?.as_blob()?, row.get(1)?, row.get(2)?))
            })?;
        for row in rows {
            kept.push(row?);
        }
    }
    kept.sort_by_key(|queued| queued.position);
    kept.truncate(KEPT_AT_ONCE);
    Ok(kept)
}

/// The queue of a subscriber.
fn queue_of(db: &Connection, subscriber: &ClientToken) -> rusqlite::Result<Option<i64>> {
    db.prepare_cached("SELECT id FROM queues WHERE subscriber = ?1")?
        .query_row([subscriber.reveal()], |row| row.get(0))
        .optional()
}

fn replay(
    db: &Connection,
    subscriber: &ClientToken,
    items: &[Item],
    now_ms: u64,
) -> rusqlite::Result<bool> {
    let Some(queue) = queue_of(db, subscriber)? else { return Ok(false) };
    if !items.is_empty() {
        append(db, queue, items, now_ms)?;
    }
    Ok(true)
}

fn subscribe_from(
    db: &Connection,
    subscriber: &ClientToken,
    topics: &[TopicName],
    after: EventPosition,
    now_ms: u64,
) -> rusqlite::Result<Caught> {
    let Some(queue) = queue_of(db, subscriber)? else { return Ok(Caught::Gone) };
    let kept = kept(db, topics, after)?;
    let last = kept.last().map(|queued| queued.position);
    let items: Vec<Item> = kept.into_iter().map(|queued| queued.item).collect();
    if !items.is_empty() {
        append(db, queue, &items, now_ms)?;
    }
    if let Some(last) = last.filter(|_| items.len() == KEPT_AT_ONCE) {
        return Ok(Caught::UpTo(last));
    }
    for topic in topics {
        db.prepare_cached("INSERT OR IGNORE INTO subscriptions (topic, queue_id) VALUES (?1, ?2)")?
            .execute(params![topic.as_str(), queue])?;
    }
    Ok(Caught::Up)
}

/// What the `keeps` table says of a topic, or of one that has ended.
struct KeepState {
    id: i64,
    has_ended: bool,
    ms: u64,
    bytes: i64,
    kept_bytes: i64,
}

fn forget(db: &Connection, now_ms: u64) -> rusqlite::Result<bool> {
    let states = db
        .prepare_cached("SELECT id, topic IS NULL, ms, bytes, kept_bytes FROM keeps")?
        .query_map([], |row| {
            Ok(KeepState {
                id: row.get(0)?,
                has_ended: row.get(1)?,
                ms: row.get(2)?,
                bytes: row.get(3)?,
                kept_bytes: row.get(4)?,
            })
        })?
        .collect::<rusqlite::Result<Vec<_>>>()?;
    let mut has_more = false;
    for state in states {
        let forgotten = if state.has_ended {
            let forgotten = forget_of(db, state.id, i64::MAX, state.kept_bytes)?;
            db.prepare_cached(
                "DELETE FROM keeps WHERE id = ?1
                 AND NOT EXISTS (SELECT 1 FROM kept_events WHERE keep_id = ?1)",
            )?
            .execute([state.id])?;
            forgotten
        } else {
            let oldest_ms = now_ms.saturating_sub(state.ms) as i64;
            forget_of(db, state.id, oldest_ms, state.kept_bytes - state.bytes)?
        };
        has_more |= forgotten == FORGOTTEN_AT_ONCE;
    }
    Ok(has_more)
}

/// Forgets the oldest events of a topic, a portion at most: those from before a time, and as many as amount to so many
/// bytes. How many it were.
fn forget_of(
    db: &Connection,
    keep_id: i64,
    oldest_ms: i64,
    excess: i64,
) -> rusqlite::Result<usize> {
    let mut select = db.prepare_cached(
        "SELECT event, at_ms, length(payload) FROM kept_events WHERE keep_id = ?1
         ORDER BY event LIMIT ?2",
    )?;
    let mut rows = select.query(params![keep_id, FORGOTTEN_AT_ONCE])?;
    let (mut last, mut bytes, mut count) = (None, 0, 0);
    while let Some(row) = rows.next()? {
        if row.get::<_, i64>(1)? >= oldest_ms && bytes >= excess {
            break;
        }
        last = Some(row.get::<_, i64>(0)?);
        bytes += room_of(row.get(2)?);
        count += 1;
    }
    if let Some(last) = last {
        db.prepare_cached("DELETE FROM kept_events WHERE keep_id = ?1 AND event <= ?2")?
            .execute([keep_id, last])?;
        db.prepare_cached("UPDATE keeps SET kept_bytes = max(kept_bytes - ?2, 0) WHERE id = ?1")?
            .execute([keep_id, bytes])?;
    }
    Ok(count)
}
