//! Where log lines go: standard error or a file, by a thread of its own, so that nobody who logs waits
//! for whoever reads.
//!
//! A pipe that nobody reads and a disk that is full cost lines, never time: what does not fit into the
//! queue, or cannot be written, is dropped, and counted in the next line that can be written.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use anyhow::Context;
use tracing_subscriber::fmt::MakeWriter;

use super::metrics::record;

/// How much waits to be written at most: lines, and bytes of them.
const LINES_MAX: usize = 16_384;
const BYTES_MAX: usize = 8 * 1024 * 1024;
/// How long the end of a process waits for lines to be written.
const FINISH_FOR: Duration = Duration::from_millis(500);

/// Takes lines; cheap to clone.
#[derive(Clone)]
pub struct LogSink {
    lines: SyncSender<Message>,
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    /// Bytes of the lines that wait.
    waiting: AtomicUsize,
    /// Lines dropped since that was last told.
    dropped: AtomicU64,
    /// Whether a file is to be opened anew.
    reopen: AtomicBool,
}

enum Message {
    Line(Vec<u8>),
    /// Look whether the file is to be opened anew.
    Look,
    /// Everything before it is written: say so.
    Flush(SyncSender<()>),
}

/// What lines are written to.
enum Target {
    StandardError,
    File { path: PathBuf, file: File },
}

impl LogSink {
    /// Starts the thread that writes, to a file or to standard error.
    ///
    /// # Errors
    /// If the file cannot be opened.
    pub fn start(file: Option<&Path>) -> anyhow::Result<Self> {
        let target = match file {
            None => Target::StandardError,
            Some(path) => Target::File { path: path.to_owned(), file: open(path)? },
        };
        let (lines, waiting) = sync_channel(LINES_MAX);
        let shared = Arc::new(Shared::default());
        let writer = Writer { target, waiting, shared: shared.clone(), is_broken: false };
        thread::Builder::new()
            .name("log".into())
            .spawn(|| writer.run())
            .context("failed to start the thread that writes the log")?;
        Ok(Self { lines, shared })
    }

    /// Lets a file be opened anew, because a program that rotates it has moved it away.
    pub fn reopen(&self) {
        self.shared.reopen.store(true, Ordering::Relaxed);
        // A thread that has so much to write that this does not fit in looks by itself.
        let _ = self.lines.try_send(Message::Look);
    }

    /// Waits until what was logged is written, but not for long.
    pub fn finish(&self) {
        let (done, is_done) = sync_channel(1);
        if self.lines.try_send(Message::Flush(done)).is_ok() {
            let _ = is_done.recv_timeout(FINISH_FOR);
        }
    }

    fn take(&self, line: Vec<u8>) {
        let length = line.len();
        let waits = self.shared.waiting.fetch_add(length, Ordering::Relaxed);
        let fits = waits + length <= BYTES_MAX;
        if !fits || self.lines.try_send(Message::Line(line)).is_err() {
            self.shared.waiting.fetch_sub(length, Ordering::Relaxed);
            self.shared.drop_line();
        }
    }
}

impl Shared {
    fn drop_line(&self) {
        self.dropped.fetch_add(1, Ordering::Relaxed);
        record::log_line_dropped();
    }
}

/// Collects one line, and hands it over when it is complete.
pub struct Line<'a> {
    sink: &'a LogSink,
    bytes: Vec<u8>,
}

impl Write for Line<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.bytes.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Drop for Line<'_> {
    fn drop(&mut self) {
        if !self.bytes.is_empty() {
            self.sink.take(std::mem::take(&mut self.bytes));
        }
    }
}

impl<'a> MakeWriter<'a> for LogSink {
    type Writer = Line<'a>;

    fn make_writer(&'a self) -> Line<'a> {
        Line { sink: self, bytes: Vec::new() }
    }
}

struct Writer {
    target: Target,
    waiting: Receiver<Message>,
    shared: Arc<Shared>,
    /// Whether a line may have been written in part.
    is_broken: bool,
}

impl Writer {
    fn run(mut self) {
        while let Ok(message) = self.waiting.recv() {
            self.reopen_if_asked();
            match message {
                Message::Line(line) => {
                    self.shared.waiting.fetch_sub(line.len(), Ordering::Relaxed);
                    self.write(&line);
                }
                Message::Look => {}
                Message::Flush(done) => {
                    let _ = done.try_send(());
                }
            }
        }
    }

