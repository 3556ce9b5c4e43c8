//! The embedded store: one SQLite file, which several processes on one machine may share.
//!
//! All writing goes through one thread that commits what waits as one transaction ([`writer`]);
//! monitoring reads beside it ([`reader`]), and [`checkpoints`] brings the log into the file. Each part of the store has
//! a file: [`queues`], whose work is done in [`publish`], [`items`] and [`batches`] (when one is due, in [`due`]),
//! [`directory`], [`room`] with [`trim`], [`duties`], [`imports`]. Chores are in [`housekeeping`].

mod batches;
mod call_acceptance;
mod calls;
mod checkpoints;
mod control;
mod dead_events;
mod destinations;
mod directory;
mod due;
mod duties;
mod entity_order;
mod housekeeping;
mod imports;
mod items;
mod kept_events;
mod log;
mod message_texts;
mod message_topics;
mod messages;
mod processes;
mod publish;
mod pulls;
mod queues;
mod reader;
mod room;
mod schema;
mod tallies;
mod trim;
mod watcher;
mod writer;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use async_trait::async_trait;
use rusqlite::Connection;
use tokio::sync::watch;
use tokio::time::Instant;

use super::{Alarm, Arrivals, Lanes, Store, StoreError, StoreResult, Usage};
use crate::bus::clock::Clock;
use crate::bus::token::random_hex;
use crate::files::create_private_file;
use checkpoints::Checkpoints;
use log::Log;
use reader::Reader;
use watcher::Watcher;
use writer::{Durability, Writer};

/// Longest time any call takes before it gives [`StoreError::Unavailable`].
const CALL_TIMEOUT: Duration = Duration::from_secs(4);

pub struct SqliteStore {
    path: PathBuf,
    identity: FileIdentity,
    clock: Clock,
    writer: Writer,
    checkpoints: Checkpoints,
    reader: Arc<Reader>,
    alarm: Arc<Alarm>,
    call_alarm: Arc<Alarm>,
    arrivals: Arc<Arrivals>,
    /// Rung when another process has written, for those who wait for arrivals.
    arrival_alarm: Arc<Alarm>,
    /// Started by whoever waits first.
    looks_for_arrivals: std::sync::OnceLock<()>,
    /// Whether a worker of this process waits for the alarm.
    is_watched: Arc<AtomicBool>,
    /// Whether chores were done since the file was last shortened.
    is_tidying: AtomicBool,
    /// Names this process in the duties that it takes.
    process: String,
    /// How many topics one client may have.
    max_topics: u32,
    /// The name of a thread that has ended.
    ended: watch::Sender<Option<&'static str>>,
}

/// How often is looked whether the file is still there.
const LOOK: Duration = Duration::from_secs(1);

/// Which file a path led to when it was opened. A process goes on writing into one that was removed, and
/// all of that is gone when it ends.
#[derive(Clone, Copy)]
struct FileIdentity(Option<(u64, u64)>);

impl FileIdentity {
    fn of(path: &Path) -> std::io::Result<Self> {
        std::fs::metadata(path).map(|file| Self(identity(&file)))
    }

    fn is_gone(&self, path: &Path) -> bool {
        match std::fs::metadata(path) {
            Ok(file) => identity(&file) != self.0,
            Err(error) => error.kind() == std::io::ErrorKind::NotFound,
        }
    }
}

#[cfg(unix)]
fn identity(file: &std::fs::Metadata) -> Option<(u64, u64)> {
    use std::os::unix::fs::MetadataExt;
    Some((file.dev(), file.ino()))
}

#[cfg(not(unix))]
fn identity(_: &std::fs::Metadata) -> Option<(u64, u64)> {
    None
}

fn gone(path: &Path) -> StoreError {
    StoreError::Unavailable(format!(
        "{} was removed, or another file is in its place, while the bus was using it",
        path.display()
    ))
}

