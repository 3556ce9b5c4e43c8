//! Takes entries from those who make attempts, and writes them in groups. Nobody waits for it: what it cannot
//! take is counted and left out.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::Instant;
use tokio_util::task::TaskTracker;

use super::{Entry, Journal, JournalBounds};

/// How many entries wait at most.
const WAITING_MAX: usize = 8_192;
/// How many are written at once, and how long they wait for company: a crash costs no more.
const GROUP_MAX: usize = 500;
const GROUP_TIME: Duration = Duration::from_millis(250);
/// How long the journal is left alone that could not be written.
const AFTER_FAILURE: Duration = Duration::from_secs(1);
/// How often the log tells what was left out.
const REPORT_INTERVAL: Duration = Duration::from_secs(60);

/// Which attempts are recorded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum JournalMode {
    All,
    Failures,
    Off,
}

/// A handle to the writer, which ends when the last handle is dropped.
#[derive(Clone)]
pub struct Recorder {
    mode: JournalMode,
    waiting: mpsc::Sender<Entry>,
    left_out: Arc<AtomicU64>,
}

impl Recorder {
    /// Starts the writer on `tasks`; `count` is told what was left out.
    pub fn start(
        journal: Arc<dyn Journal>,
        mode: JournalMode,
        bounds: JournalBounds,
        tasks: &TaskTracker,
        count: fn(u64),
    ) -> Self {
        let (waiting, entries) = mpsc::channel(WAITING_MAX);
        let left_out = Arc::new(AtomicU64::new(0));
        let writer = Writer { journal, bounds, left_out: left_out.clone(), count };
        tasks.spawn(writer.run(entries));
        Self { mode, waiting, left_out }
    }

    /// Whether an attempt is recorded that came to this.
    pub fn wants(&self, failed: bool) -> bool {
        match self.mode {
            JournalMode::All => true,
            JournalMode::Failures => failed,
            JournalMode::Off => false,
        }
    }

    /// Takes an entry, if there is room for it.
    pub fn record(&self, entry: Entry) {
        if self.waiting.try_send(entry).is_err() {
            self.left_out.fetch_add(1, Ordering::Relaxed);
        }
    }
}

struct Writer {
    journal: Arc<dyn Journal>,
    bounds: JournalBounds,
    left_out: Arc<AtomicU64>,
    count: fn(u64),
}

impl Writer {
    async fn run(self, mut entries: mpsc::Receiver<Entry>) {
        let (mut told, mut untold) = (Instant::now(), 0);
        while let Some(first) = entries.recv().await {
            let group = gather(first, &mut entries).await;
            let count = group.len() as u64;
            if let Err(error) = self.journal.append(group, self.bounds).await {
                tracing::debug!(%error, "failed to write the journal");
                self.left_out.fetch_add(count, Ordering::Relaxed);
                tokio::time::sleep(AFTER_FAILURE).await;
            }
            let left_out = self.left_out.swap(0, Ordering::Relaxed);
            (self.count)(left_out);
            untold += left_out;
            if untold > 0 && told.elapsed() >= REPORT_INTERVAL {
                tracing::warn!(entries = untold, "left attempts out of the journal");
                (told, untold) = (Instant::now(), 0);
            }
        }
    }
}

async fn gather(first: Entry, entries: &mut mpsc::Receiver<Entry>) -> Vec<Entry> {
    let until = Instant::now() + GROUP_TIME;
    let mut group = vec![first];
    while group.len() < GROUP_MAX {
        match tokio::time::timeout_at(until, entries.recv()).await {
            Ok(Some(entry)) => group.push(entry),
            Ok(None) | Err(_) => break,
        }
    }
    group
}
