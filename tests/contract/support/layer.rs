//! Libraries that are put between a process and its system with LD_PRELOAD, built when they are needed.

use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;

/// A library that was built for this run.
pub struct Layer {
    /// Also room for what the library reads and writes.
    directory: TempDir,
    library: PathBuf,
}

impl Layer {
    /// Builds `tests/<name>.c`.
    ///
    /// # Errors
    /// Why it cannot be used here.
    pub fn build(name: &str) -> Result<Self, String> {
        if !cfg!(target_os = "linux") {
            return Err("LD_PRELOAD is tried on Linux only".into());
        }
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("../tests/{name}.c"));
        let directory = tempfile::tempdir().map_err(|error| error.to_string())?;
        let library = directory.path().join("layer.so");
        let built = Command::new("cc")
            .args(["-shared", "-fPIC", "-O2", "-o"])
            .args([&library, &source])
            .arg("-ldl")
            .output();
        let built = built.map_err(|error| format!("cc cannot be run: {error}"))?;
        match built.status.success() {
            true => Ok(Self { directory, library }),
            false => Err(format!("cc failed: {}", String::from_utf8_lossy(&built.stderr))),
        }
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// The variable that loads the library.
    pub fn preload(&self) -> (String, String) {
        ("LD_PRELOAD".into(), self.library.display().to_string())
    }
}
