//! Takes entries from those who make attempts, and writes them in groups. Nobody waits for it: what it cannot
//! take is counted and left out.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::Instant;
use tokio_util::task::TaskTracker;

use super::{Entry, Journal, JournalBounds};

/// How many entries wait at most.
const WAITING_MAX: usize = 8_192;
/// And how many bytes of them, about.
const WAITING_BYTES_MAX: usize = 64 << 20;
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
    waiting_bytes: Arc<AtomicUsize>,
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
        let waiting_bytes = Arc::new(AtomicUsize::new(0));
        let entries = Waiting { entries, bytes: waiting_bytes.clone() };
        let writer = Writer { journal, bounds, left_out: left_out.clone(), count };
        tasks.spawn(writer.run(entries));
        Self { mode, waiting, waiting_bytes, left_out }
    }

    /// One that records nothing.
    #[cfg(test)]
    pub fn off() -> Self {
        Self {
            mode: JournalMode::Off,
            waiting: mpsc::channel(1).0,
            waiting_bytes: Arc::default(),
            left_out: Arc::default(),
        }
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
        let size = entry.size();
        let has_room = self.waiting_bytes.load(Ordering::Relaxed) + size <= WAITING_BYTES_MAX;
        self.waiting_bytes.fetch_add(size, Ordering::Relaxed);
        if !has_room || self.waiting.try_send(entry).is_err() {
            self.waiting_bytes.fetch_sub(size, Ordering::Relaxed);
            self.left_out.fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// Entries that nobody has taken yet.
struct Waiting {
    entries: mpsc::Receiver<Entry>,
    bytes: Arc<AtomicUsize>,
}

impl Waiting {
    async fn next(&mut self) -> Option<Entry> {
        let entry = self.entries.recv().await?;
        self.bytes.fetch_sub(entry.size(), Ordering::Relaxed);
        Some(entry)
    }
}

struct Writer {
    journal: Arc<dyn Journal>,
    bounds: JournalBounds,
    left_out: Arc<AtomicU64>,
    count: fn(u64),
}

impl Writer {
    async fn run(self, mut entries: Waiting) {
        let (mut told, mut untold) = (Instant::now(), 0);
        while let Some(first) = entries.next().await {
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

async fn gather(first: Entry, entries: &mut Waiting) -> Vec<Entry> {
    let until = Instant::now() + GROUP_TIME;
    let mut group = vec![first];
    while group.len() < GROUP_MAX {
        match tokio::time::timeout_at(until, entries.next()).await {
            Ok(Some(entry)) => group.push(entry),
            Ok(None) | Err(_) => break,
        }
    }
    group
}
