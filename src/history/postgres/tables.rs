//! The tables, and how they are brought up to date.

use tokio_postgres::Client;

/// What makes each version of the tables out of the one before. A day is counted from 1970-01-01.
const MIGRATIONS: [&str; 2] = [VERSION_1, VERSION_2];

const VERSION_1: &str = "
    CREATE SEQUENCE routemaster.entry_numbers;
    CREATE TABLE routemaster.entries (
        day integer NOT NULL,
        number bigint NOT NULL DEFAULT nextval('routemaster.entry_numbers'),
        at_ms bigint NOT NULL, kind text NOT NULL, id text NOT NULL, owner text NOT NULL, client text NOT NULL,
        target text NOT NULL, attempt bigint NOT NULL, failed boolean NOT NULL, status integer,
        took_ms bigint NOT NULL, bytes bigint NOT NULL, next_ms bigint,
        title text NOT NULL, error text NOT NULL, answer text NOT NULL
    ) PARTITION BY RANGE (day);
    CREATE INDEX entries_by_number ON routemaster.entries (number);
    CREATE INDEX entries_by_id ON routemaster.entries (id);
    CREATE INDEX entries_by_owner ON routemaster.entries (owner, number);
    CREATE INDEX entries_by_target ON routemaster.entries (target, number);
    CREATE INDEX entries_by_kind ON routemaster.entries (kind, number);
    CREATE INDEX entries_by_time ON routemaster.entries (at_ms);
    CREATE INDEX entries_by_status ON routemaster.entries (status, number) WHERE failed;
    CREATE INDEX entries_by_failure ON routemaster.entries (number) WHERE failed;

    CREATE TABLE routemaster.messages (
        day integer NOT NULL, number bigint NOT NULL, topic_id bigint NOT NULL, sender text NOT NULL,
        received_ms bigint NOT NULL, due_ms bigint NOT NULL, content text NOT NULL,
        PRIMARY KEY (number, day)
    ) PARTITION BY RANGE (day);
    CREATE INDEX messages_by_topic ON routemaster.messages (topic_id, number);
    CREATE INDEX messages_by_time ON routemaster.messages (received_ms);

    CREATE TABLE routemaster.deliveries (
        day integer NOT NULL, message bigint NOT NULL, number bigint NOT NULL, publisher bigint NOT NULL,
        state text NOT NULL, attempts bigint NOT NULL, ended_ms bigint, status integer, reason text NOT NULL,
        PRIMARY KEY (number, day)
    ) PARTITION BY RANGE (day);
    CREATE INDEX deliveries_by_message ON routemaster.deliveries (message);
    CREATE INDEX deliveries_by_publisher ON routemaster.deliveries (publisher, message);
    CREATE INDEX deliveries_by_state ON routemaster.deliveries (state, message);
";

/// Which events a batch carried.
const VERSION_2: &str = "
    ALTER TABLE routemaster.entries
        ADD COLUMN first_event bigint, ADD COLUMN last_event bigint, ADD COLUMN events text;
    CREATE INDEX entries_by_event ON routemaster.entries (last_event, first_event)
        WHERE last_event IS NOT NULL;
";

/// For parts of words, by an extension that comes with PostgreSQL; a text of a length that nobody searches for is left
/// out by it.
const TEXT_INDEXES: &str = "
    CREATE EXTENSION IF NOT EXISTS pg_trgm;
    CREATE INDEX IF NOT EXISTS entries_by_text ON routemaster.entries
        USING gin (lower(title || ' ' || error || ' ' || answer) gin_trgm_ops);
    CREATE INDEX IF NOT EXISTS messages_by_text ON routemaster.messages USING gin (lower(content) gin_trgm_ops);
";

/// Who brings tables up to date, or makes the table of a day: one at a time. \"RMST\".
pub const LOCK: i64 = 0x524d_5354;

/// # Errors
/// If the tables cannot be made or brought up to date, or are a newer version's.
pub async fn migrate(client: &mut Client) -> anyhow::Result<()> {
    let transaction = client.transaction().await?;
    transaction.execute("SELECT pg_advisory_xact_lock($1)", &[&LOCK]).await?;
    transaction
        .batch_execute(
            "CREATE SCHEMA IF NOT EXISTS routemaster;
             CREATE TABLE IF NOT EXISTS routemaster.version (version integer NOT NULL);",
        )
        .await?;
    let row = transaction.query_opt("SELECT version FROM routemaster.version", &[]).await?;
    let version = match &row {
        Some(row) => row.try_get::<_, i32>(0)?,
        None => 0,
    };
    let known = MIGRATIONS.len();
    let Some(missing) = usize::try_from(version).ok().and_then(|v| MIGRATIONS.get(v..)) else {
        anyhow::bail!("its tables have version {version}, and this program knows version {known}");
    };
    for migration in missing {
        transaction.batch_execute(migration).await?;
    }
    if !missing.is_empty() {
        transaction.batch_execute("DELETE FROM routemaster.version").await?;
        let known = known as i32;
        transaction.execute("INSERT INTO routemaster.version VALUES ($1)", &[&known]).await?;
    }
    transaction.commit().await?;
    // Without it, text is searched all the same, and takes its time.
    if let Err(error) = client.batch_execute(TEXT_INDEXES).await {
        tracing::warn!(
            error = crate::egress::postgres::told(&error),
            "text in PostgreSQL is searched without an index: the extension pg_trgm cannot be had"
        );
    }
    Ok(())
}