/// Tells when a thread ends that is there as long as the store is.
pub struct EndNotice {
    thread: &'static str,
    ended: watch::Sender<Option<&'static str>>,
}

impl Drop for EndNotice {
    fn drop(&mut self) {
        // One thread's end is the end of the others; the first is told.
        self.ended.send_if_modified(|ended| {
            let is_first = ended.is_none();
            ended.get_or_insert(self.thread);
            is_first
        });
    }
}

/// The file's name in its directory.
const FILE: &str = "routemaster.db";

impl SqliteStore {
    /// Whether there is a store in `directory`.
    pub fn exists_in(directory: &Path) -> bool {
        directory.join(FILE).exists()
    }

    /// As [`SqliteStore::exists_in`].
    ///
    /// # Errors
    /// If it cannot be told, for want of permission.
    pub fn find_in(directory: &Path) -> std::io::Result<bool> {
        directory.join(FILE).try_exists()
    }

    /// Whether the store in `directory` was made or used by this version, so that opening it
    /// changes nothing.
    ///
    /// # Errors
    /// If it cannot be read.
    pub fn is_current_in(directory: &Path) -> anyhow::Result<bool> {
        schema::is_current(&directory.join(FILE))
    }

    /// Looks how much room the store in `directory` takes up. Changes nothing, and leaves nothing
    /// behind; waits for the disk.
    ///
    /// # Errors
    /// If there is no store, or it cannot be used.
    pub fn usage_in(directory: &Path) -> anyhow::Result<Usage> {
        let path = directory.join(FILE);
        let connection = schema::connect_to_existing(&path)?;
        let usage = housekeeping::usage(&connection)?;
        connection.close().map_err(|(_, error)| error)?;
        Ok(usage)
    }

    /// Opens `routemaster.db` in `directory`, and makes both if they are not there.
    ///
    /// # Errors
    /// If the directory cannot be used, the file is damaged or comes from a newer version.
    pub fn open(directory: &Path, clock: Clock) -> anyhow::Result<Self> {
        use anyhow::Context;
        let path = directory.join(FILE);
        create_private_file(directory, &path)
            .with_context(|| format!("failed to create {}", path.display()))?;
        let open = || -> anyhow::Result<(Connection, Connection, Log)> {
            let connection = schema::connect(&path)?;
            schema::migrate(&connection)?;
            let log = Log::open(&path)?;
            log.fill(&connection)?;
            Ok((connection, schema::connect(&path)?, log))
        };
        let (mut connection, reader, log) = open()
            .map_err(|error| match error.downcast_ref().is_some_and(is_damage) {
                true => error.context(DAMAGED),
                false => error,
            })
            .with_context(|| format!("failed to open the store {}", path.display()))?;
        let (alarm, call_alarm) = (Arc::new(Alarm::default()), Arc::new(Alarm::default()));
        let arrival_alarm = Arc::<Alarm>::default();
        let watcher = Watcher::new(&[&alarm, &call_alarm, &arrival_alarm]);
        let ended = watch::Sender::new(None);
        let notice = |thread| EndNotice { thread, ended: ended.clone() };
        let apart = notice("sqlite-checkpoint");
        let checkpoints = Checkpoints::start(&mut connection, &path, apart)?;
        Ok(Self {
            identity: FileIdentity::of(&path)?,
            path,
            clock,
            is_watched: watcher.switch(),
            writer: Writer::start(connection, Box::new(move || log.sync()), watcher, notice)?,
            checkpoints,
            reader: Arc::new(Reader::start(reader, notice("sqlite-reader"))?),
            ended: ended.clone(),
            alarm,
            call_alarm,
            arrivals: Arc::default(),
            arrival_alarm,
            looks_for_arrivals: std::sync::OnceLock::new(),
            is_tidying: AtomicBool::new(false),
            process: random_hex()?,
            max_topics: u32::MAX,
        })
    }

    /// Limits how many topics one client may have.
    pub fn with_max_topics(self, max_topics: u32) -> Self {
        Self { max_topics, ..self }
    }

