//! The journal.

use std::collections::BTreeSet;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use async_trait::async_trait;
use tokio::time::Instant;
use tokio_postgres::types::ToSql;
use tokio_postgres::{Client, Row};

use super::days::{self, day_of};
use super::link::{LinkState, PostgresHistory, Use};
use crate::journal::{
    CarriedEvents, Entry, EntryKind, Journal, JournalBounds, JournalError, JournalPage,
    JournalQuery, Owner,
};

const TABLE: &str = "entries";
/// How often is looked whether something is too old.
const CLEANING: Duration = Duration::from_secs(60);

const COLUMNS: &str =
    "number, at_ms, kind, id, owner, client, target, attempt, failed, status, took_ms,
    bytes, next_ms, title, error, answer, first_event, last_event, events";

#[async_trait]
impl Journal for PostgresHistory {
    async fn append(&self, entries: Vec<Entry>, bounds: JournalBounds) -> Result<(), JournalError> {
        let act = async |client: &mut Client, state: &mut LinkState<'_>| {
            let days: BTreeSet<i32> = entries.iter().map(|entry| day_of(entry.at_ms)).collect();
            state.prepare(client, TABLE, &days).await?;
            insert(client, &entries).await?;
            if state.cleaned.is_none_or(|cleaned| cleaned.elapsed() >= CLEANING) {
                *state.cleaned = Some(Instant::now());
                clean(client, bounds).await?;
                state.forget_parts();
            }
            Ok(())
        };
        self.with(Use::Write, act).await.map_err(JournalError::Unavailable)
    }

    async fn find(
        &self,
        query: &JournalQuery,
        after: Option<&str>,
        limit: usize,
    ) -> Result<JournalPage, JournalError> {
        let before = after.map(|after| after.parse::<i64>()).transpose();
        let before = before.map_err(|_| JournalError::NoPlace)?;
        let act = async |client: &mut Client, _: &mut LinkState<'_>| {
            find(client, query, before, limit).await
        };
        self.with(Use::Read, act).await.map_err(JournalError::Unavailable)
    }

    async fn erase_messages(&self, ids: Vec<String>) -> Result<(), JournalError> {
        let act = async |client: &mut Client, _: &mut LinkState<'_>| {
            let erase = "DELETE FROM routemaster.entries WHERE id = ANY($1) AND kind = $2";
            client.execute(erase, &[&ids, &EntryKind::Message.as_str()]).await
        };
        self.with(Use::Write, act).await.map(drop).map_err(JournalError::Unavailable)
    }
}

/// PostgreSQL's text has no such character.
fn text(text: &str) -> String {
    text.replace('\0', "\u{fffd}")
}

fn signed(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

async fn insert(client: &Client, entries: &[Entry]) -> Result<(), tokio_postgres::Error> {
    fn column<T>(entries: &[Entry], of: impl Fn(&Entry) -> T) -> Vec<T> {
        entries.iter().map(of).collect()
    }
    let statement = "
        INSERT INTO routemaster.entries (day, at_ms, kind, id, owner, client, target, attempt, failed, status,
            took_ms, bytes, next_ms, title, error, answer, first_event, last_event, events)
        SELECT * FROM unnest($1::integer[], $2::bigint[], $3::text[], $4::text[], $5::text[], $6::text[],
            $7::text[], $8::bigint[], $9::boolean[], $10::integer[], $11::bigint[], $12::bigint[],
            $13::bigint[], $14::text[], $15::text[], $16::text[], $17::bigint[], $18::bigint[], $19::text[])";
    client
        .execute(
            statement,
            &[
                &column(entries, |entry| day_of(entry.at_ms)),
                &column(entries, |entry| signed(entry.at_ms)),
                &column(entries, |entry| entry.kind.as_str()),
                &column(entries, |entry| text(&entry.id)),
                &column(entries, |entry| entry.owner.as_str().to_owned()),
                &column(entries, |entry| text(&entry.client)),
                &column(entries, |entry| text(&entry.target)),
                &column(entries, |entry| i64::from(entry.attempt)),
                &column(entries, |entry| entry.failed),
                &column(entries, |entry| entry.status.map(i32::from)),
                &column(entries, |entry| signed(entry.took_ms)),
                &column(entries, |entry| signed(entry.bytes)),
                &column(entries, |entry| entry.next_ms.map(signed)),
                &column(entries, |entry| text(&entry.title)),
                &column(entries, |entry| text(&entry.error)),
                &column(entries, |entry| text(&entry.answer)),
                &column(entries, |entry| entry.events.as_ref().map(|events| signed(events.first))),
                &column(entries, |entry| entry.events.as_ref().map(|events| signed(events.last))),
                &column(entries, |entry| entry.events.as_ref().map(|events| text(&events.list))),
            ],
        )
        .await?;
    Ok(())
}

/// Removes days that are too old, and the oldest while all take too much.
async fn clean(client: &mut Client, bounds: JournalBounds) -> Result<(), tokio_postgres::Error> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let before_ms = now.saturating_sub(bounds.retention).as_millis() as u64;
    days::drop_before(client, TABLE, day_of(before_ms)).await?;
    // What is left of the first day goes by row.
    let old = "DELETE FROM routemaster.entries WHERE at_ms < $1";
    client.execute(old, &[&signed(before_ms)]).await?;
    let days: Vec<i32> = days::all(client, TABLE).await?.into_iter().collect();
    for day in days.iter().take(days.len().saturating_sub(1)) {
        let size =
            "SELECT coalesce(sum(pg_total_relation_size(inhrelid)), 0)::bigint FROM pg_inherits
                    WHERE inhparent = 'routemaster.entries'::regclass";
        let size: i64 = client.query_one(size, &[]).await?.try_get(0)?;
        if size <= signed(bounds.max_bytes) {
            break;
        }
        days::drop_before(client, TABLE, day + 1).await?;
    }
    Ok(())
}

