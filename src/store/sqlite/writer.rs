//! The committer: one thread that owns the writing connection.
//!
//! It takes all changes that wait, runs them in one transaction, and answers them after the
//! commit, so that one fsync serves all (group commit). While it commits, the next ones gather.

use std::thread;

use anyhow::Context;
use rusqlite::Connection;
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;

use crate::store::{StoreError, StoreResult};

/// What a power loss may do to a change that was answered for.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
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

/// How many changes wait at most; callers beyond that wait for a place, within their time.
const WAITING_MAX: usize = 1024;
/// How many changes one transaction takes at most.
const GROUP_MAX: usize = 256;

/// A handle to the committer. The thread ends when the handle is dropped.
pub struct Writer {
    changes: mpsc::Sender<(Durability, Change)>,
}

impl Writer {
    pub fn start(connection: Connection) -> anyhow::Result<Self> {
        let (changes, waiting) = mpsc::channel(WAITING_MAX);
        thread::Builder::new()
            .name("sqlite-writer".into())
            .spawn(move || commit_groups(&connection, waiting))
            .context("failed to start the thread that writes to SQLite")?;
        Ok(Self { changes })
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
            let gone = |what: &str| StoreError::Unavailable(what.into());
            let sent = self.changes.send((durability, change)).await;
            sent.map_err(|_| gone("the thread that writes to SQLite has ended"))?;
            answer.await.map_err(|_| gone("the thread that writes to SQLite gave no answer"))?
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

fn commit_groups(connection: &Connection, mut waiting: mpsc::Receiver<(Durability, Change)>) {
    let mut group = Vec::with_capacity(GROUP_MAX);
    while waiting.blocking_recv_many(&mut group, GROUP_MAX) > 0 {
        let durability = group.iter().map(|(durability, _)| *durability).max();
        let transaction = begin(connection, durability).map_err(StoreError::from);
        let begun = || {
            transaction.clone()?;
            // When the disk is full, SQLite undoes the whole transaction by itself; a change after
            // that would be committed although everybody is told that nothing was.
            match connection.is_autocommit() {
                false => Ok(connection),
                true => Err(StoreError::Unavailable("SQLite undid the transaction".into())),
            }
        };
        let answers: Vec<Answer> =
            group.drain(..).filter_map(|(_, change)| change(begun())).collect();
        let committed = begun().and_then(|connection| Ok(commit(connection)?));
        for answer in answers {
            answer(&committed);
        }
    }
}

fn begin(connection: &Connection, durability: Option<Durability>) -> rusqlite::Result<()> {
    // In WAL mode, FULL syncs the log at each commit and NORMAL leaves that to the checkpoints.
    connection.execute_batch(match durability {
        Some(Durability::OnDisk) => "PRAGMA synchronous = FULL",
        Some(Durability::Eventually) | None => "PRAGMA synchronous = NORMAL",
    })?;
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
