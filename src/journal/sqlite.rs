//! The journal in an SQLite file of its own, with an index for each filter and one for any text.

use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::Context;
use async_trait::async_trait;
use rusqlite::types::Value;
use rusqlite::{Connection, OpenFlags, Row, TransactionBehavior, params_from_iter};

use super::{
    CarriedEvents, Entry, EntryKind, Journal, JournalBounds, JournalError, JournalPage,
    JournalQuery, Owner,
};
use crate::files::create_private_file;

const FILE: &str = "journal.db";
/// How long another process may hold the file.
const BUSY_TIMEOUT: Duration = Duration::from_secs(2);
/// How many entries one append takes away at most.
const FORGET_MAX: u64 = 2_000;
/// The shortest text that the index finds, and how much of one it is asked for, in characters.
const INDEXED: usize = 3;
const TEXT_MAX: usize = 60;

const TABLES: &str = "
    CREATE TABLE IF NOT EXISTS entries (
        number INTEGER PRIMARY KEY AUTOINCREMENT,
        at_ms INTEGER NOT NULL, kind TEXT NOT NULL, id TEXT NOT NULL, owner TEXT NOT NULL,
        client TEXT NOT NULL, target TEXT NOT NULL, attempt INTEGER NOT NULL, failed INTEGER NOT NULL,
        status INTEGER, took_ms INTEGER NOT NULL, bytes INTEGER NOT NULL, next_ms INTEGER,
        title TEXT NOT NULL, error TEXT NOT NULL, answer TEXT NOT NULL,
        first_event INTEGER, last_event INTEGER, events TEXT
    );
    CREATE INDEX IF NOT EXISTS entries_by_id ON entries (id);
    CREATE INDEX IF NOT EXISTS entries_by_owner ON entries (owner);
    CREATE INDEX IF NOT EXISTS entries_by_target ON entries (target);
    CREATE INDEX IF NOT EXISTS entries_by_status ON entries (status) WHERE failed;
    CREATE INDEX IF NOT EXISTS entries_by_failure ON entries (failed) WHERE failed;
    CREATE INDEX IF NOT EXISTS entries_by_time ON entries (at_ms);
    CREATE VIRTUAL TABLE IF NOT EXISTS texts USING fts5(
        title, error, answer, content='entries', content_rowid='number', tokenize='trigram',
        detail='none', columnsize=0
    );
    DROP TRIGGER IF EXISTS entries_added;
    CREATE TRIGGER IF NOT EXISTS entries_gone AFTER DELETE ON entries BEGIN
        INSERT INTO texts (texts, rowid, title, error, answer)
        VALUES ('delete', old.number, old.title, old.error, old.answer);
    END;
";

const COLUMNS: &str =
    "number, at_ms, kind, id, owner, client, target, attempt, failed, status, took_ms,
    bytes, next_ms, title, error, answer, first_event, last_event, events";

/// What came later than the table, and the index that needs it.
const EVENTS: &str = "
    ALTER TABLE entries ADD COLUMN first_event INTEGER;
    ALTER TABLE entries ADD COLUMN last_event INTEGER;
    ALTER TABLE entries ADD COLUMN events TEXT;
";
const EVENTS_INDEX: &str = "
    CREATE INDEX IF NOT EXISTS entries_by_event ON entries (last_event, first_event)
        WHERE last_event IS NOT NULL;
";

/// The journal of those who share a data directory.
pub struct SqliteJournal {
    writer: Arc<Mutex<Connection>>,
    reader: Arc<Mutex<Connection>>,
}

impl SqliteJournal {
    /// # Errors
    /// If its file cannot be used.
    pub fn open(directory: &Path) -> anyhow::Result<Self> {
        let path = directory.join(FILE);
        let what = || format!("failed to open the journal {}", path.display());
        create_private_file(directory, &path).with_context(what)?;
        let mut writer = Connection::open(&path).with_context(what)?;
        writer.busy_timeout(BUSY_TIMEOUT)?;
        // What the last second wrote may be lost with the machine.
        writer.execute_batch("PRAGMA journal_mode = WAL; PRAGMA synchronous = OFF;")?;
        make_tables(&mut writer).with_context(what)?;
        let reader = Connection::open_with_flags(&path, OpenFlags::SQLITE_OPEN_READ_ONLY)?;
        reader.busy_timeout(BUSY_TIMEOUT)?;
        Ok(Self { writer: Arc::new(Mutex::new(writer)), reader: Arc::new(Mutex::new(reader)) })
    }
}

fn make_tables(db: &mut Connection) -> rusqlite::Result<()> {
    let transaction = db.transaction_with_behavior(TransactionBehavior::Immediate)?;
    transaction.execute_batch(TABLES)?;
    if !transaction.column_exists(None, "entries", "events")? {
        transaction.execute_batch(EVENTS)?;
    }
    transaction.execute_batch(EVENTS_INDEX)?;
    transaction.commit()
}

#[async_trait]
impl Journal for SqliteJournal {
    async fn append(&self, entries: Vec<Entry>, bounds: JournalBounds) -> Result<(), JournalError> {
        on(&self.writer, move |db| {
            let transaction = db.transaction()?;
            for entry in &entries {
                insert(&transaction, entry)?;
            }
            forget(&transaction, bounds, 2 * entries.len() as u64)?;
            transaction.commit()
        })
        .await
    }

