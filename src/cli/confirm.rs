//! Asks before something is done that cannot be undone.

use std::io::{self, BufRead, IsTerminal, Write};

use anyhow::bail;

use super::outcome::UsageError;

/// Asks whether to go on; `yes` is `--yes`, the answer given before.
///
/// # Errors
/// If the answer is no, or nobody can be asked.
pub fn confirm(question: &str, yes: bool) -> anyhow::Result<()> {
    if yes {
        return Ok(());
    }
    if !io::stdin().is_terminal() || !io::stderr().is_terminal() {
        let reason = format!("{question} Nobody can be asked here: say it with --yes");
        return Err(UsageError::new(reason).into());
    }
    write!(io::stderr(), "{question} Go on? [y/N] ")?;
    io::stderr().flush()?;
    let mut answer = String::new();
    io::stdin().lock().read_line(&mut answer)?;
    if is_yes(&answer) {
        return Ok(());
    }
    bail!("nothing was changed")
}

fn is_yes(answer: &str) -> bool {
    matches!(answer.trim().to_ascii_lowercase().as_str(), "y" | "yes")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_yes_is_a_yes() {
        assert!(is_yes("y\n") && is_yes(" YES\r\n"));
        for no in ["", "\n", "n", "no", "yet", "yy"] {
            assert!(!is_yes(no), "{no:?}");
        }
    }
}
