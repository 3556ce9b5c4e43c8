//! A real PostgreSQL for one test: in a directory of its own, on a free port.

use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use tempfile::TempDir;

use super::redis_server::free_port;

const START: Duration = Duration::from_secs(60);
const LOOK_EVERY: Duration = Duration::from_millis(50);
const TRIES: u32 = 5;
const PASSWORD: &str = "s3cr3t-of-postgres";

pub struct Postgres {
    process: Option<Child>,
    port: u16,
    directory: TempDir,
}

impl Postgres {
    pub fn start() -> Self {
        let directory = tempfile::Builder::new().prefix("pg").tempdir().unwrap();
        own(directory.path());
        let password = directory.path().join("password");
        std::fs::write(&password, PASSWORD).unwrap();
        own(&password);
        let mut init = program("initdb");
        init.args([
            "--username=bus",
            "--auth=scram-sha-256",
            "--no-sync",
            "--encoding=UTF8",
            "--locale=C",
        ]);
        init.arg("--pwfile").arg(&password).arg("-D").arg(directory.path().join("data"));
        let made = init.stdout(Stdio::null()).output().expect("initdb is there");
        assert!(made.status.success(), "initdb: {}", String::from_utf8_lossy(&made.stderr));
        let mut server = Self { process: None, port: 0, directory };
        for _ in 0..TRIES {
            server.port = free_port();
            if server.run() {
                return server;
            }
        }
        panic!("PostgreSQL did not start");
    }

    /// Starts the server; `false` if its port was taken meanwhile.
    fn run(&mut self) -> bool {
        let mut command = program("postgres");
        command
            .arg("-D")
            .arg(self.directory.path().join("data"))
            .args(["-p", &self.port.to_string(), "-h", "127.0.0.1"])
            .args(["-c", "fsync=off", "-c", "unix_socket_directories="])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        self.process = Some(command.spawn().expect("postgres is there"));
        let start = Instant::now();
        while start.elapsed() < START {
            if self.query("SELECT 1").is_ok() {
                return true;
            }
            if self.process.as_mut().unwrap().try_wait().unwrap().is_some() {
                return false;
            }
            std::thread::sleep(LOOK_EVERY);
        }
        panic!("PostgreSQL did not start within {START:?}");
    }

    /// As the bus takes it.
    pub fn url(&self) -> String {
        format!("postgres://bus:{PASSWORD}@127.0.0.1:{}/postgres?sslmode=disable", self.port)
    }

    /// Runs SQL by `psql`; what it prints, without headers.
    pub fn query(&self, sql: &str) -> Result<String, String> {
        let mut command = program("psql");
        command.env("PGCONNECT_TIMEOUT", "5").args([
            "-X",
            "-q",
            "-t",
            "-A",
            "-v",
            "ON_ERROR_STOP=1",
        ]);
        command.arg(self.url()).args(["-c", sql]);
        let output = command.output().expect("psql is there");
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim().to_owned();
        if output.status.success() { Ok(text(&output.stdout)) } else { Err(text(&output.stderr)) }
    }

    /// Ends it as a crash would.
    #[allow(dead_code, reason = "for tests of the whole")]
    pub fn kill(&mut self) {
        // Its children would go on for a moment.
        self.signal("-KILL");
        if let Some(mut process) = self.process.take() {
            let _ = process.wait();
        }
    }

    /// Lets it hang, or go on: `-STOP`, `-CONT`.
    pub fn signal(&self, signal: &str) {
        if let Some(process) = &self.process {
            // With all that serve a connection.
            let pid = process.id().to_string();
            let _ = Command::new("pkill").args([signal, "-P", &pid]).status();
            let _ = Command::new("kill").args([signal, &pid]).status();
        }
    }

    #[allow(dead_code, reason = "for tests of the whole")]
    pub fn restart(&mut self) {
        self.kill();
        // Until its last child is gone, its memory is in use.
        let start = Instant::now();
        while !self.run() {
            assert!(start.elapsed() < START, "PostgreSQL does not start again");
            std::thread::sleep(LOOK_EVERY);
        }
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        self.signal("-CONT");
        self.kill();
    }
}

/// One of its programs, as a user that may run it: the server refuses root.
fn program(name: &str) -> Command {
    let mut command = Command::new(directory().join(name));
    if rustix::process::getuid().is_root() {
        let (user, group) = user();
        command.uid(user).gid(group).current_dir("/");
    }
    command
}

/// Where Debian has the newest.
fn directory() -> PathBuf {
    let versions = std::fs::read_dir("/usr/lib/postgresql");
    let versions = versions.expect("PostgreSQL is installed: ./scripts/test does it");
    let mut versions: Vec<_> = versions.map(|entry| entry.unwrap().path()).collect();
    versions.sort();
    versions.pop().expect("PostgreSQL is installed: ./scripts/test does it").join("bin")
}

fn user() -> (u32, u32) {
    let id = |flag: &str| {
        let output = Command::new("id").args([flag, "postgres"]).output().unwrap();
        String::from_utf8_lossy(&output.stdout).trim().parse().expect("there is a user postgres")
    };
    (id("-u"), id("-g"))
}

fn own(path: &Path) {
    if rustix::process::getuid().is_root() {
        let (user, group) = user();
        std::os::unix::fs::chown(path, Some(user), Some(group)).unwrap();
    }
}
