//! Items of queues: how they are put in, with positions of their own, and how they are read.

use rusqlite::{Connection, params};

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
    let mut tail = Tail::load(db, queue)?;
    tail.append(db, queue, items, first, now_ms as i64)?;
    tail.save(db, queue)?;
    Ok(tail.arrival)
}

/// The end of a queue, and what changes with it. One that is loaded must be saved.
pub struct Tail {
    next: i64,
    head: i64,
    timeout_ms: i64,
    max: i64,
    /// The subscriber, if it asks for its batches and nothing waited for it.
    pub arrival: Option<ClientToken>,
    /// A batch was given out: the worker, not the publisher, says when the queue is due.
    pub in_hand: bool,
    pub due_ms: Option<i64>,
}

impl Tail {
    pub fn load(db: &Connection, queue: i64) -> rusqlite::Result<Self> {
        db.prepare_cached(&format!(
            "SELECT next, head, timeout_ms, max, {IN_HAND}, due_ms,
             iif(callback = 'pull:' AND next = head, subscriber, NULL)
         FROM queues WHERE id = ?1"
        ))?
        .query_row([queue], |row| {
            let arrival: Option<String> = row.get(6)?;
            Ok(Self {
                arrival: arrival.as_deref().map(ClientToken::from_stored),
                next: row.get(0)?,
                head: row.get(1)?,
                timeout_ms: row.get(2)?,
                max: row.get(3)?,
                in_hand: row.get(4)?,
                due_ms: row.get(5)?,
            })
        })
    }

    /// Puts items at the end, of which the first has this position.
    pub fn append(
        &mut self,
        db: &Connection,
        queue: i64,
        items: &[Item],
        first: EventPosition,
        now_ms: i64,
    ) -> rusqlite::Result<()> {
        let mut insert = db.prepare_cached(
            "INSERT INTO items (position, at_ms, payload, event)
             VALUES ((?1 << 40) + ?2, ?3, ?4, ?5)",
        )?;
        let was_empty = self.next == self.head;
        for (index, item) in items.iter().enumerate() {
            let event = first.plus(index as u64).number();
            insert.execute(params![queue, self.next, now_ms, &item[..], event])?;
            self.next += 1;
        }
        let (items, max, timeout_ms) = (self.next - self.head, self.max, self.timeout_ms);
        let waiting = Waiting { items, max, timeout_ms };
        self.due_ms = after_append(&waiting, was_empty, self.in_hand, self.due_ms, now_ms);
        Ok(())
    }

    pub fn save(&self, db: &Connection, queue: i64) -> rusqlite::Result<()> {
        db.prepare_cached("UPDATE queues SET next = ?2, due_ms = ?3 WHERE id = ?1")?
            .execute(params![queue, self.next, self.due_ms])?;
        Ok(())
    }
}
