//! When the calls of a destination are looked at, and how it goes with them.

use rusqlite::{Connection, params};

use crate::store::{DestinationStatus, WAITING_COUNTED, publisher_of};

/// Works out when a destination's next call is due, and forgets one that has none.
pub(super) fn reschedule(db: &Connection, destination: &str) -> rusqlite::Result<()> {
    db.prepare_cached(
        "UPDATE destinations SET due_ms = (
             SELECT min(due_ms) FROM calls WHERE destination = ?1 AND due_ms IS NOT NULL)
         WHERE name = ?1",
    )?
    .execute([destination])?;
    db.prepare_cached(
        "DELETE FROM destinations
         WHERE name = ?1 AND due_ms IS NULL AND in_flight = 0",
    )?
    .execute([destination])?;
    Ok(())
}

/// Lets a destination be looked at from then on.
pub(super) fn expect(db: &Connection, destination: &str, due_ms: i64) -> rusqlite::Result<()> {
    db.prepare_cached(
        "INSERT INTO destinations (name, due_ms, publisher) VALUES (?1, ?2, ?3)
         ON CONFLICT (name) DO UPDATE SET due_ms = min(coalesce(due_ms, ?2), ?2)",
    )?
    .execute(params![destination, due_ms, publisher_of(destination)])?;
    Ok(())
}

/// Those that something waits for, those that fail first.
pub(super) fn list(db: &Connection, at_most: usize) -> rusqlite::Result<Vec<DestinationStatus>> {
    let mut look = db.prepare_cached(
        "SELECT name, in_flight, failures, due_ms,
             (SELECT count(*) FROM (SELECT 1 FROM calls
                  WHERE destination = name AND due_ms IS NOT NULL LIMIT ?2))
         FROM (SELECT * FROM (SELECT * FROM destinations WHERE failures > 0 AND due_ms IS NOT NULL
                              ORDER BY failures DESC LIMIT ?1)
               UNION ALL SELECT * FROM (SELECT * FROM destinations WHERE failures = 0 AND due_ms IS NOT NULL
                                        ORDER BY due_ms LIMIT ?1))
         LIMIT ?1",
    )?;
    let rows = look.query_map(params![at_most, WAITING_COUNTED], |row| {
        Ok(DestinationStatus {
            destination: row.get(0)?,
            in_flight: row.get(1)?,
            failures: row.get(2)?,
            due_ms: row.get(3)?,
            waiting: row.get(4)?,
        })
    })?;
    rows.collect()
}
