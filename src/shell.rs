//! Commands in messages, ready to paste into a shell.

/// How this program was called, so that it can be called again from the same directory.
pub fn program() -> String {
    let called = std::env::args().next().unwrap_or_default();
    if called.is_empty() { "routemaster".into() } else { quoted(&called) }
}

/// A word for the shell.
pub fn quoted(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "/._-+:@%".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        word.into()
    } else {
        format!("'{}'", word.replace('\'', r"'\''"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_shell_would_change_is_quoted() {
        assert_eq!(quoted("./target/routemaster"), "./target/routemaster");
        assert_eq!(quoted("it's here"), r"'it'\''s here'");
        assert_eq!(quoted(""), "''");
    }
}