async fn find(
    client: &Client,
    query: &JournalQuery,
    before: Option<i64>,
    limit: usize,
) -> Result<JournalPage, tokio_postgres::Error> {
    let mut conditions = Conditions::default();
    if let Some(before) = before {
        conditions.require("number < ?", before);
    }
    for (column, value) in [
        ("kind", query.kind.map(|kind| kind.as_str().to_owned())),
        ("owner", query.owner.as_ref().map(|owner| owner.as_str().to_owned())),
        ("target", query.target.clone()),
        ("id", query.id.clone()),
    ] {
        if let Some(value) = value {
            conditions.require(&format!("{column} = ?"), text(&value));
        }
    }
    if let Some(status) = query.status {
        conditions.require("status = ?", i32::from(status));
    }
    match query.failed {
        Some(true) => conditions.require_fixed("failed"),
        Some(false) => conditions.require_fixed("NOT failed"),
        None => {}
    }
    if let Some(since) = query.since_ms {
        conditions.require("at_ms >= ?", signed(since));
    }
    if let Some(until) = query.until_ms {
        conditions.require("at_ms < ?", signed(until));
    }
    if let Some(event) = query.event {
        conditions.require("last_event >= ? AND first_event <= ?", signed(event.number()));
    }
    if let Some(wanted) = &query.text {
        // The index knows all three as one text, in which parts of two may stand side by side.
        let pattern = pattern(wanted);
        conditions.require("lower(title || ' ' || error || ' ' || answer) LIKE ?", pattern.clone());
        conditions.require(
            "(lower(title) LIKE ? OR lower(error) LIKE ? OR lower(answer) LIKE ?)",
            pattern,
        );
    }
    let sql = format!(
        "SELECT {COLUMNS} FROM routemaster.entries {} ORDER BY number DESC LIMIT {}",
        conditions.sql(),
        limit + 1
    );
    let rows = client.query(&sql, &conditions.values()).await?;
    let mut entries = rows.iter().map(entry).collect::<Result<Vec<_>, _>>()?;
    let more = entries.len() > limit;
    entries.truncate(limit);
    let last = entries.last().map(|(number, _)| *number).filter(|_| more);
    Ok(JournalPage {
        next: last.map(|number| number.to_string()),
        back_to_ms: None,
        entries: entries.into_iter().map(|(_, entry)| entry).collect(),
    })
}

/// What `LIKE` finds a text by, whatever its case.
pub(super) fn pattern(wanted: &str) -> String {
    let escaped = text(wanted).to_lowercase();
    let escaped = escaped.replace('\\', "\\\\").replace('%', "\\%").replace('_', "\\_");
    format!("%{escaped}%")
}

/// Conditions of a query, with their values.
#[derive(Default)]
pub(super) struct Conditions {
    all: Vec<String>,
    values: Vec<Box<dyn ToSql + Sync + Send>>,
}

impl Conditions {
    /// The value stands wherever the condition has a question mark.
    pub fn require(&mut self, condition: &str, value: impl ToSql + Sync + Send + 'static) {
        self.values.push(Box::new(value));
        self.all.push(condition.replace('?', &format!("${}", self.values.len())));
    }

    pub fn require_fixed(&mut self, condition: &str) {
        self.all.push(condition.to_owned());
    }

    pub fn sql(&self) -> String {
        if self.all.is_empty() {
            String::new()
        } else {
            format!("WHERE {}", self.all.join(" AND "))
        }
    }

    pub fn values(&self) -> Vec<&(dyn ToSql + Sync)> {
        self.values.iter().map(|value| &**value as &(dyn ToSql + Sync)).collect()
    }
}

fn entry(row: &Row) -> Result<(i64, Entry), tokio_postgres::Error> {
    let unsigned = |index: usize| row.try_get::<_, i64>(index).map(|number| number as u64);
    let kind: &str = row.try_get(2)?;
    let entry = Entry {
        at_ms: unsigned(1)?,
        kind: EntryKind::parse(kind).unwrap_or(EntryKind::Call),
        id: row.try_get(3)?,
        owner: Owner::from_stored(row.try_get(4)?),
        client: row.try_get(5)?,
        target: row.try_get(6)?,
        attempt: unsigned(7)? as u32,
        failed: row.try_get(8)?,
        status: row.try_get::<_, Option<i32>>(9)?.map(|status| status as u16),
        took_ms: unsigned(10)?,
        bytes: unsigned(11)?,
        next_ms: row.try_get::<_, Option<i64>>(12)?.map(|ms| ms as u64),
        title: row.try_get(13)?,
        error: row.try_get(14)?,
        answer: row.try_get(15)?,
        events: match row.try_get::<_, Option<i64>>(16)? {
            Some(_) => Some(CarriedEvents {
                first: unsigned(16)?,
                last: unsigned(17)?,
                list: row.try_get(18)?,
            }),
            None => None,
        },
    };
    Ok((row.try_get(0)?, entry))
}
