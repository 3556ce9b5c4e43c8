//! Dropping items: the oldest across all queues, or what their subscribers do not want any more.
//! Each function that writes runs inside one transaction.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use rusqlite::{Connection, OptionalExtension, Row, params};

use super::due::reschedule;
use crate::bus::token::ClientToken;
use crate::store::{DROP_STEP, Dropped, Drops, ITEM_OVERHEAD};

/// Why items are dropped: the column of `queues` that counts them.
#[derive(Clone, Copy)]
enum Reason {
    NoRoom,
    Expired,
}

/// A queue from which items may be dropped: those from `from` on. What stands before them is in
/// flight, or counts as dropped already.
struct Source {
    id: i64,
    subscriber: ClientToken,
    from: i64,
    found: Dropped,
}

impl Source {
    /// What [`Source::from_row`] reads of `queues`.
    const COLUMNS: &str = "id, subscriber, iif(leased, batch_last + 1, head)";

    fn from_row(row: &Row<'_>) -> rusqlite::Result<Self> {
        Ok(Self {
            id: row.get(0)?,
            subscriber: ClientToken::from_stored(&row.get::<_, String>(1)?),
            from: row.get(2)?,
            found: Dropped::default(),
        })
    }

    /// When the next item was accepted, and the room it takes.
    fn look(&self, db: &Connection) -> rusqlite::Result<Option<(u64, u64)>> {
        db.prepare_cached(
            "SELECT at_ms, length(payload) FROM items WHERE position = (?1 << 40) + ?2",
        )?
        .query_row(params![self.id, self.from + self.found.items as i64], |row| {
            Ok((row.get(0)?, row.get::<_, u64>(1)? + ITEM_OVERHEAD))
        })
        .optional()
    }

    fn take(&mut self, bytes: u64) {
        self.found.items += 1;
        self.found.bytes += bytes;
    }
}

/// How many queues one call of [`droppable`] looks at, and how many items of each.
const QUEUES_AT_ONCE: usize = 1_000;
const SAMPLES: i64 = 16;

/// What could be dropped of each queue after one, a portion of them; and the last one of the portion, if
/// there may be more.
pub fn droppable(db: &Connection, after: i64) -> rusqlite::Result<(Drops, Option<i64>)> {
    let sql = format!(
        "SELECT {}, next FROM queues WHERE id > ?1 AND next > head ORDER BY id LIMIT ?2",
        Source::COLUMNS
    );
    let queues = db
        .prepare_cached(&sql)?
        .query_map(params![after, QUEUES_AT_ONCE as i64], |row| {
            Ok((Source::from_row(row)?, row.get::<_, i64>(3)?))
        })?
        .collect::<Result<Vec<_>, _>>()?;
    let last = queues.last().map(|(source, _)| source.id);
    let is_full = queues.len() == QUEUES_AT_ONCE;
    let mut drops = Drops::default();
    for (source, next) in queues {
        let items = next - source.from;
        if items > 0 {
            let bytes = estimated_room(db, &source, items)?;
            drops.add(&source.subscriber, Dropped { items: items as u64, bytes });
        }
    }
    Ok((drops, last.filter(|_| is_full)))
}

/// The room that so many items of a queue take, by some of them that stand evenly apart.
fn estimated_room(db: &Connection, source: &Source, items: i64) -> rusqlite::Result<u64> {
    let samples = items.min(SAMPLES);
    let mut sampled = 0;
    for sample in 0..samples {
        let position = source.from + sample * items / samples;
        sampled += db
            .prepare_cached("SELECT length(payload) FROM items WHERE position = (?1 << 40) + ?2")?
            .query_row(params![source.id, position], |row| row.get::<_, u64>(0))
            .optional()?
            .unwrap_or(0)
            + ITEM_OVERHEAD;
    }
    Ok((u128::from(sampled) * items as u128 / samples as u128) as u64)
}

/// Drops the oldest items of the queues that have a share to give, up to so many bytes.
pub fn drop_oldest(
    db: &Connection,
    bytes: u64,
    shares: &Drops,
    now_ms: u64,
) -> rusqlite::Result<Drops> {
    let mut sources = Vec::new();
    for (subscriber, share) in shares.iter() {
        let sql = format!("SELECT {} FROM queues WHERE subscriber = ?1", Source::COLUMNS);
        let source = db.prepare_cached(&sql)?.query_row([subscriber.reveal()], Source::from_row);
        sources.extend(source.optional()?.map(|source| (source, share.bytes)));
    }
    let found = oldest(db, bytes, sources)?;
    drop_found(db, found, Reason::NoRoom, now_ms)
}

