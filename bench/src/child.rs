//! A process that the benchmark starts: its output goes to a file, and it ends with its owner.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};

use super::usage;
use routemaster::note;

/// How often a process is looked at that is starting.
const LOOK_EVERY: Duration = Duration::from_millis(5);
/// How many lines of its output an error shows.
const TAIL: usize = 15;

/// A directory for one run, gone when dropped.
pub struct Scratch(PathBuf);

impl Scratch {
    /// Makes one where the system keeps temporary files.
    pub fn create() -> anyhow::Result<Self> {
        let name = format!("routemaster-bench-{}-{:08x}", std::process::id(), fastrand::u32(..));
        let path = std::env::temp_dir().join(name);
        let mut builder = std::fs::DirBuilder::new();
        #[cfg(unix)]
        std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
        builder.create(&path).with_context(|| format!("failed to make {}", path.display()))?;
        Ok(Self(path))
    }

    pub fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        if let Err(error) = std::fs::remove_dir_all(&self.0) {
            note!("note: {} stays: {error}", self.0.display());
        }
    }
}

/// A running process, killed when dropped: it has nothing to keep.
pub struct Process {
    name: &'static str,
    child: Child,
    output: PathBuf,
}

impl Process {
    /// Starts it, with its output in a file of that directory.
    ///
    /// # Errors
    /// If there is no such program, or the file cannot be made.
    pub fn start(
        name: &'static str,
        mut command: Command,
        directory: &Path,
    ) -> anyhow::Result<Self> {
        let output = directory.join(format!("{name}.log"));
        let file = File::create(&output)
            .with_context(|| format!("failed to make {}", output.display()))?;
        // A Ctrl-C is for the benchmark, which may have to clean up with the help of the process.
        #[cfg(unix)]
        std::os::unix::process::CommandExt::process_group(&mut command, 0);
        command.stdin(Stdio::null()).stdout(file.try_clone()?).stderr(file);
        let program = command.get_program().to_string_lossy().into_owned();
        let child = command.spawn().with_context(|| format!("failed to start {program}"))?;
        Ok(Self { name, child, output })
    }

    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Looks at the process until `look` finds something.
    ///
    /// # Errors
    /// If the process ends before, or it takes too long; the error shows what the process said.
    pub async fn wait_for<T>(
        &mut self,
        what: &str,
        limit: Duration,
        mut look: impl AsyncFnMut(&str) -> Option<T>,
    ) -> anyhow::Result<T> {
        let start = Instant::now();
        loop {
            if let Some(found) = look(&self.output()).await {
                return Ok(found);
            }
            if let Some(status) = self.child.try_wait()? {
                bail!("{} ended ({status}) before {what}:\n{}", self.name, self.tail());
            }
            if start.elapsed() > limit {
                let seconds = limit.as_secs();
                bail!("{} took longer than {seconds} s until {what}:\n{}", self.name, self.tail());
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }

    fn output(&self) -> String {
        std::fs::read(&self.output).map_or_else(
            |error| format!("its output cannot be read: {error}"),
            |bytes| String::from_utf8_lossy(&bytes).into_owned(),
        )
    }

    /// The last lines of what it said.
    pub fn tail(&self) -> String {
        let output = self.output();
        let skipped = output.lines().count().saturating_sub(TAIL);
        let lines = output.lines().skip(skipped).map(|line| format!("  {line}"));
        lines.collect::<Vec<_>>().join("\n")
    }

    /// What it has used until now.
    pub fn usage(&self) -> usage::Usage {
        usage::of(self.id())
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // Ended already is as good.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
