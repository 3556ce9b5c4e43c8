//! A bus: a data directory, a store and settings that its processes share.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use routemaster::tls::development::{DevelopmentCa, Identity, ca_path};
use tempfile::TempDir;
use tokio::process::Command;

use super::process::Process;
use super::receiver::Receiver;
use super::run::Store;

/// The root token of a bus under test.
pub const ROOT: &str = "root-key";
/// A client whose token consists of a service's name and a secret.
pub const ORDERS: &str = "orders--0123456789abcdef0123456789abcdef";

/// The clients that a bus under test has by its settings.
pub const CLIENTS: [&str; 5] = ["demo", "alice", "bob", "carol", ORDERS];

/// What the processes of one bus have in common. They live in a directory of their own and see
/// no environment but the one that is set here.
pub struct Bus {
    directory: TempDir,
    settings: BTreeMap<String, String>,
}

/// How a process that was run to its end ended.
pub struct Ended {
    pub code: Option<i32>,
    pub stdout: String,
    pub stderr: String,
}

impl Bus {
    pub fn new(store: &Store) -> Self {
        let bus = Self { directory: TempDir::new().unwrap(), settings: BTreeMap::new() }
            .set("PORT", "0")
            .set("ROUTEMASTER_CLIENTS", &CLIENTS.join(","))
            .set("ROUTEMASTER_ROOT_KEY", ROOT)
            .set("RUST_BACKTRACE", "1");
        match store.url() {
            Some(url) => bus.set("ROUTEMASTER_REDIS_URL", &url),
            None => bus,
        }
    }

    /// Sets an environment variable of all processes that are started from now on.
    pub fn set(mut self, name: &str, value: &str) -> Self {
        self.settings.insert(name.to_owned(), value.to_owned());
        self
    }

    pub fn unset(mut self, name: &str) -> Self {
        self.settings.remove(name);
        self
    }

    /// Lets the bus take receivers for services on the Internet, whose certificates the system
    /// vouches for.
    pub fn trusting_receivers(self) -> Self {
        let ca = self.ca_path();
        self.set("SSL_CERT_FILE", ca.to_str().unwrap())
    }

    /// Web and worker in one process.
    pub async fn serve(&self) -> Process {
        self.start(&["serve"]).await
    }

    pub async fn web(&self) -> Process {
        self.start(&["web"]).await
    }

    pub async fn worker(&self) -> Process {
        self.start_at("worker is running", &["worker"]).await
    }

    /// Starts a process that listens.
    pub async fn start(&self, arguments: &[&str]) -> Process {
        self.start_at("listening on", arguments).await
    }

    /// Starts a process that says with this line where it listens.
    pub async fn start_at(&self, ready: &str, arguments: &[&str]) -> Process {
        Process::start(self.command(arguments), &self.ca_path(), ready).await
    }

    /// Runs a process that is expected to end by itself.
    pub async fn run(&self, arguments: &[&str]) -> Ended {
        let mut process = Process::spawn(&mut self.command(arguments), &self.ca_path());
        let (code, _) = process.exit().await;
        let (stdout, stderr) = (process.stdout.whole().await, process.stderr.whole().await);
        Ended { code, stdout, stderr }
    }

    /// A receiver that the bus trusts and nothing subscribes to yet.
    pub async fn receiver(&self) -> Receiver {
        Receiver::start(&self.identity()).await
    }

    /// A certificate for localhost that the bus trusts.
    pub fn identity(&self) -> Identity {
        DevelopmentCa::open_or_create(&self.data_dir()).unwrap().issue().unwrap()
    }

    /// A receiver on the port that another one had.
    pub async fn receiver_on(&self, port: u16) -> Receiver {
        Receiver::start_on(port, &self.identity()).await
    }

    /// The directory the processes run in.
    pub fn directory(&self) -> &Path {
        self.directory.path()
    }

    pub fn data_dir(&self) -> PathBuf {
        self.directory.path().join("data")
    }

    /// The certificate authority that vouches for the bus and its receivers.
    pub fn ca_path(&self) -> PathBuf {
        ca_path(&self.data_dir())
    }

    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = self.command_of(env!("CARGO_BIN_EXE_routemaster"));
        command.args(arguments);
        command
    }

    /// Another program, where the processes of this bus run, with their settings.
    pub fn command_of(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        command
            .current_dir(self.directory())
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .env("ROUTEMASTER_DATA_DIR", self.data_dir())
            .envs(&self.settings)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true);
        command
    }
}
