//! The tables, and how a connection is set up.

use std::path::Path;
use std::thread;
use std::time::Duration;

use anyhow::{Context, bail};
use rusqlite::config::DbConfig;
use rusqlite::{Connection, OpenFlags};

use super::log;

/// What makes each version of the tables out of the one before, from an empty file on.
const MIGRATIONS: [&str; 11] = [
    VERSION_1,
    FROM_1_TO_2,
    FROM_2_TO_3,
    FROM_3_TO_4,
    FROM_4_TO_5,
    FROM_5_TO_6,
    FROM_6_TO_7,
    FROM_7_TO_8,
    FROM_8_TO_9,
    FROM_9_TO_10,
    FROM_10_TO_11,
];
/// Version of the tables, kept in the file's `user_version`.
const VERSION: i64 = MIGRATIONS.len() as i64;
/// Marks the file as ours, in its `application_id`: "RMST".
const APPLICATION_ID: i64 = 0x524d_5354;

/// How long a process waits between two tries for the write lock of another one, and how often
/// it tries: 3 s in all. SQLite's own waiting grows to 100 ms, which a publisher would feel.
const LOCK_PAUSE: Duration = Duration::from_micros(500);
const LOCK_TRIES: i32 = 6000;

/// Times are in milliseconds since the epoch. A queue holds the items `head..next`; `due` says
/// when a worker should look at it: when its next batch is to leave, when a failed one is to be
/// sent again, or, while it is leased, when the lease runs out. The batch that was given out and
/// not acknowledged yet is `head..=batch_last`; `batch_number` names it. `held` marks a queue that lost
/// such a batch, or a part of it: it keeps its pause.
const VERSION_1: &str = "
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
        fence INTEGER NOT NULL DEFAULT 0
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

    CREATE TABLE removed_queues (
        id INTEGER PRIMARY KEY
    );

    CREATE TABLE api_tokens (
        token TEXT PRIMARY KEY,
        name TEXT NOT NULL
    ) WITHOUT ROWID;
";

/// What version 2 changes. An item stands at `position`, which is `queue_id << 40` plus its number in
/// the queue: a table by such a key packs items of any size, where one by two columns gave each one
/// of a kilobyte a page of its own. There is room for 2^40 items in a queue's life, and 2^23 queues.
const FROM_1_TO_2: &str = "
    ALTER TABLE queues ADD COLUMN retention_ms INTEGER;
    ALTER TABLE queues ADD COLUMN max_queued INTEGER;
    ALTER TABLE queues ADD COLUMN autodropped INTEGER NOT NULL DEFAULT 0;
    ALTER TABLE queues ADD COLUMN expired INTEGER NOT NULL DEFAULT 0;
    ALTER TABLE queues ADD COLUMN held INTEGER NOT NULL DEFAULT 0;

    CREATE TABLE positioned (
        position INTEGER PRIMARY KEY,
        at_ms INTEGER NOT NULL,
        payload BLOB NOT NULL
    );
    INSERT INTO positioned
        SELECT (queue_id << 40) + seq, at_ms, payload FROM items ORDER BY queue_id, seq;
    DROP TABLE items;
    ALTER TABLE positioned RENAME TO items;

    CREATE TABLE duties (
        name TEXT PRIMARY KEY,
        holder TEXT NOT NULL,
        until_ms INTEGER NOT NULL
    ) WITHOUT ROWID;
";

/// What version 3 adds: why the batch at the head waits to be sent again (without the time there is no
/// failure, without a status there was no answer), whether health was restored during a delivery, whose
/// end then does not change it, and a limit, so that no queue's positions wrap into another one's.
/// `held` is `keeps_pause` from now on.
const FROM_2_TO_3: &str = "
    ALTER TABLE queues ADD COLUMN failed_at_ms INTEGER;
    ALTER TABLE queues ADD COLUMN failed_attempt INTEGER;
    ALTER TABLE queues ADD COLUMN failed_status INTEGER;
    ALTER TABLE queues ADD COLUMN failed_reason TEXT;
    ALTER TABLE queues ADD COLUMN health_restored INTEGER NOT NULL DEFAULT 0;
    ALTER TABLE queues RENAME COLUMN held TO keeps_pause;

    CREATE TRIGGER queues_within_positions BEFORE INSERT ON queues
    WHEN (SELECT seq FROM sqlite_sequence WHERE name = 'queues') >= (1 << 23) - 2
    BEGIN SELECT RAISE(ABORT, 'no queue can be made any more: 8388606 have been'); END;
