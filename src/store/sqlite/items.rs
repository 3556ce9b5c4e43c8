//! Items of queues: how they are put in, with positions of their own, and how they are read.

use std::sync::LazyLock;

use rusqlite::{CachedStatement, Connection, params};

use super::due::{IN_HAND, Waiting, after_append};
use crate::bus::item::{Item, QueuedItem};
use crate::bus::position::EventPosition;
use crate::bus::token::ClientToken;

/// An item as it is stored: one from before there were positions is taken for its time.
pub fn queued_item(payload: &[u8], at_ms: u64, event: Option<u64>) -> QueuedItem {
    let position = event.map_or_else(|| EventPosition::of_time(at_ms), EventPosition::new);
    QueuedItem { position, item: payload.to_vec().into() }
}

/// The first of so many positions that nothing else will have.
pub fn take_positions(db: &Connection, count: u64, now_ms: u64) -> rusqlite::Result<EventPosition> {
    let after: u64 = db
        .prepare_cached(
            "UPDATE event_positions SET last = max(last + 1, ?1) + ?2 - 1 RETURNING last + 1",
        )?
        .query_row(params![EventPosition::of_time(now_ms).number(), count], |row| row.get(0))?;
    Ok(EventPosition::new(after - count))
}

/// Puts items at the end of a queue, after all that is there. Returns its subscriber, if it asks for its batches and
/// nothing waited for it.
pub fn append(
    db: &Connection,
    queue: i64,
    items: &[Item],
    now_ms: u64,
) -> rusqlite::Result<Option<ClientToken>> {
    let first = take_positions(db, items.len() as u64, now_ms)?;
    Ok(Appending::new(db)?.append(queue, [(items, first)], now_ms as i64)?.arrival)
}

/// Puts items at the ends of queues, one queue after the other: what one gets stands side by side in the file.
pub struct Appending<'db> {
    load: CachedStatement<'db>,
    insert: CachedStatement<'db>,
    save: CachedStatement<'db>,
}

/// What appending has changed of a queue.
pub struct Appended {
    /// The subscriber, if it asks for its batches and nothing waited for it.
    pub arrival: Option<ClientToken>,
    /// When it is due, if the worker who has it in hand does not say so.
    pub due_ms: Option<i64>,
}

/// The end of a queue.
struct Tail {
    next: i64,
    head: i64,
    timeout_ms: i64,
    max: i64,
    /// A batch was given out: the worker, not the publisher, says when the queue is due.
    in_hand: bool,
    due_ms: Option<i64>,
    arrival: Option<String>,
}

static LOAD: LazyLock<String> = LazyLock::new(|| {
    format!(
        "SELECT next, head, timeout_ms, max, {IN_HAND}, due_ms,
             iif(callback = 'pull:' AND next = head, subscriber, NULL)
         FROM queues WHERE id = ?1"
    )
});

impl<'db> Appending<'db> {
    pub fn new(db: &'db Connection) -> rusqlite::Result<Self> {
        Ok(Self {
            load: db.prepare_cached(&LOAD)?,
            insert: db.prepare_cached(
                "INSERT INTO items (position, at_ms, payload, event)
                 VALUES ((?1 << 40) + ?2, ?3, ?4, ?5)",
            )?,
            save: db.prepare_cached("UPDATE queues SET next = ?2, due_ms = ?3 WHERE id = ?1")?,
        })
    }

    /// Puts items at the end of a queue, each run with the position of its first one.
    pub fn append<'a>(
        &mut self,
        queue: i64,
        runs: impl IntoIterator<Item = (&'a [Item], EventPosition)>,
        now_ms: i64,
    ) -> rusqlite::Result<Appended> {
        let Tail { mut next, head, timeout_ms, max, in_hand, due_ms, arrival } =
            self.tail(queue)?;
        let was_empty = next == head;
        for (items, first) in runs {
            for (index, item) in items.iter().enumerate() {
                let event = first.plus(index as u64).number();
                self.insert.execute(params![queue, next, now_ms, &item[..], event])?;
                next += 1;
            }
        }
        let waiting = Waiting { items: next - head, max, timeout_ms };
        let due_ms = after_append(&waiting, was_empty, in_hand, due_ms, now_ms);
        self.save.execute(params![queue, next, due_ms])?;
        Ok(Appended {
            arrival: arrival.as_deref().map(ClientToken::from_stored),
            due_ms: due_ms.filter(|_| !in_hand),
        })
    }

    fn tail(&mut self, queue: i64) -> rusqlite::Result<Tail> {
        self.load.query_row([queue], |row| {
            Ok(Tail {
                next: row.get(0)?,
                head: row.get(1)?,
                timeout_ms: row.get(2)?,
                max: row.get(3)?,
                in_hand: row.get(4)?,
                due_ms: row.get(5)?,
                arrival: row.get(6)?,
            })
        })
    }
}
