//! Chores that are done in small portions beside the claims, so that none of them holds up a
//! publisher: the items of removed subscribers, what is remembered of imports, and the disk space
//! that a backlog has left. And how much of that space is taken.

use std::time::Duration;

use rusqlite::{Connection, OptionalExtension};

use super::imports;
use crate::store::{ITEM_OVERHEAD, Usage};

/// The pause between two portions, which leaves the file to others.
pub const PAUSE: Duration = Duration::from_millis(10);
/// How many items of a removed queue one claim takes away.
const ITEMS_AT_ONCE: u32 = 2_000;
/// How many free pages (of 4 KiB) may stay in the file, and how many are given back at once.
const FREE_PAGES_KEPT: u32 = 1_000;
const PAGES_AT_ONCE: u32 = 500;

/// Does one portion; `true` if there is more to do.
pub fn tidy(db: &Connection, now_ms: u64) -> rusqlite::Result<bool> {
    Ok(drop_removed_items(db)? || imports::forget(db, now_ms)? || give_back_space(db)?)
}

/// Takes some items of a removed subscriber away; `false` if there is no such subscriber any more.
pub fn drop_removed_items(db: &Connection) -> rusqlite::Result<bool> {
    let queue: Option<i64> = db
        .prepare_cached("SELECT id FROM removed_queues LIMIT 1")?
        .query_row([], |row| row.get(0))
        .optional()?;
    let Some(queue) = queue else {
        return Ok(false);
    };
    let removed = db
        .prepare_cached(
            "DELETE FROM items WHERE position > ?1 << 40 AND position < (?1 + 1) << 40
                 AND position <= ?2 +
                     (SELECT min(position) FROM items WHERE position > ?1 << 40)",
        )?
        .execute([queue, i64::from(ITEMS_AT_ONCE) - 1])?;
    if removed == 0 {
        db.execute("DELETE FROM removed_queues WHERE id = ?1", [queue])?;
    }
    Ok(true)
}

/// About the room that the items of removed subscribers take: so many as stand there, of the size of the
/// first ones. To add them all up would hold up whoever asks the reader, such as for who is let in.
fn room_of_removed(db: &Connection) -> rusqlite::Result<u64> {
    const SAMPLE: u32 = 64;
    let room: f64 = db
        .prepare_cached(
            "SELECT coalesce(sum((last - first + 1) * (size + ?1)), 0) FROM (
                 SELECT
                     (SELECT min(position) FROM items
                      WHERE position > id << 40 AND position < (id + 1) << 40) AS first,
                     (SELECT max(position) FROM items
                      WHERE position > id << 40 AND position < (id + 1) << 40) AS last,
                     (SELECT avg(length(payload)) FROM (
                          SELECT payload FROM items
                          WHERE position > id << 40 AND position < (id + 1) << 40
                          ORDER BY position LIMIT ?2)) AS size
                 FROM removed_queues)
             WHERE first IS NOT NULL",
        )?
        .query_row([ITEM_OVERHEAD, u64::from(SAMPLE)], |row| row.get(0))?;
    Ok(room as u64)
}

fn give_back_space(db: &Connection) -> rusqlite::Result<bool> {
    let free: u32 = db.pragma_query_value(None, "freelist_count", |row| row.get(0))?;
    if free <= FREE_PAGES_KEPT {
        return Ok(false);
    }
    let mut vacuum = db.prepare(&format!("PRAGMA incremental_vacuum({PAGES_AT_ONCE})"))?;
    let mut rows = vacuum.query([])?;
    // The pragma gives back one page a step.
    while rows.next()?.is_some() {}
    Ok(true)
}

/// The pages that hold something, but for what removed subscribers have left, which goes by itself.
/// Pages that are free are used again before the file grows.
pub fn usage(db: &Connection) -> rusqlite::Result<Usage> {
    let pragma = |name: &str| db.pragma_query_value(None, name, |row| row.get::<_, u64>(0));
    let pages = pragma("page_count")?.saturating_sub(pragma("freelist_count")?);
    let used = (pages * pragma("page_size")?).saturating_sub(room_of_removed(db)?);
    Ok(Usage { used, limit: None, cpu: None })
}

#[cfg(test)]
mod tests {
    use super::super::{checkpoints, schema};
    use super::*;

    #[test]
    fn the_room_of_a_backlog_is_given_back_to_the_disk() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("t.db");
        let db = schema::connect(&path).unwrap();
        schema::migrate(&db).unwrap();
        let length = || std::fs::metadata(&path).unwrap().len();
        db.execute_batch(
            "WITH RECURSIVE numbers (value) AS (
                 SELECT 1 UNION ALL SELECT value + 1 FROM numbers LIMIT 5000)
             INSERT INTO items (position, at_ms, payload)
                 SELECT value, 0, zeroblob(4000) FROM numbers",
        )
        .unwrap();
        checkpoints::bring(&db).unwrap();
        let full = length();
        assert!(full > 20_000_000, "{full}");
        db.execute_batch("DELETE FROM items").unwrap();
        while tidy(&db, 0).unwrap() {}
        assert_eq!(length(), full, "it is in the log still");
        checkpoints::bring(&db).unwrap();
        assert!(length() <= 2 * 4096 * u64::from(FREE_PAGES_KEPT), "{}", length());
    }
}