    async fn find(
        &self,
        query: &JournalQuery,
        after: Option<&str>,
        limit: usize,
    ) -> Result<JournalPage, JournalError> {
        let before = after.map(|after| after.parse::<i64>()).transpose();
        let before = before.map_err(|_| JournalError::NoPlace)?;
        let query = query.clone();
        on(&self.reader, move |db| find(db, &query, before, limit)).await
    }

    async fn erase_messages(&self, ids: Vec<String>) -> Result<(), JournalError> {
        on(&self.writer, move |db| {
            let transaction = db.transaction()?;
            for id in &ids {
                transaction
                    .prepare_cached("DELETE FROM entries WHERE id = ?1 AND kind = ?2")?
                    .execute([id, EntryKind::Message.as_str()])?;
            }
            transaction.commit()
        })
        .await
    }
}

/// Does something with a connection, on a thread that may block.
async fn on<T: Send + 'static>(
    connection: &Arc<Mutex<Connection>>,
    act: impl FnOnce(&mut Connection) -> rusqlite::Result<T> + Send + 'static,
) -> Result<T, JournalError> {
    let connection = connection.clone();
    let done = tokio::task::spawn_blocking(move || {
        act(&mut connection.lock().unwrap_or_else(PoisonError::into_inner))
    });
    let done = done.await.map_err(|error| JournalError::Unavailable(error.to_string()))?;
    done.map_err(|error| JournalError::Unavailable(error.to_string()))
}

fn insert(db: &Connection, entry: &Entry) -> rusqlite::Result<()> {
    db.prepare_cached(
        "INSERT INTO entries (at_ms, kind, id, owner, client, target, attempt, failed, status, took_ms,
             bytes, next_ms, title, error, answer, first_event, last_event, events)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16, ?17, ?18)",
    )?
    .execute(rusqlite::params![
        entry.at_ms,
        entry.kind.as_str(),
        entry.id,
        entry.owner.as_str(),
        entry.client,
        entry.target,
        entry.attempt,
        entry.failed,
        entry.status,
        entry.took_ms,
        entry.bytes,
        entry.next_ms,
        entry.title,
        entry.error,
        entry.answer,
        entry.events.as_ref().map(|events| events.first),
        entry.events.as_ref().map(|events| events.last),
        entry.events.as_ref().map(|events| &events.list),
    ])?;
    // Not by a trigger: before a statement that may end half-way, FTS5 writes all that it has into the file.
    db.prepare_cached("INSERT INTO texts (rowid, title, error, answer) VALUES (?1, ?2, ?3, ?4)")?
        .execute(rusqlite::params![
            db.last_insert_rowid(),
            entry.title,
            entry.error,
            entry.answer
        ])?;
    Ok(())
}

/// Takes the oldest away that are too old, or as many as came if all are too much.
fn forget(db: &Connection, bounds: JournalBounds, as_many: u64) -> rusqlite::Result<()> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let before_ms = now.saturating_sub(bounds.retention).as_millis() as u64;
    let old = "DELETE FROM entries WHERE number IN (
                   SELECT number FROM entries WHERE at_ms < ?1 ORDER BY at_ms LIMIT ?2)";
    db.prepare_cached(old)?.execute([before_ms, FORGET_MAX])?;
    let pragma = |name| db.pragma_query_value(None, name, |row| row.get::<_, u64>(0));
    let pages = pragma("page_count")?.saturating_sub(pragma("freelist_count")?);
    if pages * pragma("page_size")? > bounds.max_bytes {
        let oldest = "DELETE FROM entries WHERE number IN (
                          SELECT number FROM entries ORDER BY number LIMIT ?1)";
        db.prepare_cached(oldest)?.execute([as_many.clamp(100, FORGET_MAX)])?;
    }
    Ok(())
}

/// Entries that match, looked for among ever more, until there are enough or there is no more time.
fn find(
    db: &Connection,
    query: &JournalQuery,
    before: Option<i64>,
    limit: usize,
) -> rusqlite::Result<JournalPage> {
    let began = Instant::now();
    let bound =
        |which| db.query_row(&format!("SELECT {which}(number) FROM entries"), [], |row| row.get(0));
    let (first, last): (Option<i64>, Option<i64>) = (bound("min")?, bound("max")?);
    let (Some(first), Some(last)) = (first, last) else { return Ok(JournalPage::default()) };
    let mut before = before.unwrap_or(i64::MAX).min(last.saturating_add(1));
    // Of one thing, the index knows all at once.
    let mut window = if query.id.is_some() { i64::MAX } else { FIRST_WINDOW };
    let mut entries = Vec::new();
    while before > first {
        let from = before.saturating_sub(window).max(first);
        let found = find_between(db, query, (from, before), limit + 1 - entries.len())?;
        entries.extend(found);
        if entries.len() > limit {
            entries.truncate(limit);
            let next = entries.last().map(|(number, _)| number.to_string());
            return Ok(JournalPage { next, back_to_ms: None, entries: without_numbers(entries) });
        }
        before = from;
        if before > first && began.elapsed() >= query.time() {
            let at = "SELECT at_ms FROM entries WHERE number >= ?1 ORDER BY number LIMIT 1";
            let back_to_ms = db.prepare_cached(at)?.query_row([before], |row| row.get(0))?;
            let (next, back_to_ms) = (Some(before.to_string()), Some(back_to_ms));
            return Ok(JournalPage { next, back_to_ms, entries: without_numbers(entries) });
        }
        window = window.saturating_mul(2);
    }
    Ok(JournalPage { next: None, back_to_ms: None, entries: without_numbers(entries) })
}

