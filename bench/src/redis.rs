//! A Redis for one run: on a free port, in a directory of its own.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, bail};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::child::Process;

/// How long it may take until it answers.
const START: Duration = Duration::from_secs(20);
/// How long it may take to answer one command.
const ANSWER: Duration = Duration::from_secs(5);
/// Between the choice of a free port and its use somebody else may take it.
const TRIES: u32 = 5;

/// How much of what Redis has accepted survives a loss of power.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Aof {
    /// Nothing: it is in memory only.
    No,
    /// All but the last second.
    Everysec,
    /// Everything.
    Always,
}

impl Aof {
    pub fn name(self) -> &'static str {
        match self {
            Self::No => "no",
            Self::Everysec => "everysec",
            Self::Always => "always",
        }
    }
}

pub struct RedisServer {
    process: Process,
    port: u16,
}

impl RedisServer {
    /// # Errors
    /// If there is no `redis-server`, or it does not start.
    pub async fn start(aof: Aof, directory: &Path) -> anyhow::Result<Self> {
        let mut last = None;
        for _ in 0..TRIES {
            match Self::try_start(aof, directory).await {
                Ok(server) => return Ok(server),
                Err(error) => last = Some(error),
            }
        }
        let hint = "give one with --redis-url, or install redis-server";
        Err(last.unwrap_or_else(|| anyhow::anyhow!("no try was made")).context(hint))
    }

    async fn try_start(aof: Aof, directory: &Path) -> anyhow::Result<Self> {
        let port = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?.port();
        let mut command = Command::new("redis-server");
        command.args(["--bind", "127.0.0.1", "--port", &port.to_string(), "--save", ""]);
        command.args(["--daemonize", "no", "--maxmemory-policy", "noeviction", "--dir"]);
        command.arg(directory);
        match aof {
            Aof::No => command.args(["--appendonly", "no"]),
            _ => command.args(["--appendonly", "yes", "--appendfsync", aof.name()]),
        };
        let mut process = Process::start("redis-server", command, directory)?;
        // Another server on the port has another process id.
        let id = format!("process_id:{}\r\n", process.id());
        let answers = async |_: &str| {
            let info = ask(port, &["INFO", "server"]).await.ok()?;
            info.contains(&id).then_some(())
        };
        process.wait_for("it answered", START, answers).await?;
        Ok(Self { process, port })
    }

    pub fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }

    pub fn process(&self) -> &Process {
        &self.process
    }

    /// The memory that its data takes now, in bytes.
    pub async fn used_memory(&self) -> anyhow::Result<u64> {
        let info = ask(self.port, &["INFO", "memory"]).await?;
        let line = info.lines().find_map(|line| line.strip_prefix("used_memory:"));
        line.context("INFO has no used_memory")?.trim().parse().context("used_memory is no number")
    }
}

/// Asks for something whose answer is one text.
async fn ask(port: u16, words: &[&str]) -> anyhow::Result<String> {
    let mut command = format!("*{}\r\n", words.len());
    for word in words {
        command += &format!("${}\r\n{word}\r\n", word.len());
    }
    let answer = async {
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        let mut stream = TcpStream::connect(address).await?;
        stream.write_all(command.as_bytes()).await?;
        let mut answer = Vec::new();
        loop {
            if let Some(text) = bulk(&answer)? {
                return Ok(text);
            }
            if stream.read_buf(&mut answer).await? == 0 {
                bail!("it closed the connection");
            }
        }
    };
    tokio::time::timeout(ANSWER, answer).await.context("redis-server does not answer")?
}

/// Reads a text as Redis sends it; none if it is not whole yet.
fn bulk(bytes: &[u8]) -> anyhow::Result<Option<String>> {
    let text = std::str::from_utf8(bytes).context("redis-server did not answer with text")?;
    let Some((head, rest)) = text.split_once("\r\n") else { return Ok(None) };
    let length = head.strip_prefix('$').and_then(|length| length.parse().ok());
    let length: usize = length.with_context(|| format!("redis-server answered {head}"))?;
    Ok(rest.get(..length).map(str::to_owned))
}
