//! The committer: one thread that owns the writing connection.
//!
//! It takes all changes that wait, runs them in one transaction, and commits it to the log, which puts it into
//! the hands of the operating system. If any of them must be on disk, it syncs the log then, and answers: one
//! sync serves many (group commit). What need not be on disk is answered before. What an answer promises is
//! what `PRAGMA synchronous = FULL` would, which would sync for all alike.

use std::io;
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, SyncSender};
use std::thread;

use anyhow::Context;
use rusqlite::Connection;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};
use tokio::time::Instant;

use super::EndNotice;
use super::watcher::Watcher;
use crate::store::{StoreError, StoreResult};

/// What a power loss may do to a change that was answered for.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Durability {
    /// It may be undone; the file stays consistent.
    Eventually,
    /// Nothing: the change is on disk.
    OnDisk,
}

/// A change to run inside the transaction, or to be told that there is none; gives what is to be
/// done after the commit.
type Change = Box<dyn FnOnce(StoreResult<&Connection>) -> Option<Answer> + Send>;
/// Tells the caller, given how the commit went.
type Answer = Box<dyn FnOnce(&StoreResult<()>) + Send>;
/// Brings SQLite's log to disk.
pub type SyncLog = Box<dyn Fn() -> io::Result<()> + Send>;

/// A change that waits for a transaction, and its place among those.
struct Waiting {
    durability: Durability,
    change: Change,
    place: OwnedSemaphorePermit,
}

/// How many changes are under way at most; callers beyond that wait for a place, within their time.
const WAITING_MAX: usize = 1024;
/// How many changes one transaction takes at most.
const GROUP_MAX: usize = 256;

/// A handle to the committer. Its thread ends when the handle is dropped.
pub struct Writer {
    changes: SyncSender<Waiting>,
    /// As many as the channel holds, so that sending to it never waits.
    places: Arc<Semaphore>,
}

impl Writer {
    pub fn start(
        connection: Connection,
        sync_log: SyncLog,
        watcher: Watcher,
        notice: impl Fn(&'static str) -> EndNotice,
    ) -> anyhow::Result<Self> {
        let (changes, waiting) = mpsc::sync_channel(WAITING_MAX);
        let ends = notice("sqlite-writer");
        let mut committer = Committer { _ends: ends, connection, sync_log, is_hollow: false };
        thread::Builder::new()
            .name("sqlite-writer".into())
            .spawn(move || committer.commit_groups(&waiting, watcher))
            .context("failed to start the thread that writes to SQLite")?;
        Ok(Self { changes, places: Arc::new(Semaphore::new(WAITING_MAX)) })
    }

    /// Runs `change` in the next transaction and answers after its commit, or gives up.
    ///
    /// The change is undone alone if it fails, and is not run at all if the caller has given up
    /// by then.
    pub async fn run<T, F>(
        &self,
        durability: Durability,
        give_up: Instant,
        change: F,
    ) -> StoreResult<T>
    where
        T: Send + 'static,
        F: FnOnce(&Connection) -> rusqlite::Result<T> + Send + 'static,
    {
        let (reply, answer) = oneshot::channel::<StoreResult<T>>();
        let change: Change = Box::new(move |transaction| {
            if reply.is_closed() {
                return None;
            }
            let result = transaction.and_then(|connection| Ok(run_alone(connection, change)?));
            Some(Box::new(move |committed: &StoreResult<()>| {
                // A caller that gave up meanwhile has been told that the outcome is not known.
                let _ = reply.send(committed.clone().and(result));
            }))
        });
        let exchange = async {
            let gone = || StoreError::Unavailable("the thread that writes to SQLite ended".into());
            let place = self.places.clone().acquire_owned().await.map_err(|_| gone())?;
            let sent = self.changes.send(Waiting { durability, change, place });
            sent.map_err(|_| gone())?;
            answer.await.map_err(|_| gone())?
        };
        match tokio::time::timeout_at(give_up, exchange).await {
            Ok(result) => result,
            Err(_) => Err(StoreError::Unavailable("SQLite took too long to commit".into())),
        }
    }
}

/// Runs a change so that it leaves nothing behind if it fails.
fn run_alone<T>(
    connection: &Connection,
    change: impl FnOnce(&Connection) -> rusqlite::Result<T>,
) -> rusqlite::Result<T> {
    connection.prepare_cached("SAVEPOINT change")?.execute([])?;
    let result = change(connection);
    if result.is_err() {
        connection.prepare_cached("ROLLBACK TO change")?.execute([])?;
    }
    connection.prepare_cached("RELEASE change")?.execute([])?;
    result
}

/// An answer, and the place of the change that it is for.
type Placed = (Answer, OwnedSemaphorePermit);

struct Committer {
    /// Dropped before what callers wait for, so that this end is noticed first.
    _ends: EndNotice,
    connection: Connection,
    sync_log: SyncLog,
    /// Whether a sync has failed: what was committed before may be missing on disk, and what comes
    /// after it in the log would not survive a power loss either, though a later sync succeeds.
    is_hollow: bool,
}

impl Committer {
    fn commit_groups(&mut self, waiting: &Receiver<Waiting>, mut watcher: Watcher) {
        loop {
            let first = match waiting.recv_timeout(watcher.look(&self.connection)) {
                Ok(first) => first,
                Err(RecvTimeoutError::Timeout) => continue,
                Err(RecvTimeoutError::Disconnected) => return,
            };
            let others = waiting.try_iter().take(GROUP_MAX - 1);
            self.commit(std::iter::once(first).chain(others));
        }
    }

