//! Writes the table of settings out: as a `.env` file and as a page of the documentation.

use super::{SETTINGS, Setting};

const ENV_HEAD: &str = "\
# Every setting of the bus, with its default. Copy this file to .env and change what you need.
# Each one is a flag as well, `routemaster serve --help` lists them.
";

const PAGE_HEAD: &str = "\
# Configuration

Every setting is an environment variable. A line `NAME=value` in a file `.env` in the working
directory is read as well, the environment wins over it, and a flag wins over both: a flag has the
variable's name without `ROUTEMASTER_`, in lower case, with hyphens (`--data-dir ./data`).

Of two lines of `.env` with one name the last counts. A value is taken as it stands, without any
expansion; quotes may surround it, and what follows a ` #` outside of them is a comment. Lines that
are somebody else's are passed over. A secret (those below that hold a password, a token or a key,
and `ROUTEMASTER_TOKEN`) may stand in a file instead, as container platforms hand it out:
`ROUTEMASTER_ROOT_KEY_FILE=/run/secrets/root` is read once, at the start.

A value that is not allowed ends the program with exit code 2 and a line that names the variable,
the value and what is allowed. A name that begins with `ROUTEMASTER_` and is not listed here gets
a warning, but for `ROUTEMASTER_TOKEN`, which the [commands](commands.md) read. Seconds may have
decimals. `routemaster doctor` tells all that is wrong at once.

| variable | default | allowed | meaning |
|---|---|---|---|
";

/// The content of `.env.example`.
pub fn env_file() -> String {
    let mut text = ENV_HEAD.to_owned();
    for Setting { name, default, allowed, meaning, .. } in SETTINGS {
        text += &format!("\n{}\n# {allowed}\n{name}={default}\n", comment(meaning));
    }
    text
}

/// The content of `docs/configuration.md`.
pub fn page() -> String {
    let mut text = PAGE_HEAD.to_owned();
    for Setting { name, alias, default, allowed, meaning, .. } in SETTINGS {
        let alias = alias.map_or(String::new(), |alias| format!(" (or `{alias}`)"));
        let default = if default.is_empty() { String::new() } else { format!("`{default}`") };
        let meaning = meaning.trim();
        text += &format!("| `{name}`{alias} | {default} | {allowed} | {meaning} |\n");
    }
    text
}

/// Breaks a paragraph into comment lines.
fn comment(paragraph: &str) -> String {
    const WIDTH: usize = 96;
    let mut lines = vec![String::new()];
    for word in paragraph.split_whitespace() {
        let last = lines.len() - 1;
        if !lines[last].is_empty() && lines[last].len() + word.len() >= WIDTH {
            lines.push(word.to_owned());
        } else {
            if !lines[last].is_empty() {
                lines[last].push(' ');
            }
            lines[last] += word;
        }
    }
    lines.iter().map(|line| format!("# {line}")).collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `UPDATE_DOCS=1 cargo test --lib` writes the files anew.
    #[test]
    fn the_files_say_what_the_table_says() {
        let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
        for (file, content) in [(".env.example", env_file()), ("docs/configuration.md", page())] {
            let path = root.join(file);
            if std::env::var_os("UPDATE_DOCS").is_some() {
                std::fs::write(&path, &content).unwrap();
            }
            let written = std::fs::read_to_string(&path).unwrap_or_default();
            assert!(written == content, "{file} is out of date: UPDATE_DOCS=1 cargo test --lib");
        }
    }
}
