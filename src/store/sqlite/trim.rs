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

/// Drops the oldest items, up to so many bytes.
pub fn drop_oldest(db: &Connection, bytes: u64, now_ms: u64) -> rusqlite::Result<Drops> {
    let sources = oldest(db, bytes, &Drops::default())?;
    drop_found(db, sources, Reason::NoRoom, now_ms)
}

/// Says what [`drop_oldest`] would drop if `before` had been dropped already.
pub fn preview_drop(db: &Connection, bytes: u64, before: &Drops) -> rusqlite::Result<Drops> {
    let mut drops = Drops::default();
    for source in oldest(db, bytes, before)? {
        drops.add(&source.subscriber, source.found);
    }
    Ok(drops)
}

/// Finds the oldest items of all queues, oldest first across queues.
fn oldest(db: &Connection, bytes: u64, skipped: &Drops) -> rusqlite::Result<Vec<Source>> {
    let sql = format!("SELECT {} FROM queues WHERE next > head", Source::COLUMNS);
    let mut sources =
        db.prepare_cached(&sql)?.query_map([], Source::from_row)?.collect::<Result<Vec<_>, _>>()?;
    let mut heap = BinaryHeap::new();
    for (index, source) in sources.iter_mut().enumerate() {
        source.from += skipped.of(&source.subscriber).items as i64;
        heap.extend(source.look(db)?.map(|(at_ms, room)| Reverse((at_ms, index, room))));
    }
    let mut missing = bytes;
    for _ in 0..DROP_STEP {
        if missing == 0 {
            break;
        }
        let Some(Reverse((_, index, room))) = heap.pop() else { break };
        let source = &mut sources[index];
        source.take(room);
        missing = missing.saturating_sub(room);
        heap.extend(source.look(db)?.map(|(at_ms, room)| Reverse((at_ms, index, room))));
    }
    sources.retain(|source| source.found.items > 0);
    Ok(sources)
}

/// Drops what is older than its subscriber's retention, or more than it wants to have queued.
pub fn drop_expired(db: &Connection, now_ms: u64) -> rusqlite::Result<Drops> {
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
             attempts = iif(leased, attempts, 0)
         WHERE id = ?1"
    ))?
    .execute(params![source.id, count])?;
    reschedule(db, source.id, now_ms)
}