/// Finds the oldest items of queues, oldest first across them, of none more than so many bytes.
fn oldest(
    db: &Connection,
    bytes: u64,
    mut sources: Vec<(Source, u64)>,
) -> rusqlite::Result<Vec<Source>> {
    let mut heap = BinaryHeap::new();
    for (index, (source, _)) in sources.iter().enumerate() {
        heap.extend(source.look(db)?.map(|(at_ms, room)| Reverse((at_ms, index, room))));
    }
    let mut missing = bytes;
    for _ in 0..DROP_STEP {
        if missing == 0 {
            break;
        }
        let Some(Reverse((_, index, room))) = heap.pop() else { break };
        let (source, share) = &mut sources[index];
        source.take(room);
        missing = missing.saturating_sub(room);
        if source.found.bytes < *share {
            heap.extend(source.look(db)?.map(|(at_ms, room)| Reverse((at_ms, index, room))));
        }
    }
    let found = sources.into_iter().map(|(source, _)| source);
    Ok(found.filter(|source| source.found.items > 0).collect())
}

/// Drops what is older than its subscriber's retention, or more than it wants to have queued.
pub fn drop_expired(db: &Connection, now_ms: u64) -> rusqlite::Result<Drops> {
    // Whoever has pulled a batch and does not come back has it no more.
    db.prepare_cached(
        "UPDATE queues SET leased = 0, pull_until_ms = NULL
         WHERE callback = 'pull:' AND pull_until_ms <= ?1",
    )?
    .execute([now_ms])?;
    let sql = format!(
        "SELECT {}, ?1 - retention_ms,
             next - iif(leased, batch_last + 1, head) - max_queued FROM queues
         WHERE next > head AND (retention_ms IS NOT NULL OR max_queued IS NOT NULL)",
        Source::COLUMNS
    );
    let limited = db
        .prepare_cached(&sql)?
        .query_map([now_ms], |row| Ok((Source::from_row(row)?, row.get(3)?, row.get(4)?)))?
        .collect::<Result<Vec<(Source, Option<i64>, Option<i64>)>, _>>()?;
    let mut room_left = DROP_STEP;
    let mut expired = Vec::new();
    for (mut source, oldest_kept_ms, excess) in limited {
        while room_left > 0 {
            let Some((at_ms, room)) = source.look(db)? else { break };
            let too_old = oldest_kept_ms.is_some_and(|kept_ms| (at_ms as i64) < kept_ms);
            let too_many = excess.is_some_and(|excess| (source.found.items as i64) < excess);
            if !too_old && !too_many {
                break;
            }
            source.take(room);
            room_left -= 1;
        }
        if source.found.items > 0 {
            expired.push(source);
        }
    }
    drop_found(db, expired, Reason::Expired, now_ms)
}

fn drop_found(
    db: &Connection,
    sources: Vec<Source>,
    reason: Reason,
    now_ms: u64,
) -> rusqlite::Result<Drops> {
    let mut drops = Drops::default();
    for source in sources {
        drop_items(db, &source, reason, now_ms)?;
        drops.add(&source.subscriber, source.found);
    }
    Ok(drops)
}

fn drop_items(
    db: &Connection,
    source: &Source,
    reason: Reason,
    now_ms: u64,
) -> rusqlite::Result<()> {
    let (from, count) = (source.from, source.found.items as i64);
    db.prepare_cached(
        "DELETE FROM items WHERE position >= (?1 << 40) + ?2 AND position < (?1 << 40) + ?3",
    )?
    .execute(params![source.id, from, from + count])?;
    // A batch in flight stood before what is gone: it is numbered as if it had always stood right
    // before the rest. By way of negative numbers, so that no two are the same meanwhile.
    let moved = db
        .prepare_cached(
            "UPDATE items SET position = -(position + ?3)
             WHERE position > ?1 << 40 AND position < (?1 << 40) + ?2",
        )?
        .execute(params![source.id, from, count])?;
    if moved > 0 {
        db.prepare_cached("UPDATE items SET position = -position WHERE position < 0")?
            .execute([])?;
    }
    // What is left of a batch that waits to be sent again will be another batch. The queue stays
    // in the worker's hands, so that its pause is kept.
    let counter = match reason {
        Reason::NoRoom => "autodropped",
        Reason::Expired => "expired",
    };
    db.prepare_cached(&format!(
        "UPDATE queues SET head = head + ?2, {counter} = {counter} + ?2,
             keeps_pause = keeps_pause OR (NOT leased AND batch_number IS NOT NULL),
             batch_number = iif(leased, batch_number, NULL),
             batch_last = iif(leased, batch_last + ?2, NULL),
             attempts = iif(leased, attempts, 0), refusals = iif(leased, refusals, 0),
             suspect_last = NULL, next_max = NULL
         WHERE id = ?1"
    ))?
    .execute(params![source.id, count])?;
    reschedule(db, source.id, now_ms)
}
