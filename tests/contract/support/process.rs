//! One process of the bus: the real binary in one of its roles.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use tokio::process::{Child, Command};

use super::client::Client;
use super::output::Output;
use super::raw;
use super::run::within;

/// How long a process may take to start, on a machine that is busy with other tests.
const START_LIMIT: Duration = Duration::from_secs(30);
/// How long a process may take to end after the signal: less than the shutdown time-out, which
/// nobody should have to wait for.
const EXIT_LIMIT: Duration = Duration::from_secs(15);

#[derive(Clone, Copy, Debug)]
pub enum Signal {
    Term,
    Int,
    Kill,
    Hup,
    /// The process hangs until [`Signal::Continue`].
    #[allow(dead_code, reason = "for the torture")]
    Stop,
    #[allow(dead_code, reason = "for the torture")]
    Continue,
}

/// A running process. Killed when it is dropped; a test that fails prints what it said.
pub struct Process {
    child: Child,
    pub stdout: Output,
    pub stderr: Output,
    /// `https://localhost:<port>`; empty for a worker.
    base: String,
    /// Whom a client of this process trusts.
    ca: PathBuf,
}

impl Process {
    /// Starts a process that has its settings already, and waits for the line with `ready`.
    pub async fn start(mut command: Command, ca: &Path, ready: &str) -> Self {
        let mut process = Self::spawn(&mut command, ca);
        let line = within(START_LIMIT, "the process is ready", process.stdout.line_with(ready));
        let Some(line) = line.await else {
            panic!("the process ended before it printed `{ready}`");
        };
        if let Some(at) = line.find("http") {
            let url = line[at..].split_whitespace().next().unwrap_or_default();
            let url = url.trim_end_matches("/metrics");
            process.base = url.trim_end_matches(['/', '.', ',']).to_owned();
        }
        process
    }

    /// Starts a process without waiting for anything.
    pub fn spawn(command: &mut Command, ca: &Path) -> Self {
        let mut child = command.spawn().expect("the binary starts");
        let stdout = Output::of(child.stdout.take().expect("stdout is a pipe"));
        let stderr = Output::of(child.stderr.take().expect("stderr is a pipe"));
        Self { child, stdout, stderr, base: String::new(), ca: ca.to_owned() }
    }

    /// A client with this token, over HTTP/1.1.
    pub fn client(&self, token: &str) -> Client {
        Client::new(&self.base, &self.ca).with_token(token)
    }

    /// A client without any authentication.
    pub fn anonymous(&self) -> Client {
        Client::new(&self.base, &self.ca)
    }

    /// The URL where it listens, without a slash at the end.
    pub fn base(&self) -> &str {
        &self.base
    }

    pub fn port(&self) -> u16 {
        let port = self.base.rsplit(':').next().and_then(|port| port.parse().ok());
        port.unwrap_or_else(|| panic!("there is no port in `{}`", self.base))
    }

    /// A connection with a TLS handshake done, to write anything into.
    pub async fn connect(&self) -> raw::Stream {
        raw::connect_tls(self.port(), &self.ca).await
    }

    /// As [`Process::connect`], for another protocol than HTTP/1.1.
    pub async fn connect_speaking(&self, protocol: &[u8]) -> raw::Stream {
        raw::connect_tls_speaking(self.port(), &self.ca, protocol).await
    }

    /// Its process id; `None` once it has been waited for.
    #[allow(dead_code, reason = "for the torture")]
    pub fn id(&self) -> Option<u32> {
        self.child.id()
    }

    pub fn signal(&self, signal: Signal) {
        let Some(id) = self.child.id() else { return };
        let name = match signal {
            Signal::Term => "TERM",
            Signal::Int => "INT",
            Signal::Kill => "KILL",
            Signal::Hup => "HUP",
            Signal::Stop => "STOP",
            Signal::Continue => "CONT",
        };
        // The shell's own `kill` is there where no other one is.
        let command = format!("kill -{name} {id}");
        let sent = std::process::Command::new("sh").args(["-c", &command]).status().unwrap();
        assert!(sent.success(), "`{command}` failed");
    }

    /// Ends the process as a power cut would, and waits until it is gone.
    pub async fn kill(&mut self) {
        self.signal(Signal::Kill);
        self.exit().await;
    }

    /// Waits for the end. Returns the exit code, if it was no signal that ended it, and how long
    /// it took from now.
    pub async fn exit(&mut self) -> (Option<i32>, Duration) {
        let start = Instant::now();
        let status = within(EXIT_LIMIT, "the process ends", self.child.wait()).await.unwrap();
        (status.code(), start.elapsed())
    }

    pub fn is_running(&mut self) -> bool {
        self.child.try_wait().unwrap().is_none()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.start_kill();
        if std::thread::panicking() {
            let tail = |text: String| {
                let skipped = text.lines().count().saturating_sub(60);
                text.lines().skip(skipped).map(|line| format!("  {line}\n")).collect::<String>()
            };
            eprintln!("stdout of {}:\n{}", self.base, tail(self.stdout.text()));
            eprintln!("stderr of {}:\n{}", self.base, tail(self.stderr.text()));
        }
    }
}
