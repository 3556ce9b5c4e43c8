//! The tables, and how a connection is set up.

use std::path::Path;
use std::time::Duration;
use std::{fs, io, thread};

use anyhow::{Context, bail};
use rusqlite::Connection;

/// Version of the tables below, kept in the file's `user_version`.
const VERSION: i64 = 2;
/// Marks the file as ours, in its `application_id`: "RMST".
const APPLICATION_ID: i64 = 0x524d_5354;

/// How long a process waits between two tries for the write lock of another one, and how often
/// it tries: 3 s in all. SQLite's own waiting grows to 100 ms, which a publisher would feel.
const LOCK_PAUSE: Duration = Duration::from_micros(500);
const LOCK_TRIES: i32 = 6000;

/// Times are in milliseconds since the epoch. A queue holds the items `head..next`; `due` says
/// when a worker should look at it: when its next batch is to leave, when a failed one is to be
/// sent again, or, while it is leased, when the lease runs out. The batch that was given out and
/// not acknowledged yet is `head..=batch_last`; `batch_number` names it. When its items were dropped
/// meanwhile, `batch_last` is below `head`.
const TABLES: &str = "
    CREATE TABLE topics (
        name TEXT PRIMARY KEY,
        publisher TEXT,
        events INTEGER NOT NULL DEFAULT 0
    ) WITHOUT ROWID;

    CREATE TABLE queues (
        id INTEGER PRIMARY KEY AUTOINCREMENT,
        name TEXT NOT NULL UNIQUE,
        subscriber TEXT NOT NULL UNIQUE,
        callback TEXT NOT NULL,
        uuid TEXT,
        timeout_ms INTEGER NOT NULL,
        max INTEGER NOT NULL,
        health INTEGER NOT NULL DEFAULT 100,
        sent INTEGER NOT NULL DEFAULT 0,
        head INTEGER NOT NULL DEFAULT 1,
        next INTEGER NOT NULL DEFAULT 1,
        batch_number INTEGER,
        batch_last INTEGER,
        attempts INTEGER NOT NULL DEFAULT 0,
        due_ms INTEGER,
        leased INTEGER NOT NULL DEFAULT 0,
        fence INTEGER NOT NULL DEFAULT 0,
        retention_ms INTEGER,
        max_queued INTEGER,
        autodropped INTEGER NOT NULL DEFAULT 0,
        expired INTEGER NOT NULL DEFAULT 0
    );
    CREATE INDEX queues_by_due ON queues (due_ms) WHERE due_ms IS NOT NULL;

    CREATE TABLE subscriptions (
        topic TEXT NOT NULL,
        queue_id INTEGER NOT NULL,
        PRIMARY KEY (topic, queue_id)
    ) WITHOUT ROWID;
    CREATE INDEX subscriptions_by_queue ON subscriptions (queue_id);

    CREATE TABLE items (
        queue_id INTEGER NOT NULL,
        seq INTEGER NOT NULL,
        at_ms INTEGER NOT NULL,
        payload BLOB NOT NULL,
        PRIMARY KEY (queue_id, seq)
    ) WITHOUT ROWID;

    CREATE TABLE times (
        name TEXT PRIMARY KEY,
        at_ms INTEGER NOT NULL
    ) WITHOUT ROWID;

    CREATE TABLE duties (
        name TEXT PRIMARY KEY,
        holder TEXT NOT NULL,
        until_ms INTEGER NOT NULL
    ) WITHOUT ROWID;

    CREATE TABLE removed_queues (
        id INTEGER PRIMARY KEY
    );

    CREATE TABLE api_tokens (
        token TEXT PRIMARY KEY,
        name TEXT NOT NULL
    ) WITHOUT ROWID;
";

/// What makes tables of version 1 tables of version 2. Processes of both versions may share them.
const FROM_1_TO_2: &str = "
    ALTER TABLE queues ADD COLUMN retention_ms INTEGER;
    ALTER TABLE queues ADD COLUMN max_queued INTEGER;
    ALTER TABLE queues ADD COLUMN autodropped INTEGER NOT NULL DEFAULT 0;
    ALTER TABLE queues ADD COLUMN expired INTEGER NOT NULL DEFAULT 0;

    CREATE TABLE duties (
        name TEXT PRIMARY KEY,
        holder TEXT NOT NULL,
        until_ms INTEGER NOT NULL
    ) WITHOUT ROWID;
";

/// Makes the directory and the file if they are not there, for their owner's eyes only: tokens
/// and uuids are in it. SQLite gives the files beside it the same permissions.
pub fn create_private(directory: &Path, path: &Path) -> io::Result<()> {
    let mut builder = fs::DirBuilder::new();
    builder.recursive(true);
    let mut options = fs::OpenOptions::new();
    options.append(true).create(true);
    #[cfg(unix)]
    {
        std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    }
    builder.create(directory)?;
    options.open(path).map(drop)
}

/// Opens the file as every connection here needs it.
pub fn connect(path: &Path) -> anyhow::Result<Connection> {
    let mut connection = Connection::open(path)?;
    connection.busy_handler(Some(|tries| {
        thread::sleep(LOCK_PAUSE);
        tries < LOCK_TRIES
    }))?;
    // Has an effect on an empty file only: freed pages can then be given back to the disk.
    connection.pragma_update(None, "auto_vacuum", "INCREMENTAL")?;
    let mode: String =
        connection.pragma_update_and_check(None, "journal_mode", "WAL", |row| row.get(0))?;
    if mode != "wal" {
        bail!("the file system does not support SQLite's write-ahead log (it offers {mode})");
    }
    connection.pragma_update(None, "synchronous", "FULL")?;
    connection.pragma_update(None, "temp_store", "MEMORY")?;
    connection.set_prepared_statement_cache_capacity(64);
    Ok(connection)
}

/// Makes the tables in an empty file and brings older ones up to date; refuses a file that another program or a newer version made.
pub fn migrate(connection: &Connection) -> anyhow::Result<()> {
    connection.execute_batch("BEGIN IMMEDIATE")?;
    let pragma = |name: &str| connection.pragma_query_value(None, name, |row| row.get::<_, i64>(0));
    match (pragma("application_id")?, pragma("user_version")?) {
        (APPLICATION_ID, VERSION) => {}
        (APPLICATION_ID, 1) => {
            connection
                .execute_batch(FROM_1_TO_2)
                .context("failed to bring the tables up to date")?;
            connection.pragma_update(None, "user_version", VERSION)?;
        }
        (0, 0) => {
            connection.execute_batch(TABLES).context(
                "failed to create the tables: is this the file of another program? \
                 Choose another ROUTEMASTER_DATA_DIR",
            )?;
            connection.pragma_update(None, "application_id", APPLICATION_ID)?;
            connection.pragma_update(None, "user_version", VERSION)?;
        }
        (APPLICATION_ID, newer) => bail!(
            "the file has version {newer} of the tables, and this program knows version \
             {VERSION}: run the newer program that made it"
        ),
        _ => bail!("the file belongs to another program: choose another ROUTEMASTER_DATA_DIR"),
    }
    connection.execute_batch("COMMIT")?;
    Ok(())
}