    /// Runs a change that must be on disk before it is answered for.
    async fn write<T, F>(&self, change: F) -> StoreResult<T>
    where
        T: Send + 'static,
        F: FnOnce(&Connection) -> rusqlite::Result<T> + Send + 'static,
    {
        self.writer.run(Durability::OnDisk, Instant::now() + CALL_TIMEOUT, change).await
    }

    /// What a fault in this program would do.
    #[cfg(test)]
    pub async fn panic_in_the_writer(&self) {
        let change = |_: &Connection| -> rusqlite::Result<()> { panic!("for a test") };
        let _ = self.write(change).await;
    }

    /// Runs a change that a power loss may undo: what it costs then is that events are sent
    /// twice, in batches with other names.
    async fn write_lazily<T, F>(&self, change: F) -> StoreResult<T>
    where
        T: Send + 'static,
        F: FnOnce(&Connection) -> rusqlite::Result<T> + Send + 'static,
    {
        self.writer.run(Durability::Eventually, Instant::now() + CALL_TIMEOUT, change).await
    }
}

#[async_trait]
impl Lanes for SqliteStore {
    async fn lanes(&self) -> StoreResult<usize> {
        Ok(1)
    }
}

#[async_trait]
impl Store for SqliteStore {
    async fn ping(&self) -> StoreResult<()> {
        if self.identity.is_gone(&self.path) {
            return Err(gone(&self.path));
        }
        let now_ms = self.clock.now_ms();
        let touch = "INSERT OR REPLACE INTO times (name, at_ms) VALUES ('pulse', ?1)";
        self.write_lazily(move |db| db.execute(touch, [now_ms]).map(drop)).await
    }

    async fn broken(&self) -> StoreError {
        let mut ended = self.ended.subscribe();
        let ended = async {
            let name = ended.wait_for(Option::is_some).await.ok().and_then(|name| *name);
            let name = name.unwrap_or("of SQLite");
            StoreError::Unavailable(format!("the thread {name} has ended, which it never should"))
        };
        let removed = async {
            while !self.identity.is_gone(&self.path) {
                tokio::time::sleep(LOOK).await;
            }
            gone(&self.path)
        };
        tokio::select! {
            error = ended => error,
            error = removed => error,
        }
    }

    fn describe(&self) -> String {
        format!("SQLite, {} (every event is on disk before its 204)", self.path.display())
    }
}

/// What an operator can do about a file that is not as it was written.
const DAMAGED: &str = "the file is damaged, or another program's: stop the bus and restore a backup, \
                       or move the file away to begin with an empty store";

fn is_damage(error: &rusqlite::Error) -> bool {
    use rusqlite::ErrorCode::{DatabaseCorrupt, NotADatabase};
    match error {
        rusqlite::Error::SqliteFailure(failure, _) => {
            matches!(failure.code, DatabaseCorrupt | NotADatabase)
        }
        rusqlite::Error::FromSqlConversionFailure(..)
        | rusqlite::Error::IntegralValueOutOfRange(..)
        | rusqlite::Error::InvalidColumnType(..) => true,
        _ => false,
    }
}

impl From<rusqlite::Error> for StoreError {
    fn from(error: rusqlite::Error) -> Self {
        match &error {
            rusqlite::Error::SqliteFailure(failure, _)
                if failure.code == rusqlite::ErrorCode::DiskFull =>
            {
                StoreError::Full(error.to_string())
            }
            // A queue too many: see `schema`.
            rusqlite::Error::SqliteFailure(failure, _)
                if failure.extended_code == rusqlite::ffi::SQLITE_CONSTRAINT_TRIGGER =>
            {
                StoreError::Full(error.to_string())
            }
            damage if is_damage(damage) => StoreError::Corrupt(format!("{DAMAGED} ({error})")),
            _ => StoreError::Unavailable(error.to_string()),
        }
    }
}
