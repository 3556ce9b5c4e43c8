//! Notices what other processes write to the file.
//!
//! Another process cannot ring this one's alarm, so a thread asks SQLite for its `data_version`,
//! which is a look into shared memory, and rings the alarm when it has moved. This process's own
//! commits move it as well, which costs a look for work that finds nothing.

use std::path::Path;
use std::sync::{Arc, Weak};
use std::thread;
use std::time::Duration;

use super::schema;
use crate::store::Alarm;

/// How late the wake-up from another process may come.
const INTERVAL: Duration = Duration::from_millis(5);
/// The pause after a failure, before the file is opened anew.
const RETRY: Duration = Duration::from_secs(1);

/// Starts watching; ends when the alarm is dropped. Failing to start costs speed, not
/// correctness: the worker looks for work from time to time anyway.
pub fn start(path: &Path, alarm: &Arc<Alarm>) {
    let (path, alarm) = (path.to_owned(), Arc::downgrade(alarm));
    let started = thread::Builder::new().name("sqlite-watcher".into()).spawn(move || {
        while alarm.strong_count() > 0 {
            if let Err(error) = watch(&path, &alarm) {
                tracing::warn!(%error, "failed to watch the SQLite file; trying again");
                thread::sleep(RETRY);
            }
        }
    });
    if let Err(error) = started {
        tracing::warn!(%error, "failed to start the thread that watches the SQLite file");
    }
}

fn watch(path: &Path, alarm: &Weak<Alarm>) -> anyhow::Result<()> {
    let connection = schema::connect(path)?;
    let mut version = connection.prepare("PRAGMA data_version")?;
    let mut seen: i64 = version.query_row([], |row| row.get(0))?;
    while let Some(alarm) = alarm.upgrade() {
        let current: i64 = version.query_row([], |row| row.get(0))?;
        if current != seen {
            seen = current;
            alarm.ring_in(Duration::ZERO);
        }
        drop(alarm);
        thread::sleep(INTERVAL);
    }
    Ok(())
}
