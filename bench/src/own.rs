//! The bus that the benchmark starts for itself: this binary, a store, and a directory for both
//! that is gone afterwards.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::Context;

use super::child::{Process, Scratch};
use super::redis::{Aof, RedisServer};
use super::usage::Usage;
use routemaster::bus::token::random_hex;
use routemaster::cli::connect::Bus;
use routemaster::config::Role;
use routemaster::config::SETTINGS;
use routemaster::store::sqlite::SqliteStore;
use routemaster::tls::development::{DevelopmentCa, Identity, ca_path};

/// How long SQLite may take to give back the room that a backlog took.
const SHRINKING: Duration = Duration::from_secs(5);
/// How long a process may take to start.
const START: Duration = Duration::from_secs(30);
/// The room that a bus has for its events, and for its calls: a benchmark that runs into a bound
/// measures that.
const ROOM: &str = "16GB";

/// Where it keeps everything.
#[derive(Clone, Debug)]
pub enum Store {
    Sqlite,
    /// A Redis that the benchmark starts.
    Redis(Aof),
    /// A Redis that runs already.
    RedisAt(String),
}

pub struct OwnBus {
    // Dropped in this order: the directory last.
    processes: Vec<Process>,
    redis: Option<RedisServer>,
    store: Store,
    root: String,
    /// Where it takes calls in plain HTTP, once a process listens.
    plain: Option<String>,
    directory: Scratch,
}

impl OwnBus {
    /// Prepares a bus of which no process runs yet.
    pub async fn prepare(store: &Store) -> anyhow::Result<Self> {
        let directory = Scratch::create()?;
        let redis = match store {
            Store::Redis(aof) => Some(RedisServer::start(*aof, directory.path()).await?),
            Store::Sqlite | Store::RedisAt(_) => None,
        };
        let root = random_hex()?;
        Ok(Self {
            processes: Vec::new(),
            redis,
            store: store.clone(),
            root,
            plain: None,
            directory,
        })
    }

    /// Starts a process that listens.
    pub async fn listen(&mut self, role: Role) -> anyhow::Result<Bus> {
        let mut process = self.start(role)?;
        let url = process.wait_for("it listened", START, async |output| url_in(output)).await?;
        let plain = async |output: &str| whole_line(output, "  plain    ").map(str::to_owned);
        self.plain = Some(process.wait_for("it listened in plain HTTP", START, plain).await?);
        self.processes.push(process);
        Bus::at(&url, &self.root, vec![ca_path(&self.data_dir())])
    }

    /// Starts a worker beside it.
    pub async fn work(&mut self) -> anyhow::Result<()> {
        let mut process = self.start(Role::Worker)?;
        let running = async |output: &str| output.contains("worker is running").then_some(());
        process.wait_for("it ran", START, running).await?;
        self.processes.push(process);
        Ok(())
    }

    fn start(&self, role: Role) -> anyhow::Result<Process> {
        let mut command = command(self.directory.path())?;
        command.arg(role.name()).env("ROUTEMASTER_ROOT_KEY", &self.root);
        command.env("ROUTEMASTER_CLIENTS", "");
        // One client publishes to a topic for each subscriber.
        command.env("ROUTEMASTER_MAX_TOPICS_PER_CLIENT", "1000000");
        command.env("ROUTEMASTER_MAX_CONNECTIONS_PER_ADDRESS", "10000");
        command.env("ROUTEMASTER_PLAIN_BIND", "127.0.0.1:0");
        command
            .env("ROUTEMASTER_CALLS_MAX_BYTES", ROOM)
            .env("ROUTEMASTER_MESSAGES_MAX_BYTES", ROOM);
        command.env("ROUTEMASTER_JOURNAL_MAX_BYTES", ROOM);
        command.env("ROUTEMASTER_POSTBACK_QUEUE_MAX", "100000000");
        command.env("ROUTEMASTER_REDIS_MAX_MEM", ROOM).env("ROUTEMASTER_SQLITE_MAX_BYTES", ROOM);
        match (&self.redis, &self.store) {
            (Some(redis), _) => command.env("ROUTEMASTER_REDIS_URL", redis.url()),
            (None, Store::RedisAt(url)) => command.env("ROUTEMASTER_REDIS_URL", url),
            (None, _) => &mut command,
        };
        Process::start(role.name(), command, self.directory.path())
    }

