//! Notices what other processes write to the file.
//!
//! Another process cannot ring this one's alarm, so the writing connection is asked every few
//! milliseconds for its `data_version`, which is a look into shared memory and moves when another
//! connection has committed. The alarms are rung then.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use rusqlite::Connection;

use crate::store::Alarm;

/// How late the wake-up from another process may come.
const INTERVAL: Duration = Duration::from_millis(5);
/// How long nobody looks while no worker of this process waits for an alarm.
const IDLE: Duration = Duration::from_millis(500);

/// Belongs to the thread with the writing connection.
pub struct Watcher {
    alarms: Vec<Weak<Alarm>>,
    is_wanted: Arc<AtomicBool>,
    next_look: Instant,
    seen: Option<i64>,
}

impl Watcher {
    pub fn new(alarms: &[&Arc<Alarm>]) -> Self {
        let is_wanted = Arc::default();
        let alarms = alarms.iter().map(|alarm| Arc::downgrade(alarm)).collect();
        Self { alarms, is_wanted, next_look: Instant::now(), seen: None }
    }

    /// Set it once somebody waits for the alarm.
    pub fn switch(&self) -> Arc<AtomicBool> {
        self.is_wanted.clone()
    }

    /// Looks if it is time to; returns in how long it will be again.
    pub fn look(&mut self, connection: &Connection) -> Duration {
        if !self.is_wanted.load(Ordering::Relaxed) {
            return IDLE;
        }
        let now = Instant::now();
        if now >= self.next_look {
            self.next_look = now + INTERVAL;
            let version = connection
                .prepare_cached("PRAGMA data_version")
                .and_then(|mut version| version.query_row([], |row| row.get(0)));
            match version {
                Ok(version) => {
                    if self.seen.replace(version).is_some_and(|seen| seen != version) {
                        for alarm in self.alarms.iter().filter_map(Weak::upgrade) {
                            alarm.ring_in(Duration::ZERO);
                        }
                    }
                }
                // The worker looks for work from time to time anyway.
                Err(error) => tracing::debug!(%error, "failed to ask SQLite for changes"),
            }
        }
        self.next_look.saturating_duration_since(now)
    }
}