    fn write(&mut self, line: &[u8]) {
        let dropped = self.shared.dropped.load(Ordering::Relaxed);
        let mut text = Vec::new();
        if self.is_broken {
            text.push(b'\n');
        }
        if dropped > 0 {
            let note = format!(
                "{{\"level\":\"WARN\",\"message\":\"lines of the log were dropped: they could not be \
                 written in time\",\"lines\":{dropped}}}\n"
            );
            text.extend_from_slice(note.as_bytes());
        }
        text.extend_from_slice(line);
        self.is_broken = self.target.write_all(&text).is_err();
        if self.is_broken {
            self.shared.drop_line();
        } else {
            self.shared.dropped.fetch_sub(dropped, Ordering::Relaxed);
        }
    }

    fn reopen_if_asked(&mut self) {
        if !self.shared.reopen.swap(false, Ordering::Relaxed) {
            return;
        }
        if let Target::File { path, file } = &mut self.target {
            // Where that fails, the old one is better than none; the next SIGHUP tries again.
            if let Ok(new) = open(path) {
                *file = new;
            }
        }
    }
}

impl Target {
    fn write_all(&mut self, bytes: &[u8]) -> io::Result<()> {
        match self {
            Self::StandardError => io::stderr().lock().write_all(bytes),
            Self::File { file, .. } => file.write_all(bytes),
        }
    }
}

fn open(path: &Path) -> anyhow::Result<File> {
    let file = OpenOptions::new().append(true).create(true).open(path);
    file.with_context(|| format!("failed to open ROUTEMASTER_LOG_FILE={}", path.display()))
}

/// The sink of this process, for what ends it and for signals.
static SINK: Mutex<Option<LogSink>> = Mutex::new(None);

/// Makes a sink that of this process.
pub fn install(sink: LogSink) {
    *SINK.lock().unwrap_or_else(PoisonError::into_inner) = Some(sink);
}

/// The sink of this process, once there is one.
pub fn installed() -> Option<LogSink> {
    SINK.lock().unwrap_or_else(PoisonError::into_inner).clone()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn log(sink: &LogSink, text: &str) {
        sink.make_writer().write_all(text.as_bytes()).unwrap();
    }

    #[test]
    fn lines_are_appended_in_order_and_a_moved_file_is_made_anew_when_asked() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("log");
        std::fs::write(&path, "old\n").unwrap();
        let sink = LogSink::start(Some(&path)).unwrap();
        log(&sink, "one\n");
        log(&sink, "two\n");
        sink.finish();
        let moved = directory.path().join("log.1");
        std::fs::rename(&path, &moved).unwrap();
        log(&sink, "three\n");
        sink.finish();
        assert_eq!(std::fs::read_to_string(&moved).unwrap(), "old\none\ntwo\nthree\n");
        sink.reopen();
        sink.finish();
        assert!(path.exists(), "it is made anew without a line to write");
        log(&sink, "four\n");
        sink.finish();
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "four\n");
    }

    #[test]
    fn a_full_disk_costs_lines_and_nothing_else() {
        let sink = LogSink::start(Some(Path::new("/dev/full"))).unwrap();
        for _ in 0..3 {
            log(&sink, "lost\n");
        }
        sink.finish();
        assert_eq!(sink.shared.dropped.load(Ordering::Relaxed), 3);
        assert_eq!(sink.shared.waiting.load(Ordering::Relaxed), 0);
    }

    #[test]
    fn more_than_the_queue_holds_is_dropped_and_the_next_line_says_how_many() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("log");
        let sink = LogSink::start(Some(&path)).unwrap();
        log(&sink, &"x".repeat(BYTES_MAX + 1));
        log(&sink, "after\n");
        sink.finish();
        let written = std::fs::read_to_string(&path).unwrap();
        let (note, after) = written.split_once('\n').unwrap();
        let note: serde_json::Value = serde_json::from_str(note).unwrap();
        assert_eq!((&note["lines"], after), (&1.into(), "after\n"));
    }
}
