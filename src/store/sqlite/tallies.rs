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
            for (subject, tally) in &tallies {
                if let Some(subject) = admit(db, &subject.name(), at_ms)? {
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

/// The number of a subject, if there is room for it.
fn admit(db: &Connection, name: &str, at_ms: u64) -> rusqlite::Result<Option<i64>> {
    let seen = || {
        db.prepare_cached("UPDATE tally_subjects SET seen_ms = ?2 WHERE name = ?1 RETURNING id")?
            .query_row(params![name, at_ms], |row| row.get(0))
            .optional()
    };
    let make = || {
        db.prepare_cached(
            "INSERT INTO tally_subjects (name, seen_ms) SELECT ?1, ?2
             WHERE (SELECT count(*) FROM tally_subjects) < ?3 RETURNING id",
        )?
        .query_row(params![name, at_ms, TALLY_SUBJECTS_MAX as u64], |row| row.get(0))
        .optional()
    };
    if let Some(id) = seen()? {
        return Ok(Some(id));
    }
    if let Some(id) = make()? {
        return Ok(Some(id));
    }
    let gone = db
        .prepare_cached("DELETE FROM tally_subjects WHERE seen_ms < ?1")?
        .execute([Span::Day.kept_since(at_ms)])?;
    if gone > 0 { make() } else { Ok(None) }
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