";

/// What version 4 adds: who made a topic by subscribing, while nobody has published to it, and how many
/// topics are whose; and which processes are there.
const FROM_3_TO_4: &str = "
    ALTER TABLE topics ADD COLUMN made_by TEXT;
    CREATE INDEX topics_by_client ON topics (coalesce(publisher, made_by));

    CREATE TABLE processes (
        id TEXT PRIMARY KEY,
        text TEXT NOT NULL,
        until_ms INTEGER NOT NULL
    ) WITHOUT ROWID;
";

/// What version 5 added: a first form of calls, which nothing outside could reach yet.
const FROM_4_TO_5: &str = "";

/// What version 6 has: calls, and what they queue behind. A call is on its way while it has a `lease_ms`,
/// which says until when, and waits while it has a `due_ms`; `over` is `done` or `dead`. Its title is its own,
/// or stands in `call_titles` for several. A destination is due when its first call is that waits; `failures`
/// counts those in a row. `call_room` has how many calls of each kind there are, and what they take.
const FROM_5_TO_6: &str = "
    DROP TABLE IF EXISTS calls;
    DROP TABLE IF EXISTS call_room;
    DROP TABLE IF EXISTS destinations;

    CREATE TABLE calls (
        number INTEGER PRIMARY KEY AUTOINCREMENT,
        client TEXT NOT NULL,
        id TEXT NOT NULL,
        kind TEXT NOT NULL,
        fingerprint TEXT NOT NULL,
        destination TEXT NOT NULL,
        accepted_ms INTEGER NOT NULL,
        due_ms INTEGER,
        lease_ms INTEGER,
        attempts INTEGER NOT NULL DEFAULT 0,
        fence INTEGER NOT NULL DEFAULT 0,
        cancelled INTEGER NOT NULL DEFAULT 0,
        over TEXT,
        over_ms INTEGER,
        status INTEGER,
        reason TEXT NOT NULL DEFAULT '',
        shared_title INTEGER,
        title TEXT NOT NULL,
        content BLOB NOT NULL,
        UNIQUE (client, id)
    );
    CREATE INDEX calls_by_due ON calls (destination, due_ms) WHERE due_ms IS NOT NULL;
    CREATE INDEX calls_by_lease ON calls (lease_ms) WHERE lease_ms IS NOT NULL;
    CREATE INDEX calls_by_end ON calls (over, over_ms) WHERE over IS NOT NULL;

    CREATE TABLE call_titles (
        number INTEGER PRIMARY KEY, title TEXT NOT NULL UNIQUE, calls INTEGER NOT NULL DEFAULT 0
    );

    CREATE TABLE call_room (
        kind TEXT PRIMARY KEY, calls INTEGER NOT NULL DEFAULT 0, bytes INTEGER NOT NULL DEFAULT 0,
        waiting INTEGER NOT NULL DEFAULT 0, dead INTEGER NOT NULL DEFAULT 0
    ) WITHOUT ROWID;
    INSERT INTO call_room (kind) VALUES ('call'), ('postback'), ('unread');
    CREATE TRIGGER calls_take_room AFTER INSERT ON calls BEGIN
        UPDATE call_room SET calls = calls + 1, waiting = waiting + 1,
            bytes = bytes + length(new.content) + length(new.title)
        WHERE kind = new.kind;
        UPDATE call_titles SET calls = calls + 1 WHERE number = new.shared_title;
    END;
    CREATE TRIGGER calls_end AFTER UPDATE OF over ON calls WHEN old.over IS NOT new.over BEGIN
        UPDATE call_room SET waiting = waiting + (new.over IS NULL) - (old.over IS NULL),
            dead = dead + (new.over IS 'dead') - (old.over IS 'dead')
        WHERE kind = new.kind;
    END;
    CREATE TRIGGER calls_give_room AFTER DELETE ON calls BEGIN
        UPDATE call_room SET calls = calls - 1,
            waiting = waiting - (old.over IS NULL), dead = dead - (old.over IS 'dead'),
            bytes = bytes - length(old.content) - length(old.title)
        WHERE kind = old.kind;
        UPDATE call_titles SET calls = calls - 1 WHERE number = old.shared_title;
        DELETE FROM call_titles WHERE number = old.shared_title AND calls <= 0;
    END;
    CREATE TRIGGER call_titles_take_room AFTER INSERT ON call_titles
    BEGIN UPDATE call_room SET bytes = bytes + length(new.title) WHERE kind = 'postback'; END;
    CREATE TRIGGER call_titles_give_room AFTER DELETE ON call_titles
    BEGIN UPDATE call_room SET bytes = bytes - length(old.title) WHERE kind = 'postback'; END;

    CREATE TABLE destinations (
        name TEXT PRIMARY KEY,
        due_ms INTEGER,
        in_flight INTEGER NOT NULL DEFAULT 0,
        failures INTEGER NOT NULL DEFAULT 0
    ) WITHOUT ROWID;
    CREATE INDEX destinations_by_due ON destinations (due_ms) WHERE due_ms IS NOT NULL;