/// Among how many entries is looked at first.
const FIRST_WINDOW: i64 = 20_000;

fn without_numbers(entries: Vec<(i64, Entry)>) -> Vec<Entry> {
    entries.into_iter().map(|(_, entry)| entry).collect()
}

/// Up to `limit` entries that match, the newest first, of those from a number on and before another one.
fn find_between(
    db: &Connection,
    query: &JournalQuery,
    (from, before): (i64, i64),
    limit: usize,
) -> rusqlite::Result<Vec<(i64, Entry)>> {
    let mut conditions: Vec<String> = Vec::new();
    let mut values: Vec<Value> = Vec::new();
    let mut require = |condition: &str, value: Value| {
        values.push(value);
        conditions.push(condition.replace('?', &format!("?{}", values.len())));
    };
    let number = |number: u64| Value::Integer(i64::try_from(number).unwrap_or(i64::MAX));
    require("number >= ?", Value::Integer(from));
    require("number < ?", Value::Integer(before));
    for (column, value) in [
        ("kind", query.kind.map(|kind| kind.as_str().to_owned())),
        ("owner", query.owner.as_ref().map(|owner| owner.as_str().to_owned())),
        ("target", query.target.clone()),
        ("id", query.id.clone()),
    ] {
        if let Some(value) = value {
            require(&format!("{column} = ?"), Value::Text(value));
        }
    }
    if let Some(status) = query.status {
        require("status = ?", Value::Integer(status.into()));
    }
    if let Some(failed) = query.failed {
        // The first `failed` is what the index says of itself, without which it is not used.
        let condition = if failed { "failed AND failed = ?" } else { "+failed = ?" };
        require(condition, Value::Integer(failed.into()));
    }
    if let Some(since) = query.since_ms {
        require("at_ms >= ?", number(since));
    }
    if let Some(until) = query.until_ms {
        require("at_ms < ?", number(until));
    }
    if let Some(event) = query.event {
        require("last_event >= ?", number(event.number()));
        require("first_event <= ?", number(event.number()));
    }
    if let Some(text) = &query.text {
        if text.chars().count() >= INDEXED {
            let parts = Value::Text(parts_of(text));
            require(
                "number IN (SELECT rowid FROM texts WHERE texts MATCH ? AND rowid >= :1 AND rowid < :2)",
                parts,
            );
        }
        // The index knows which parts stand there, not in which order.
        let wildcard =
            format!("%{}%", text.replace('\\', "\\\\").replace('%', "\\%").replace('_', "\\_"));
        require(
            "(title LIKE ? ESCAPE '\\' OR error LIKE ? ESCAPE '\\' OR answer LIKE ? ESCAPE '\\')",
            Value::Text(wildcard),
        );
    }
    // The first two values are where to look.
    let all = conditions.join(" AND ").replace(":1", "?1").replace(":2", "?2");
    let sql =
        format!("SELECT {COLUMNS} FROM entries WHERE {all} ORDER BY number DESC LIMIT {limit}");
    db.prepare_cached(&sql)?.query_map(params_from_iter(values), entry_from_row)?.collect()
}

/// Asks the index for all parts of a text, each of three characters.
fn parts_of(text: &str) -> String {
    let characters: Vec<char> = text.chars().take(TEXT_MAX).collect();
    let parts = characters.windows(INDEXED).map(|part| {
        let part: String = part.iter().collect();
        format!("\"{}\"", part.replace('"', "\"\""))
    });
    parts.collect::<Vec<_>>().join(" AND ")
}

fn entry_from_row(row: &Row<'_>) -> rusqlite::Result<(i64, Entry)> {
    let kind: String = row.get(2)?;
    let entry = Entry {
        at_ms: row.get(1)?,
        kind: EntryKind::parse(&kind).unwrap_or(EntryKind::Call),
        id: row.get(3)?,
        owner: Owner::from_stored(row.get(4)?),
        client: row.get(5)?,
        target: row.get(6)?,
        attempt: row.get(7)?,
        failed: row.get(8)?,
        status: row.get(9)?,
        took_ms: row.get(10)?,
        bytes: row.get(11)?,
        next_ms: row.get(12)?,
        title: row.get(13)?,
        error: row.get(14)?,
        answer: row.get(15)?,
        events: match row.get(16)? {
            Some(first) => Some(CarriedEvents { first, last: row.get(17)?, list: row.get(18)? }),
            None => None,
        },
    };
    Ok((row.get(0)?, entry))
}
