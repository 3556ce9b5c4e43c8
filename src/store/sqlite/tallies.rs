//! What passed, counted over time.

use async_trait::async_trait;
use rusqlite::{Connection, OptionalExtension, params};

use super::SqliteStore;
use crate::bus::tally::{Span, Subject, Tally};
use crate::store::{StoreResult, TALLY_SUBJECTS_MAX, Tallies};

/// How many buckets that are too old are forgotten at once.
const FORGOTTEN_AT_ONCE: u64 = 5_000;

#[async_trait]
impl Tallies for SqliteStore {
    async fn add_tallies(&self, at_ms: u64, tallies: Vec<(Subject, Tally)>) -> StoreResult<()> {
        self.write_lazily(move |db| {
            let mut room = room(db, at_ms)?;
            for (subject, tally) in &tallies {
                if let Some(subject) = admit(db, &subject.name(), at_ms, &mut room)? {
                    for span in Span::ALL {
                        add(db, span, span.start_of(at_ms), subject, tally)?;
                    }
                }
            }
            Span::ALL.into_iter().try_for_each(|span| forget(db, span, at_ms))
        })
        .await
    }

    async fn tallies(
        &self,
        subject: &Subject,
        span: Span,
        starts_ms: Vec<u64>,
    ) -> StoreResult<Vec<(u64, Tally)>> {
        let name = subject.name();
        self.reader
            .run(move |db| {
                let mut find = db.prepare_cached(
                    "SELECT volume, success, failure, waited_ms, queued FROM tallies
                     WHERE span_ms = ?1 AND start_ms = ?2
                         AND subject = (SELECT id FROM tally_subjects WHERE name = ?3)",
                )?;
                let mut found = Vec::new();
                for start_ms in starts_ms {
                    let tally = find.query_row(params![span.length_ms(), start_ms, name], |row| {
                        Ok(Tally {
                            volume: row.get(0)?,
                            success: row.get(1)?,
                            failure: row.get(2)?,
                            waited_ms: row.get(3)?,
                            queued: row.get(4)?,
                        })
                    });
                    found.extend(tally.optional()?.map(|tally| (start_ms, tally)));
                }
                Ok(found)
            })
            .await
    }
}

/// For how many subjects more there is room; those that were not counted for long make it.
fn room(db: &Connection, at_ms: u64) -> rusqlite::Result<usize> {
    let count = || -> rusqlite::Result<usize> {
        db.prepare_cached("SELECT count(*) FROM tally_subjects")?.query_row([], |row| row.get(0))
    };
    if count()? >= TALLY_SUBJECTS_MAX {
        db.prepare_cached("DELETE FROM tally_subjects WHERE seen_ms < ?1")?
            .execute([Span::Day.kept_since(at_ms)])?;
    }
    Ok(TALLY_SUBJECTS_MAX.saturating_sub(count()?))
}

/// The number of a subject, if there is room for it.
fn admit(
    db: &Connection,
    name: &str,
    at_ms: u64,
    room: &mut usize,
) -> rusqlite::Result<Option<i64>> {
    let seen = db
        .prepare_cached("UPDATE tally_subjects SET seen_ms = ?2 WHERE name = ?1 RETURNING id")?
        .query_row(params![name, at_ms], |row| row.get(0))
        .optional()?;
    if seen.is_some() || *room == 0 {
        return Ok(seen);
    }
    *room -= 1;
    db.prepare_cached("INSERT INTO tally_subjects (name, seen_ms) VALUES (?1, ?2) RETURNING id")?
        .query_row(params![name, at_ms], |row| row.get(0))
        .optional()
}

fn add(
    db: &Connection,
    span: Span,
    start_ms: u64,
    subject: i64,
    tally: &Tally,
) -> rusqlite::Result<()> {
    let Tally { volume, success, failure, waited_ms, queued } = tally;
    db.prepare_cached(
        "INSERT INTO tallies VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)
         ON CONFLICT (span_ms, start_ms, subject) DO UPDATE SET
             volume = volume + ?4, success = success + ?5, failure = failure + ?6,
             waited_ms = waited_ms + ?7, queued = max(queued, ?8)",
    )?
    .execute(params![
        span.length_ms(),
        start_ms,
        subject,
        volume,
        success,
        failure,
        waited_ms,
        queued
    ])?;
    Ok(())
}

fn forget(db: &Connection, span: Span, now_ms: u64) -> rusqlite::Result<()> {
    db.prepare_cached(
        "DELETE FROM tallies WHERE (span_ms, start_ms, subject) IN (
             SELECT span_ms, start_ms, subject FROM tallies
             WHERE span_ms = ?1 AND start_ms < ?2 LIMIT ?3)",
    )?
    .execute(params![span.length_ms(), span.kept_since(now_ms), FORGOTTEN_AT_ONCE])?;
    Ok(())
}