";

/// What version 7 has: message topics and publishers, whose ids are never given again.
const FROM_6_TO_7: &str = "
    CREATE TABLE message_topics (
        id INTEGER PRIMARY KEY AUTOINCREMENT,
        name TEXT NOT NULL UNIQUE,
        origin_host TEXT NOT NULL,
        recovery_enabled INTEGER NOT NULL,
        owner TEXT NOT NULL,
        made_ms INTEGER NOT NULL
    );
    CREATE INDEX message_topics_by_owner ON message_topics (owner);

    CREATE TABLE message_publishers (
        id INTEGER PRIMARY KEY AUTOINCREMENT,
        topic_id INTEGER NOT NULL,
        kind TEXT NOT NULL,
        target TEXT NOT NULL,
        from_now INTEGER NOT NULL,
        active INTEGER NOT NULL,
        timeout_ms INTEGER NOT NULL,
        retry_ms INTEGER NOT NULL,
        chunk_size INTEGER NOT NULL,
        max_attempts INTEGER,
        owner TEXT NOT NULL,
        made_ms INTEGER NOT NULL,
        UNIQUE (topic_id, kind, target)
    );
    CREATE INDEX message_publishers_by_owner ON message_publishers (owner);
";

/// What version 8 has: messages, and deliveries of them, which are calls with a `message`. Their numbers are negative, so
/// that nobody who lists calls passes over them: a delivery's own number less 2^60. `open` counts a message's
/// deliveries that are not over. A publisher that begins in the past lacks what comes after `caught_up_to`, until that
/// is null; `promised` has the numbers that were told for such publishers, by their ids, as JSON. What waits for a
/// publisher in `message_discards` goes away. `message_texts` has the texts of messages up to `texts_to` that are not
/// large.
const FROM_7_TO_8: &str = "
    ALTER TABLE calls ADD COLUMN message INTEGER;
    CREATE INDEX calls_by_message ON calls (message) WHERE message IS NOT NULL;
    DROP INDEX calls_by_end;
    CREATE INDEX calls_by_end ON calls (over, over_ms) WHERE over IS NOT NULL AND message IS NULL;
    ALTER TABLE destinations ADD COLUMN publisher INTEGER;
    ALTER TABLE message_publishers ADD COLUMN caught_up_to INTEGER;
    CREATE INDEX message_publishers_behind ON message_publishers (id) WHERE caught_up_to IS NOT NULL;
    CREATE TABLE messages_once (name TEXT PRIMARY KEY, at_ms INTEGER NOT NULL) WITHOUT ROWID;
    CREATE INDEX messages_once_by_time ON messages_once (at_ms);
    CREATE TABLE message_discards (publisher INTEGER PRIMARY KEY);

    CREATE TABLE messages (
        number INTEGER PRIMARY KEY,
        topic_id INTEGER NOT NULL,
        sender TEXT NOT NULL,
        received_ms INTEGER NOT NULL,
        due_ms INTEGER NOT NULL,
        open INTEGER NOT NULL,
        promised TEXT,
        content BLOB NOT NULL
    );
    CREATE INDEX messages_by_topic ON messages (topic_id, number);
    CREATE INDEX messages_closed ON messages (number) WHERE open = 0;

    CREATE INDEX messages_large ON messages (number) WHERE length(content) > 65536;
    CREATE VIRTUAL TABLE message_texts USING fts5(
        content, content='messages', content_rowid='number', tokenize='trigram', detail='none', columnsize=0
    );

    CREATE TABLE message_room (
        texts_to INTEGER NOT NULL DEFAULT 0, last INTEGER NOT NULL DEFAULT 0, messages INTEGER NOT NULL DEFAULT 0, bytes INTEGER NOT NULL DEFAULT 0
    );
    INSERT INTO message_room DEFAULT VALUES;
    INSERT INTO call_room (kind) VALUES ('message');
    CREATE TRIGGER messages_take_room AFTER INSERT ON messages BEGIN
        UPDATE message_room SET messages = messages + 1, bytes = bytes + length(new.content);
    END;
    CREATE TRIGGER messages_give_room AFTER DELETE ON messages BEGIN
        UPDATE message_room SET messages = messages - 1, bytes = bytes - length(old.content);
    END;
    CREATE TRIGGER message_texts_go AFTER DELETE ON messages
    WHEN length(old.content) <= 65536 AND old.number <= (SELECT texts_to FROM message_room) BEGIN
        INSERT INTO message_texts (message_texts, rowid, content)
        VALUES ('delete', old.number, CAST(old.content AS TEXT));
    END;
    CREATE TRIGGER deliveries_end AFTER UPDATE OF over ON calls
    WHEN new.message IS NOT NULL AND (old.over IS NULL) <> (new.over IS NULL) BEGIN
        UPDATE messages SET open = open + (new.over IS NULL) - (old.over IS NULL) WHERE number = new.message;
    END;
    CREATE TRIGGER deliveries_go AFTER DELETE ON calls WHEN old.message IS NOT NULL AND old.over IS NULL BEGIN
        UPDATE messages SET open = open - 1 WHERE number = old.message;
    END;
