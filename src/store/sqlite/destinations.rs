//! When the calls of a destination are looked at.

use rusqlite::{Connection, params};

use crate::store::publisher_of;

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
