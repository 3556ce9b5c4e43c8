//! When a queue is due: the one place that says so. A new state of a queue is taught here.
//!
//! While a batch is in a worker's hands (leased, or waiting to be sent again), the worker says when the
//! queue is due, by the lease or by the pause. Else it follows from what waits. A queue that is paused is due
//! only when the lease runs out that was given before. One that its subscriber pulls from is never due.

use rusqlite::{Connection, params};

use crate::store::BROKEN_OFF_AFTER;

/// In SQL, of a row of `queues`: whether what waits says nothing of when it is due, because a batch of it is in a
/// worker's hands, because it is paused, or because its subscriber asks for its batches.
pub const IN_HAND: &str = "(leased OR batch_number IS NOT NULL OR keeps_pause OR paused_ms IS NOT NULL OR callback = 'pull:')";

/// What waits in a queue that no worker has in hand.
pub struct Waiting {
    pub items: i64,
    pub max: i64,
    pub timeout_ms: i64,
}

impl Waiting {
    /// When the next batch leaves; `oldest_ms` tells when the oldest item was accepted.
    pub fn due_ms<E>(
        &self,
        now_ms: i64,
        oldest_ms: impl FnOnce() -> Result<i64, E>,
    ) -> Result<Option<i64>, E> {
        if self.items == 0 {
            return Ok(None);
        }
        if self.items >= self.max {
            return Ok(Some(now_ms));
        }
        // Not from a time to come, if the clock was set back meanwhile.
        Ok(Some(oldest_ms()?.min(now_ms) + self.timeout_ms))
    }
}

/// What an appended item changes of when a queue is due.
pub fn after_append(
    waiting: &Waiting,
    was_empty: bool,
    in_hand: bool,
    due_ms: Option<i64>,
    now_ms: i64,
) -> Option<i64> {
    if in_hand {
        return due_ms;
    }
    if waiting.items >= waiting.max {
        return Some(due_ms.map_or(now_ms, |due_ms| due_ms.min(now_ms)));
    }
    // Behind others, an item does not change when the oldest one has waited for long enough.
    let of_this = now_ms + waiting.timeout_ms;
    // What is set aside may be due before.
    if was_empty { Some(due_ms.map_or(of_this, |due_ms| due_ms.min(of_this))) } else { due_ms }
}

/// Works out anew when a queue is due of which no batch is in a worker's hands: its items, or how they
/// are to be delivered, have changed.
pub fn reschedule(db: &Connection, queue_id: i64, now_ms: u64) -> rusqlite::Result<()> {
    let sql =
        format!("SELECT next - head, max, timeout_ms FROM queues WHERE id = ?1 AND NOT {IN_HAND}");
    let waiting = db.prepare_cached(&sql)?.query_row([queue_id], |row| {
        Ok(Waiting { items: row.get(0)?, max: row.get(1)?, timeout_ms: row.get(2)? })
    });
    let waiting = match waiting {
        Err(rusqlite::Error::QueryReturnedNoRows) => return Ok(()),
        waiting => waiting?,
    };
    let due_ms = waiting.due_ms(now_ms as i64, || oldest_ms(db, queue_id))?;
    let aside_ms: Option<i64> = db
        .prepare_cached("SELECT min(due_ms) FROM aside_entities WHERE queue_id = ?1")?
        .query_row([queue_id], |row| row.get(0))?;
    let due_ms = due_ms.into_iter().chain(aside_ms).min();
    db.prepare_cached("UPDATE queues SET due_ms = ?2 WHERE id = ?1")?
        .execute(params![queue_id, due_ms])?;
    Ok(())
}

/// When the oldest item of a queue was accepted.
pub fn oldest_ms(db: &Connection, queue_id: i64) -> rusqlite::Result<i64> {
    db.prepare_cached(
        "SELECT at_ms FROM items
         WHERE position = (SELECT (id << 40) + head FROM queues WHERE id = ?1)",
    )?
    .query_row([queue_id], |row| row.get(0))
}

/// In SQL, of a row of `queues` whose subscriber subscribes with the callback ?3 and the uuid ?4: when it
/// is due. What waits to be sent again goes at once to a new callback, and by ?11 with a new uuid; a delivery to
/// an old callback is over by ?8. A queue that no worker has in hand is left to [`reschedule`].
pub const AFTER_SUBSCRIBING: &str = "CASE
        WHEN ?3 = 'pull:' THEN NULL
        WHEN callback IS ?3 AND uuid IS ?4 THEN due_ms
        WHEN paused_ms IS NOT NULL AND NOT leased THEN NULL
        WHEN batch_number IS NULL AND NOT keeps_pause THEN due_ms
        WHEN NOT leased AND callback IS ?3 THEN min(coalesce(due_ms, ?11), ?11)
        WHEN NOT leased THEN ?7
        WHEN callback IS NOT ?3 THEN ?8
        ELSE due_ms
    END";

/// When a delivery is over that goes to a callback which its subscriber has left.
pub fn broken_off_ms(now_ms: u64) -> u64 {
    now_ms + BROKEN_OFF_AFTER.as_millis() as u64
}

/// Ends what holds a queue: what waits to be sent again is due at once, else it follows from what waits.
pub fn let_go(db: &Connection, queue_id: i64, now_ms: u64) -> rusqlite::Result<()> {
    db.prepare_cached(
        "UPDATE queues SET paused_ms = NULL, paused_by = NULL, due_ms = CASE
             WHEN leased THEN due_ms
             WHEN callback = 'pull:' THEN NULL
             WHEN batch_number IS NOT NULL OR keeps_pause THEN ?2
         END WHERE id = ?1",
    )?
    .execute(params![queue_id, now_ms])?;
    reschedule(db, queue_id, now_ms)
}