";

/// What version 9 adds. An item has its `event`, its position among all events; those from before have none, and are taken
/// for their time. `event_positions` has the last that was given. A queue that is paused says since when and by whom.
/// A queue that is pulled from is never due: `pull_until_ms` says until when its batch is out. `refusals` counts those of its batch; the events up to `suspect_last` may be one that is refused, and its next batch has
/// `next_max` of them at most. `publish_keys` names publications that are stored once. `dead_events` were taken out of
/// queues, and `dead_room` has how many there are and what they take. `keeps` says how long and how much topics keep of
/// `kept_events`; one without a topic has ended and goes with its events. A token may be one of several that are one
/// client, until a time.
const FROM_8_TO_9: &str = "
    ALTER TABLE items ADD COLUMN event INTEGER;
    CREATE TABLE event_positions (last INTEGER NOT NULL);
    INSERT INTO event_positions VALUES (0);

    ALTER TABLE queues ADD COLUMN paused_ms INTEGER;
    ALTER TABLE queues ADD COLUMN paused_by TEXT;
    ALTER TABLE queues ADD COLUMN secrets TEXT;
    ALTER TABLE queues ADD COLUMN format TEXT;
    ALTER TABLE queues ADD COLUMN refusals_max INTEGER;
    ALTER TABLE queues ADD COLUMN refusals INTEGER NOT NULL DEFAULT 0;
    ALTER TABLE queues ADD COLUMN suspect_last INTEGER;
    ALTER TABLE queues ADD COLUMN next_max INTEGER;
    ALTER TABLE queues ADD COLUMN pull_until_ms INTEGER;
    CREATE INDEX queues_pulled ON queues (pull_until_ms) WHERE callback = 'pull:';

    CREATE TABLE publish_keys (
        client TEXT NOT NULL,
        name TEXT NOT NULL,
        fingerprint TEXT NOT NULL,
        event INTEGER NOT NULL,
        at_ms INTEGER NOT NULL,
        PRIMARY KEY (client, name)
    ) WITHOUT ROWID;
    CREATE INDEX publish_keys_by_time ON publish_keys (at_ms);

    CREATE TABLE dead_events (
        number INTEGER PRIMARY KEY AUTOINCREMENT,
        subscriber TEXT NOT NULL,
        event INTEGER NOT NULL,
        dead_ms INTEGER NOT NULL,
        cause TEXT NOT NULL,
        status INTEGER,
        reason TEXT,
        payload BLOB NOT NULL
    );
    CREATE INDEX dead_events_by_subscriber ON dead_events (subscriber, event);
    CREATE TABLE dead_room (events INTEGER NOT NULL DEFAULT 0, bytes INTEGER NOT NULL DEFAULT 0);
    INSERT INTO dead_room DEFAULT VALUES;
    CREATE TRIGGER dead_events_take_room AFTER INSERT ON dead_events
    BEGIN UPDATE dead_room SET events = events + 1, bytes = bytes + length(new.payload) + 150; END;
    CREATE TRIGGER dead_events_give_room AFTER DELETE ON dead_events
    BEGIN UPDATE dead_room SET events = events - 1, bytes = bytes - length(old.payload) - 150; END;

    CREATE TABLE keeps (
        id INTEGER PRIMARY KEY AUTOINCREMENT, topic TEXT UNIQUE, ms INTEGER NOT NULL,
        bytes INTEGER NOT NULL, kept_bytes INTEGER NOT NULL DEFAULT 0
    );
    CREATE TABLE kept_events (
        event INTEGER PRIMARY KEY, keep_id INTEGER NOT NULL, at_ms INTEGER NOT NULL,
        payload BLOB NOT NULL
    );
    CREATE INDEX kept_events_by_keep ON kept_events (keep_id, event);
    CREATE TRIGGER topics_end_keeps AFTER DELETE ON topics
    BEGIN UPDATE keeps SET topic = NULL WHERE topic = old.name; END;

    ALTER TABLE api_tokens ADD COLUMN client TEXT;
    ALTER TABLE api_tokens ADD COLUMN until_ms INTEGER;
    ALTER TABLE message_publishers ADD COLUMN secrets TEXT;
    CREATE TABLE client_secrets (client TEXT PRIMARY KEY, secrets TEXT NOT NULL) WITHOUT ROWID;
