//! Duties: which process does what for all.

use std::time::Duration;

use async_trait::async_trait;
use rusqlite::{Connection, params};

use super::SqliteStore;
use crate::store::{Duties, Duty, StoreResult};

/// No process takes a duty for longer.
const DUTY_TERM_MAX_MS: u64 = 60_000;

#[async_trait]
impl Duties for SqliteStore {
    async fn take_duty(&self, duty: Duty, term: Duration) -> StoreResult<bool> {
        let (process, now_ms) = (self.process.clone(), self.clock.now_ms());
        self.write_lazily(move |db| take_duty(db, duty, &process, term, now_ms)).await
    }
}

/// A term that ends later than any can was set before the clock was set back.
fn take_duty(
    db: &Connection,
    duty: Duty,
    process: &str,
    term: Duration,
    now_ms: u64,
) -> rusqlite::Result<bool> {
    let term_ms = term.as_millis() as u64;
    let taken = db
        .prepare_cached(
            "INSERT INTO duties (name, holder, until_ms) VALUES (?1, ?2, ?3 + ?4)
             ON CONFLICT (name) DO UPDATE SET holder = ?2, until_ms = ?3 + ?4
             WHERE holder = ?2 OR until_ms <= ?3 OR until_ms > ?3 + ?5",
        )?
        .execute(params![duty.name(), process, now_ms, term_ms, DUTY_TERM_MAX_MS])?;
    Ok(taken > 0)
}
