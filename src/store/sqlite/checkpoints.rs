//! Bringing SQLite's log into its file: most of it by a thread of its own, so that commits wait for the rest alone.
//!
//! The log begins again when all of it is in the file. While changes come, a thread beside them never gets to its end:
//! what has come meanwhile, the connection that writes brings itself, between two commits.

use std::path::Path;
use std::sync::mpsc::{self, SyncSender};
use std::thread;

use anyhow::Context;
use rusqlite::Connection;
use rusqlite::hooks::Wal;

use super::{EndNotice, log, schema};

/// From how many pages in the log on the thread begins, so that it is done about when there are [`log::PAGES`].
const EARLY: u32 = log::PAGES / 10 * 9;

/// A handle to the thread, which ends with it and with the connection that writes.
pub struct Checkpoints {
    wanted: SyncSender<()>,
}

impl Checkpoints {
    /// Has the log of the connection that writes brought into the file.
    ///
    /// # Errors
    /// If the file cannot be opened once more, or the thread does not start.
    pub fn start(
        connection: &mut Connection,
        path: &Path,
        notice: EndNotice,
    ) -> anyhow::Result<Self> {
        let apart = schema::connect(path)?;
        let (wanted, waiting) = mpsc::sync_channel(1);
        thread::Builder::new()
            .name("sqlite-checkpoint".into())
            .spawn(move || {
                let _notice = notice;
                while waiting.recv().is_ok() {
                    note(bring(&apart));
                }
            })
            .context("failed to start the thread that brings SQLite's log into its file")?;
        let (handle, mut is_begun) = (Self { wanted: wanted.clone() }, false);
        let committed = move |log: &mut Wal, pages: i32| {
            let pages = pages.unsigned_abs();
            if pages >= log::PAGES {
                // A passive one, as `bring` does.
                note(log.checkpoint());
            } else if pages < EARLY {
                is_begun = false;
            } else if !std::mem::replace(&mut is_begun, true) {
                ask(&wanted);
            }
            Ok(())
        };
        connection.wal_hook(Some(committed))?;
        Ok(handle)
    }

    /// Wants what is in the log in the file, soon.
    pub fn ask(&self) {
        ask(&self.wanted);
    }
}

/// One that is asked for already does as well.
fn ask(wanted: &SyncSender<()>) {
    let _ = wanted.try_send(());
}

/// Brings what is in the log into the file. Waits for nobody, and nobody waits for it.
pub fn bring(connection: &Connection) -> rusqlite::Result<()> {
    connection.query_row("PRAGMA wal_checkpoint(PASSIVE)", [], |_| Ok(()))
}

/// The log is as good as the file: what did not come into it now comes with the next commits.
fn note(brought: rusqlite::Result<()>) {
    if let Err(error) = brought {
        tracing::debug!(%error, "failed to bring SQLite's log into its file");
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::*;

    const PAGE: u64 = 4096;

    fn length(path: &Path) -> u64 {
        std::fs::metadata(path).unwrap().len()
    }

    fn started(path: &Path) -> (Connection, Checkpoints) {
        let mut connection = schema::connect(path).unwrap();
        let ended = tokio::sync::watch::Sender::new(None);
        let notice = EndNotice { thread: "sqlite-checkpoint", ended };
        let checkpoints = Checkpoints::start(&mut connection, path, notice).unwrap();
        connection.execute_batch("CREATE TABLE pages (content BLOB)").unwrap();
        (connection, checkpoints)
    }

    fn insert(connection: &Connection, pages: u32) {
        let sql = "WITH RECURSIVE numbers (value) AS (
                       SELECT 1 UNION ALL SELECT value + 1 FROM numbers LIMIT ?1)
                   INSERT INTO pages SELECT randomblob(4000) FROM numbers";
        connection.execute(sql, [pages]).unwrap();
    }

    #[test]
    fn the_log_begins_again_though_changes_never_pause() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("t.db");
        let (connection, _checkpoints) = started(&path);
        for _ in 0..6 * log::PAGES / 20 {
            insert(&connection, 20);
        }
        let log = length(&log::path_of(&path));
        assert!(log < 3 * u64::from(log::PAGES) * PAGE, "{log} bytes");
        let state: String =
            connection.query_row("PRAGMA integrity_check", [], |row| row.get(0)).unwrap();
        assert_eq!(state, "ok");
    }

    #[test]
    fn what_is_asked_for_is_in_the_file_soon() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("t.db");
        let (connection, checkpoints) = started(&path);
        insert(&connection, 100);
        assert!(length(&path) < 100 * PAGE);
        checkpoints.ask();
        let until = Instant::now() + Duration::from_secs(20);
        while length(&path) < 100 * PAGE {
            assert!(Instant::now() < until, "it is not");
            thread::sleep(Duration::from_millis(5));
        }
    }
}