";

/// What version 10 adds. A queue with `parallel` keeps the order of each entity: so many of its batches are out at once. What
/// an entity that fails has is `aside`, in the order of its numbers. A process may be asked to deliver nothing more.
const FROM_9_TO_10: &str = "
    ALTER TABLE processes ADD COLUMN drain INTEGER NOT NULL DEFAULT 0;
    ALTER TABLE queues ADD COLUMN parallel INTEGER;
    ALTER TABLE queues ADD COLUMN aside INTEGER NOT NULL DEFAULT 0;
    CREATE TABLE aside_entities (
        queue_id INTEGER NOT NULL,
        entity TEXT NOT NULL,
        due_ms INTEGER NOT NULL,
        attempts INTEGER NOT NULL DEFAULT 0,
        PRIMARY KEY (queue_id, entity)
    ) WITHOUT ROWID;
    CREATE TABLE aside_events (
        number INTEGER PRIMARY KEY AUTOINCREMENT,
        queue_id INTEGER NOT NULL,
        entity TEXT NOT NULL,
        event INTEGER NOT NULL,
        at_ms INTEGER NOT NULL,
        payload BLOB NOT NULL
    );
    CREATE INDEX aside_events_by_entity ON aside_events (queue_id, entity, number);
    CREATE INDEX aside_events_by_position ON aside_events (queue_id, event);
    CREATE TRIGGER aside_events_come AFTER INSERT ON aside_events
    BEGIN UPDATE queues SET aside = aside + 1 WHERE id = new.queue_id; END;
    CREATE TRIGGER aside_events_go AFTER DELETE ON aside_events
    BEGIN UPDATE queues SET aside = aside - 1 WHERE id = old.queue_id; END;
    CREATE TRIGGER queues_end_asides AFTER DELETE ON queues BEGIN
        DELETE FROM aside_entities WHERE queue_id = old.id;
        DELETE FROM aside_events WHERE queue_id = old.id;
    END;
";

/// What passed, counted for a subject in buckets of some length; which destinations fail.
const FROM_10_TO_11: &str = "
    CREATE TABLE tally_subjects (
        id INTEGER PRIMARY KEY,
        name TEXT NOT NULL UNIQUE,
        seen_ms INTEGER NOT NULL
    );
    CREATE TABLE tallies (
        span_ms INTEGER NOT NULL,
        start_ms INTEGER NOT NULL,
        subject INTEGER NOT NULL,
        volume INTEGER NOT NULL,
        success INTEGER NOT NULL,
        failure INTEGER NOT NULL,
        waited_ms INTEGER NOT NULL,
        queued INTEGER NOT NULL,
        PRIMARY KEY (span_ms, start_ms, subject)
    ) WITHOUT ROWID;
    CREATE INDEX destinations_by_failures ON destinations (failures) WHERE failures > 0;