    fn commit(&mut self, group: impl Iterator<Item = Waiting>) {
        let transaction = self.fill_hollow().and_then(|()| Ok(begin(&self.connection)?));
        let begun = || {
            transaction.clone()?;
            // When the disk is full, SQLite undoes the whole transaction by itself; a change after
            // that would be committed although everybody is told that nothing was.
            match self.connection.is_autocommit() {
                false => Ok(&self.connection),
                true => Err(StoreError::Unavailable("SQLite undid the transaction".into())),
            }
        };
        let (mut answers, mut for_the_disk) = (Vec::<Placed>::new(), Vec::<Placed>::new());
        for Waiting { durability, change, place } in group {
            if let Some(answer) = change(begun()) {
                match durability {
                    Durability::Eventually => answers.push((answer, place)),
                    Durability::OnDisk => for_the_disk.push((answer, place)),
                }
            }
        }
        let committed = begun().and_then(|connection| Ok(commit(connection)?));
        tell(answers, &committed);
        if !for_the_disk.is_empty() {
            let synced = committed.and_then(|()| self.sync());
            tell(for_the_disk, &synced);
        }
    }

    fn sync(&mut self) -> StoreResult<()> {
        let Err(error) = (self.sync_log)() else { return Ok(()) };
        tracing::error!(%error, "failed to sync SQLite's log");
        self.is_hollow = true;
        Err(match error.kind() {
            io::ErrorKind::StorageFull => StoreError::Full(error.to_string()),
            _ => StoreError::Unavailable(format!("SQLite's log: {error}")),
        })
    }

    /// After a sync that failed, brings all that the log has into the file itself, on disk.
    fn fill_hollow(&mut self) -> StoreResult<()> {
        if !self.is_hollow {
            return Ok(());
        }
        let checkpoint = "PRAGMA wal_checkpoint(RESTART)";
        let busy: bool = self.connection.query_row(checkpoint, [], |row| row.get(0))?;
        if busy {
            return Err(StoreError::Unavailable("SQLite's log could not be synced".into()));
        }
        self.is_hollow = false;
        Ok(())
    }
}

fn tell(answers: Vec<Placed>, committed: &StoreResult<()>) {
    for (answer, _place) in answers {
        answer(committed);
    }
}

fn begin(connection: &Connection) -> rusqlite::Result<()> {
    connection.prepare_cached("BEGIN IMMEDIATE")?.execute([])?;
    Ok(())
}

fn commit(connection: &Connection) -> rusqlite::Result<()> {
    let committed = connection.prepare_cached("COMMIT")?.execute([]);
    if committed.is_err() && !connection.is_autocommit() {
        connection.execute_batch("ROLLBACK")?;
    }
    committed.map(drop)
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, Ordering};
    use std::time::Duration;

    use super::super::schema;
    use super::*;
    use crate::store::Alarm;

    #[tokio::test]
    async fn after_a_sync_that_failed_nothing_is_answered_for_until_the_file_has_all() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("t.db");
        let connection = schema::connect(&path).unwrap();
        connection.execute_batch("CREATE TABLE numbers (number INTEGER)").unwrap();
        let reader = schema::connect(&path).unwrap();
        let fails = Arc::new(AtomicBool::new(false));
        let sync_log: SyncLog = {
            let fails = fails.clone();
            Box::new(move || match fails.load(Ordering::SeqCst) {
                true => Err(io::Error::other("the disk is broken")),
                false => Ok(()),
            })
        };
        let watcher = Watcher::new(&[&Arc::new(Alarm::default())]);
        let writer = Writer::start(connection, sync_log, watcher, |thread| EndNotice {
            thread,
            ended: tokio::sync::watch::Sender::new(None),
        })
        .unwrap();
        let insert = async |number: i64| {
            let give_up = Instant::now() + Duration::from_secs(10);
            let change = move |db: &Connection| {
                db.execute("INSERT INTO numbers VALUES (?1)", [number]).map(drop)
            };
            writer.run(Durability::OnDisk, give_up, change).await
        };
        let log_bytes = || std::fs::metadata(directory.path().join("t.db-wal")).unwrap().len();
        insert(1).await.unwrap();
        assert!(log_bytes() > 0, "what is committed goes to the log at first");
        fails.store(true, Ordering::SeqCst);
        let error = insert(2).await.unwrap_err().to_string();
        assert!(error.contains("the disk is broken"), "{error}");
        fails.store(false, Ordering::SeqCst);
        // A reader that holds on to the log keeps it from being brought into the file.
        reader.execute_batch("BEGIN; SELECT count(*) FROM numbers").unwrap();
        assert!(insert(3).await.is_err(), "what the log lacks on disk is not there yet");
        reader.execute_batch("COMMIT").unwrap();
        insert(4).await.unwrap();
        let whole = std::fs::read(&path).unwrap().len();
        assert!(whole > 4096, "the file has what the log had: {whole} bytes");
    }
}