    /// Where it takes calls in plain HTTP.
    ///
    /// # Errors
    /// If no process of it listens.
    pub fn plain(&self) -> anyhow::Result<&str> {
        self.plain.as_deref().context("no process listens")
    }

    /// A certificate for the receivers, which the bus trusts.
    pub fn identity(&self) -> anyhow::Result<Identity> {
        DevelopmentCa::open_or_create(&self.data_dir())?.issue()
    }

    fn data_dir(&self) -> PathBuf {
        data_dir(self.directory.path())
    }

    /// What its processes have used until now.
    pub fn usage(&self) -> Usage {
        let all = self.processes.iter().map(Process::usage);
        all.reduce(|sum, usage| sum + usage).unwrap_or_default()
    }

    /// What its Redis has used until now, if it has one of its own.
    pub fn redis_usage(&self) -> Option<Usage> {
        self.redis.as_ref().map(|redis| redis.process().usage())
    }

    /// How much the store takes now, in bytes: the pages of SQLite that are in use, or Redis's memory.
    /// None if it is somebody else's.
    pub async fn stored_bytes(&self) -> anyhow::Result<Option<u64>> {
        match (&self.redis, &self.store) {
            (Some(redis), _) => redis.used_memory().await.map(Some),
            (None, Store::Sqlite) => {
                let directory = self.data_dir();
                let look = tokio::task::spawn_blocking(move || SqliteStore::usage_in(&directory));
                Ok(Some(look.await??.used))
            }
            (None, _) => Ok(None),
        }
    }

    /// How long SQLite's file is now that its queues are empty, in bytes, without its log: as soon as it
    /// gets no shorter, and within 5 s.
    pub async fn file_bytes_after_drain(&self) -> anyhow::Result<Option<u64>> {
        if !matches!(self.store, Store::Sqlite) {
            return Ok(None);
        }
        let file = self.data_dir().join("routemaster.db");
        let length = || std::fs::metadata(&file).map(|file| file.len());
        let until = Instant::now() + SHRINKING;
        let (mut last, mut unchanged) = (length()?, 0);
        while unchanged < 3 && Instant::now() < until {
            tokio::time::sleep(SHRINKING / 10).await;
            let now = length()?;
            unchanged = if now == last { unchanged + 1 } else { 0 };
            last = now;
        }
        Ok(Some(last))
    }

    /// The last words of its processes, for an error.
    pub fn tail(&self) -> String {
        let tails = self.processes.iter().map(Process::tail);
        tails.collect::<Vec<_>>().join("\n")
    }
}

/// This binary, in a directory where no settings but those of the benchmark reach it.
pub fn command(directory: &Path) -> anyhow::Result<Command> {
    let program = std::env::current_exe().context("failed to find this program's own file")?;
    let mut command = Command::new(program);
    for setting in SETTINGS {
        command.env_remove(setting.name);
        setting.alias.map(|alias| command.env_remove(alias));
    }
    command.current_dir(directory).env("PORT", "0").env("NO_COLOR", "1");
    command.env("ROUTEMASTER_DATA_DIR", data_dir(directory));
    Ok(command)
}

pub fn data_dir(directory: &Path) -> PathBuf {
    directory.join("data")
}

/// The URL in the line that says where a process listens.
pub fn url_in(output: &str) -> Option<String> {
    whole_line(output, "listening on ").map(str::to_owned)
}

/// What follows this text in a line that is whole already.
fn whole_line<'a>(output: &'a str, text: &str) -> Option<&'a str> {
    let mut lines = output.split_inclusive('\n').filter(|line| line.ends_with('\n'));
    Some(lines.find_map(|line| line.split_once(text))?.1.trim())
}