";

/// Opens the file as every connection here needs it.
pub fn connect(path: &Path) -> anyhow::Result<Connection> {
    let mut connection = Connection::open(path)?;
    connection.busy_handler(Some(|tries| {
        thread::sleep(LOCK_PAUSE);
        tries < LOCK_TRIES
    }))?;
    // Until the file has its write-ahead log, a change has a journal beside it. A power loss must not
    // bring one back that was removed: it would undo the change to the log, and with it all that is
    // in the log. EXTRA syncs the directory.
    connection.pragma_update(None, "synchronous", "EXTRA")?;
    // Has an effect on an empty file only: freed pages can then be given back to the disk.
    connection.pragma_update(None, "auto_vacuum", "INCREMENTAL")?;
    let mode: String =
        connection.pragma_update_and_check(None, "journal_mode", "WAL", |row| row.get(0))?;
    if mode != "wal" {
        bail!("the file system does not support SQLite's write-ahead log (it offers {mode})");
    }
    // The log is synced apart from the commits; see `writer`.
    connection.pragma_update(None, "synchronous", "NORMAL")?;
    connection.pragma_update(None, "temp_store", "MEMORY")?;
    connection.pragma_update(None, "wal_autocheckpoint", log::PAGES)?;
    connection.set_prepared_statement_cache_capacity(64);
    // Else a statement is planned anew with each value that may tell whether a partial index will do.
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_QPSG, true)?;
    Ok(connection)
}

/// Opens a file that is a store of this version, and changes nothing about it.
pub fn connect_to_existing(path: &Path) -> anyhow::Result<Connection> {
    let has_log = log::path_of(path).exists();
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(path, flags)?;
    connection.busy_timeout(LOCK_PAUSE * LOCK_TRIES as u32)?;
    // Whoever closes a store last brings its log into it, and removes it. A log that was there before
    // is the bus's business; one that this connection makes for itself goes with it.
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, has_log)?;
    let pragma = |name: &str| connection.pragma_query_value(None, name, |row| row.get::<_, i64>(0));
    let found = (pragma("application_id")?, pragma("user_version")?);
    if connection.is_readonly("main")? {
        bail!("the file may not be written to");
    }
    match found {
        (APPLICATION_ID, VERSION) => Ok(connection),
        (APPLICATION_ID, version) => bail!(
            "the file has version {version} of the tables, and this program works with version \
             {VERSION}"
        ),
        _ => bail!("the file belongs to another program"),
    }
}

/// Whether a file has the tables of this version.
pub fn is_current(path: &Path) -> anyhow::Result<bool> {
    let connection = Connection::open(path)?;
    let version: i64 = connection.pragma_query_value(None, "user_version", |row| row.get(0))?;
    Ok(version == VERSION)
}

