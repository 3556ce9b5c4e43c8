//! Secrets that a command is given. What stands on the command line is seen by everybody on the
//! machine (`ps`), so that they can come from a file or from standard input as well.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use anyhow::Context;

use super::outcome::UsageError;

/// No secret of the bus is longer, in bytes.
const SECRET_MAX: u64 = 4096;

/// Reads a secret: the first line of a file, or of standard input if the file is `-`.
///
/// # Errors
/// If it cannot be read, or there is none.
pub fn read(file: &Path) -> anyhow::Result<String> {
    let text = read_text(file)?;
    let secret = text.lines().next().unwrap_or_default().trim();
    if secret.is_empty() {
        let source = file.display();
        return Err(UsageError::new(format!("the first line of {source} is empty")).into());
    }
    Ok(secret.to_owned())
}

/// Reads secrets, a line each; what is blank is none.
///
/// # Errors
/// If they cannot be read.
pub fn read_lines(file: &Path) -> anyhow::Result<Vec<String>> {
    let text = read_text(file)?;
    Ok(text.lines().map(str::trim).filter(|line| !line.is_empty()).map(str::to_owned).collect())
}

fn read_text(file: &Path) -> anyhow::Result<String> {
    let mut text = String::new();
    if file == Path::new("-") {
        io::stdin().take(SECRET_MAX).read_to_string(&mut text)
    } else {
        File::open(file).and_then(|file| file.take(SECRET_MAX).read_to_string(&mut text))
    }
    .with_context(|| format!("failed to read {}", file.display()))?;
    Ok(text)
}
