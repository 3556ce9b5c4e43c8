//! A real redis-server for one test: on a free port, in a directory of its own, gone when dropped.
//!
//! It needs nothing but the standard library, so that the library's unit tests can use it too.
#![allow(dead_code, reason = "each crate of tests uses a part of it")]

use std::io::{self, BufRead, BufReader, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use tempfile::TempDir;

/// How long a server may take until it answers.
const START_TIMEOUT: Duration = Duration::from_secs(20);
/// How long it may take to answer one command.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(5);
/// The pause between two looks.
const PAUSE: Duration = Duration::from_millis(10);
/// How many ports are tried. Between the choice of a free port and its use another test may
/// take it.
const PORT_TRIES: u32 = 10;

/// A running redis-server. Without further options it keeps its data in memory only.
pub struct RedisServer {
    directory: TempDir,
    port: u16,
    options: Vec<String>,
    environment: Vec<(String, String)>,
    process: Option<Child>,
}

impl RedisServer {
    /// Starts a server that forgets everything when it ends.
    pub fn start() -> Self {
        Self::start_with(&["--save", "", "--appendonly", "no"])
    }

    /// Starts a server that has each change on disk before it answers, and so keeps it over
    /// [`RedisServer::kill`] and [`RedisServer::restart`].
    pub fn start_with_aof() -> Self {
        Self::start_with(&["--save", "", "--appendonly", "yes", "--appendfsync", "always"])
    }

    /// Starts a server with options as on redis-server's command line.
    pub fn start_with(options: &[&str]) -> Self {
        let directory = tempfile::tempdir().expect("failed to create a temporary directory");
        Self::start_in(directory, options.iter().map(|option| (*option).to_owned()).collect())
    }

    /// Starts the server anew with more in its environment, from now on.
    pub fn restart_in_environment(&mut self, environment: &[(String, String)]) {
        self.environment = environment.to_vec();
        self.restart();
    }

    /// Where it keeps its files.
    pub fn directory(&self) -> &Path {
        self.directory.path()
    }

    /// Starts a Sentinel that watches this server under the name `bus`, and alone may say that it
    /// is down.
    pub fn start_sentinel_of(master: &RedisServer) -> Self {
        let directory = tempfile::tempdir().expect("failed to create a temporary directory");
        let file = directory.path().join("sentinel.conf");
        let config = format!(
            "sentinel monitor bus 127.0.0.1 {} 1\n\
             sentinel down-after-milliseconds bus 1000\n\
             sentinel failover-timeout bus 2500\n",
            master.port
        );
        std::fs::write(&file, config).expect("failed to write the Sentinel's settings");
        Self::start_in(directory, vec![file.display().to_string(), "--sentinel".into()])
    }

    fn start_in(directory: TempDir, options: Vec<String>) -> Self {
        let mut server =
            Self { directory, port: 0, options, environment: Vec::new(), process: None };
        for _ in 0..PORT_TRIES {
            server.port = free_port();
            if server.spawn() {
                return server;
            }
        }
        panic!("redis-server did not start on any of {PORT_TRIES} ports");
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    pub fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }

    /// Ends the server as an operator does (SIGTERM).
    pub fn stop(&mut self) {
        if let Some(mut process) = self.process.take() {
            signal(&process, "-TERM");
            process.wait().expect("failed to wait for redis-server to end");
        }
    }

    /// Ends the server as a crash does (SIGKILL).
    pub fn kill(&mut self) {
        if let Some(mut process) = self.process.take() {
            process.kill().expect("failed to kill redis-server");
            process.wait().expect("failed to wait for redis-server to end");
        }
    }

    /// Starts the server again on its port and in its directory; kills it before if it runs.
    pub fn restart(&mut self) {
        self.kill();
        let give_up = Instant::now() + START_TIMEOUT;
        while !self.spawn() {
            assert!(Instant::now() < give_up, "port {} is not free any more", self.port);
            thread::sleep(PAUSE);
        }
    }

    /// Lets the server hang: its connections stay open, but nothing is answered.
    pub fn pause(&self) {
        signal(self.running(), "-STOP");
    }

    /// Ends [`RedisServer::pause`].
    pub fn resume(&self) {
        signal(self.running(), "-CONT");
    }

    /// Runs one command on a connection of its own. A list is answered with one line an element.
    ///
    /// # Errors
    /// If the server cannot be reached, does not answer in time, or answers with an error.
    pub fn command<W: AsRef<[u8]>>(&self, words: &[W]) -> io::Result<String> {
        self.connect()?.command(words)
    }

    /// `master` or `slave`.
    ///
    /// # Errors
    /// As for [`RedisServer::command`].
    pub fn role(&self) -> io::Result<String> {
        let state = self.command(&["ROLE"])?;
        Ok(state.lines().next().unwrap_or_default().to_owned())
    }

    /// How many replicas follow this server and have all that it has.
    ///
    /// # Errors
    /// As for [`RedisServer::command`].
    pub fn online_replicas(&self) -> io::Result<usize> {
        Ok(self.command(&["INFO", "replication"])?.matches("state=online").count())
    }

    /// Opens a connection for more than one command.
    ///
    /// # Errors
    /// If the server cannot be reached.
    pub fn connect(&self) -> io::Result<RawConnection> {
        RawConnection::open(self.port)
    }

    fn running(&self) -> &Child {
        self.process.as_ref().expect("redis-server does not run")
    }

    /// Starts the process and waits until it answers; `false` if it ended, as it does when the
    /// port is taken.
    fn spawn(&mut self) -> bool {
        // A file of settings has to come first.
        let process = Command::new("redis-server")
            .args(&self.options)
            .envs(self.environment.iter().cloned())
            .args(["--bind", "127.0.0.1", "--port", &self.port.to_string()])
            .args(["--daemonize", "no", "--dir"])
            .arg(self.directory.path())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn();
        let process = process.unwrap_or_else(|error| {
            panic!("these tests need an installed redis-server: run ./scripts/test ({error})")
        });
        let pid = format!("process_id:{}\r\n", process.id());
        let process = self.process.insert(process);
        let give_up = Instant::now() + START_TIMEOUT;
        while Instant::now() < give_up {
            if process.try_wait().expect("failed to look after redis-server").is_some() {
                self.process = None;
                return false;
            }
            // Another server that took the port first answers too, but has another process id.
            let answer = |words: &[&str]| ask(self.port, words).unwrap_or_default();
            if answer(&["INFO", "server"]).contains(&pid) && answer(&["PING"]) == "PONG" {
                return true;
            }
            thread::sleep(PAUSE);
        }
        panic!("redis-server did not answer within {START_TIMEOUT:?}");
    }
}

impl Drop for RedisServer {
    fn drop(&mut self) {
        if let Some(mut process) = self.process.take() {
            // Ended already is as good; a panic here would hide the test's own.
            let _ = process.kill();
            let _ = process.wait();
        }
    }
}

/// A port that was free a moment ago.
pub fn free_port() -> u16 {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("failed to find a free port");
    listener.local_addr().expect("a bound socket has an address").port()
}

fn signal(process: &Child, signal: &str) {
    let status = Command::new("kill").args([signal, &process.id().to_string()]).status();
    assert!(status.is_ok_and(|status| status.success()), "failed to send {signal} to redis-server");
}

fn ask(port: u16, words: &[&str]) -> io::Result<String> {
    RawConnection::open(port)?.command(words)
}

/// A connection that speaks the protocol without any help.
pub struct RawConnection(BufReader<TcpStream>);

impl RawConnection {
    fn open(port: u16) -> io::Result<Self> {
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        let stream = TcpStream::connect_timeout(&address, ANSWER_TIMEOUT)?;
        stream.set_read_timeout(Some(ANSWER_TIMEOUT))?;
        stream.set_write_timeout(Some(ANSWER_TIMEOUT))?;
        Ok(Self(BufReader::new(stream)))
    }

    /// Sends a command and does not wait for its answer.
    ///
    /// # Errors
    /// If the connection is broken.
    pub fn send<W: AsRef<[u8]>>(&mut self, words: &[W]) -> io::Result<()> {
        let mut request = format!("*{}\r\n", words.len()).into_bytes();
        for word in words {
            let word = word.as_ref();
            request.extend_from_slice(format!("${}\r\n", word.len()).as_bytes());
            request.extend_from_slice(word);
            request.extend_from_slice(b"\r\n");
        }
        self.0.get_mut().write_all(&request)
    }

    /// Sends a command and reads its answer.
    ///
    /// # Errors
    /// If the connection is broken, no answer comes in time, or the answer is an error.
    pub fn command<W: AsRef<[u8]>>(&mut self, words: &[W]) -> io::Result<String> {
        self.send(words)?;
        read_reply(&mut self.0)
    }
}

fn read_reply(reader: &mut impl BufRead) -> io::Result<String> {
    let mut line = String::new();
    if reader.read_line(&mut line)? == 0 {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    let line = line.trim_end();
    let (kind, rest) = line.split_at_checked(1).ok_or(io::ErrorKind::InvalidData)?;
    let length = || rest.parse::<i64>().map_err(|_| io::Error::from(io::ErrorKind::InvalidData));
    match kind {
        "+" | ":" => Ok(rest.to_owned()),
        "-" => Err(io::Error::other(rest.to_owned())),
        "$" => {
            let Ok(length) = usize::try_from(length()?) else {
                return Ok(String::new());
            };
            let mut text = vec![0; length + 2];
            reader.read_exact(&mut text)?;
            text.truncate(length);
            String::from_utf8(text).map_err(|_| io::ErrorKind::InvalidData.into())
        }
        "*" => {
            let parts: io::Result<Vec<String>> =
                (0..length()?).map(|_| read_reply(reader)).collect();
            Ok(parts?.join("\n"))
        }
        _ => Err(io::ErrorKind::InvalidData.into()),
    }
}