/// Makes the tables in an empty file and brings older ones up to date; refuses a file that another program or a newer version made.
pub fn migrate(connection: &Connection) -> anyhow::Result<()> {
    connection.execute_batch("BEGIN IMMEDIATE")?;
    let pragma = |name: &str| connection.pragma_query_value(None, name, |row| row.get::<_, i64>(0));
    let version = match (pragma("application_id")?, pragma("user_version")?) {
        (APPLICATION_ID, version @ 1..=VERSION) => version,
        (0, 0) => 0,
        (APPLICATION_ID, newer) => bail!(
            "the file has version {newer} of the tables, and this program knows version \
             {VERSION}: run the newer program that made it"
        ),
        _ => bail!("the file belongs to another program: choose another ROUTEMASTER_DATA_DIR"),
    };
    for migration in &MIGRATIONS[version as usize..] {
        connection.execute_batch(migration).with_context(|| match version {
            0 => {
                "failed to create the tables: is this the file of another program? Choose another \
                  ROUTEMASTER_DATA_DIR"
            }
            _ => "failed to bring the tables up to date",
        })?;
    }
    if version < VERSION {
        connection.pragma_update(None, "application_id", APPLICATION_ID)?;
        connection.pragma_update(None, "user_version", VERSION)?;
    }
    connection.execute_batch("COMMIT")?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tables_of_version_1_are_brought_up_to_date_with_what_is_in_them() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("old.db");
        let old = connect(&path).unwrap();
        old.execute_batch(VERSION_1).unwrap();
        old.pragma_update(None, "application_id", APPLICATION_ID).unwrap();
        old.pragma_update(None, "user_version", 1).unwrap();
        let insert = "INSERT INTO queues (name, subscriber, callback, timeout_ms, max)
                      VALUES ('q', ?1, 'https://a.example', 500, 100)";
        old.execute(insert, ["alice"]).unwrap();
        let item = "INSERT INTO items VALUES (1, 7, 1700000000000, '{}')";
        old.execute(item, []).unwrap();
        assert!(!is_current(&path).unwrap());
        let new = connect(&path).unwrap();
        for _ in 0..2 {
            migrate(&new).unwrap();
        }
        assert!(is_current(&path).unwrap());
        let row = "SELECT subscriber, expired, keeps_pause, max_queued IS NULL FROM queues";
        let row: (String, u64, bool, bool) = new
            .query_row(row, [], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?)))
            .unwrap();
        assert_eq!(row, ("alice".into(), 0, false, true));
        let item = "SELECT position = (1 << 40) + 7 AND at_ms = 1700000000000 FROM items";
        assert!(new.query_row(item, [], |row| row.get::<_, bool>(0)).unwrap());
    }

    /// The tables of a file, with their columns.
    fn tables(db: &Connection) -> Vec<(String, String, String)> {
        db.prepare(
            "SELECT tables.name, columns.name, columns.type FROM sqlite_schema AS tables,
                 pragma_table_info(tables.name) AS columns
             WHERE tables.type = 'table' ORDER BY 1, 2",
        )
        .unwrap()
        .query_map([], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))
        .unwrap()
        .collect::<Result<_, _>>()
        .unwrap()
    }

    #[test]
    fn a_file_of_each_version_becomes_what_a_new_one_is() {
        let directory = tempfile::tempdir().unwrap();
        let new = connect(&directory.path().join("new.db")).unwrap();
        migrate(&new).unwrap();
        for version in 1..MIGRATIONS.len() {
            let old = connect(&directory.path().join(format!("{version}.db"))).unwrap();
            for migration in &MIGRATIONS[..version] {
                old.execute_batch(migration).unwrap();
            }
            old.pragma_update(None, "application_id", APPLICATION_ID).unwrap();
            old.pragma_update(None, "user_version", version as i64).unwrap();
            migrate(&old).unwrap();
            assert_eq!(tables(&old), tables(&new), "from version {version}");
        }
    }

    #[test]
    fn no_queue_is_made_whose_positions_would_be_another_ones() {
        let directory = tempfile::tempdir().unwrap();
        let db = connect(&directory.path().join("full.db")).unwrap();
        migrate(&db).unwrap();
        let insert = |name: &str| {
            db.execute(
                "INSERT INTO queues (name, subscriber, callback, timeout_ms, max)
                 VALUES (?1, ?1, 'https://a.example', 500, 100)",
                [name],
            )
        };
        insert("first").unwrap();
        let last = (1i64 << 23) - 3;
        db.execute("UPDATE sqlite_sequence SET seq = ?1 WHERE name = 'queues'", [last]).unwrap();
        insert("last").unwrap();
        let error = crate::store::StoreError::from(insert("one more").unwrap_err());
        assert!(matches!(error, crate::store::StoreError::Full(_)), "{error}");
        let end: i64 =
            db.query_row("SELECT (max(id) + 1) << 40 FROM queues", [], |row| row.get(0)).unwrap();
        assert!(end > 0, "positions do not wrap: {end}");
    }

    #[test]
    fn a_file_of_a_newer_version_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        let db = connect(&directory.path().join("new.db")).unwrap();
        migrate(&db).unwrap();
        db.pragma_update(None, "user_version", VERSION + 1).unwrap();
        let error = migrate(&db).unwrap_err().to_string();
        assert!(error.contains("run the newer program"), "{error}");
    }
}
