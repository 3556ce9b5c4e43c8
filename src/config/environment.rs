//! The environment of this process, with what a `.env` file and the files of secrets add to it.

use std::collections::HashMap;
use std::io;
use std::path::Path;
use std::sync::OnceLock;

use super::{COMMANDS_TOKEN, SETTINGS, SettingError, is_known};

/// What is added to the environment. The process's own cannot be written to safely.
static ADDED: OnceLock<HashMap<String, String>> = OnceLock::new();

/// Reads `.env` in the working directory, and the file that each `<NAME>_FILE` of a secret names.
/// What could be read counts, also if something else could not.
///
/// # Errors
/// What is wrong with the first file that cannot be used. It shows no value.
pub fn complete() -> Result<(), SettingError> {
    let dotenv = read_dotenv(Path::new(".env"));
    let (mut added, mut wrong) = match dotenv {
        Ok(dotenv) => (dotenv.values, dotenv.wrong),
        Err(error) => (HashMap::new(), Some(error)),
    };
    let (secrets, unusable) = read_secrets(&|name| {
        process(name).or_else(|| added.get(name).cloned()).filter(|value| !value.is_empty())
    });
    wrong = wrong.or(unusable);
    added.extend(secrets);
    // A second call in a process would find the same.
    let _ = ADDED.set(added);
    wrong.map_or(Ok(()), Err)
}

/// The value of a variable: the process's own, else what [`complete`] has added. What is not UTF-8
/// must not pass for not set: no setting allows the replacement character.
pub fn variable(name: &str) -> Option<String> {
    process(name).or_else(|| ADDED.get()?.get(name).cloned())
}

/// The names of all variables.
pub fn names() -> impl Iterator<Item = String> {
    let own = std::env::vars_os().filter_map(|(name, _)| name.into_string().ok());
    own.chain(ADDED.get().into_iter().flat_map(|added| added.keys().cloned()))
}

fn process(name: &str) -> Option<String> {
    Some(std::env::var_os(name)?.to_string_lossy().into_owned())
}

/// The names that may have a `<NAME>_FILE`.
pub fn secret_names() -> impl Iterator<Item = &'static str> {
    let settings = SETTINGS.iter().filter(|setting| setting.secret);
    settings
        .flat_map(|setting| [Some(setting.name), setting.alias])
        .flatten()
        .chain([COMMANDS_TOKEN])
}

fn file_variable(secret: &str) -> String {
    format!("{secret}_FILE")
}

/// Whether this is the `<NAME>_FILE` of a secret.
pub fn is_file_of_secret(name: &str) -> bool {
    name.strip_suffix("_FILE").is_some_and(|secret| secret_names().any(|known| known == secret))
}

/// The secrets that are in files, and what is wrong with one of them.
fn read_secrets(
    variable: &dyn Fn(&str) -> Option<String>,
) -> (Vec<(String, String)>, Option<SettingError>) {
    let (mut secrets, mut wrong) = (Vec::new(), None);
    for secret in secret_names() {
        let by = file_variable(secret);
        let Some(path) = variable(&by) else { continue };
        let read = if variable(secret).is_some() {
            Err(format!("{secret} and {by} are both set: leave one of them out"))
        } else {
            std::fs::read_to_string(&path)
                .map_err(|error| format!("{by}={path} cannot be read: {}", reason(&error)))
        };
        match read {
            // An editor ends the last line, whoever made the secret did not mean it.
            Ok(text) => {
                secrets.push((secret.to_owned(), text.trim_end_matches(['\r', '\n']).into()))
            }
            Err(error) => wrong = wrong.or(Some(SettingError::Conflict(error))),
        }
    }
    (secrets, wrong)
}

fn reason(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::NotFound => "there is no such file".into(),
        io::ErrorKind::InvalidData => "it is no text".into(),
        _ => error.to_string(),
    }
}

/// What a `.env` file says.
#[derive(Debug, Default, PartialEq)]
struct Dotenv {
    values: HashMap<String, String>,
    /// The first line that names a setting and gives it no value.
    wrong: Option<SettingError>,
}

/// A missing file is fine.
fn read_dotenv(path: &Path) -> Result<Dotenv, SettingError> {
    match std::fs::read(path) {
        Ok(bytes) => Ok(parse(&String::from_utf8_lossy(&bytes))),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Dotenv::default()),
        Err(error) => {
            let reason = reason(&error);
            Err(SettingError::Conflict(format!("failed to read {}: {reason}", path.display())))
        }
    }
}

/// Lines `NAME=value`, also `export NAME=value` and `NAME: value`, of which the last one with a name
/// counts. What is none of them is somebody else's, unless it names a setting.
fn parse(text: &str) -> Dotenv {
    let mut dotenv = Dotenv::default();
    for (number, line) in (1..).zip(text.trim_start_matches('\u{feff}').lines()) {
        let line = line.trim();
        let line = line.strip_prefix("export ").map_or(line, str::trim_start);
        let name_ends = line.find(|c: char| !c.is_ascii_alphanumeric() && c != '_');
        let (name, rest) = line.split_at(name_ends.unwrap_or(line.len()));
        let given = rest.trim_start();
        let given = given.strip_prefix('=').or_else(|| rest.strip_prefix(": "));
        if let Some(given) = given.filter(|_| !name.is_empty()) {
            dotenv.values.insert(name.to_owned(), value(given.trim()).to_owned());
        } else if is_known(name) && !rest.is_empty() {
            let error = format!("line {number} of .env names {name}, but is not {name}=value");
            dotenv.wrong = dotenv.wrong.take().or(Some(SettingError::Conflict(error)));
        }
    }
    dotenv
}

/// A value as it stands: what one pair of quotes holds, or all up to a ` #`, which starts a comment.
fn value(given: &str) -> &str {
    for quote in ['"', '\''] {
        let Some(quoted) = given.strip_prefix(quote) else { continue };
        if let Some((value, after)) = quoted.split_once(quote)
            && (after.is_empty() || after.trim_start().starts_with('#'))
        {
            return value;
        }
    }
    let comment = given.match_indices('#').map(|(at, _)| at);
    let mut comment = comment.filter(|&at| given[..at].ends_with([' ', '\t']));
    let bare = comment.next().map_or(given, |at| &given[..at]);
    if given.starts_with('#') { "" } else { bare.trim_end() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_of_a_dotenv_file_says_what_stands_there() {
        for (line, expected) in [
            ("A=b", Some("b")),
            ("  export A = b  \r", Some("b")),
            ("A: b", Some("b")),
            ("A=", Some("")),
            ("A=pa$$w0rd${HOME}", Some("pa$$w0rd${HOME}")),
            (r"A=back\slash\n", Some(r"back\slash\n")),
            ("A=a=b==", Some("a=b==")),
            ("A=a#b", Some("a#b")),
            ("A=a # a comment", Some("a")),
            ("A= # a comment", Some("")),
            ("A=ä#b\u{a0}#c #d", Some("ä#b\u{a0}#c")),
            (r#"A="a # b""#, Some("a # b")),
            ("A=\" a \" # a comment", Some(" a ")),
            (r#"A='it "is"'"#, Some(r#"it "is""#)),
            (r#"A="open"#, Some(r#""open"#)),
            (r#"A="a"b"#, Some(r#""a"b"#)),
            ("\u{feff}A=b", Some("b")),
            ("# A=b", None),
            ("A", None),
            ("A b", None),
            ("A-B=c", None),
            ("-----BEGIN KEY-----", None),
        ] {
            let dotenv = parse(line);
            assert_eq!(dotenv.values.get("A").map(String::as_str), expected, "{line:?}");
            assert_eq!(dotenv.wrong, None, "{line:?}");
        }
    }

    #[test]
    fn the_last_line_with_a_name_counts() {
        let dotenv = parse("A=1\nB=2\nA=3\nA\n");
        assert_eq!((dotenv.values["A"].as_str(), dotenv.values["B"].as_str()), ("3", "2"));
    }

    #[test]
    fn a_line_that_names_a_setting_and_gives_it_nothing_is_told_without_what_it_holds() {
        for line in ["ROUTEMASTER_ROOT_KEY s3cr3t", "ROUTEMASTER_ROOT_KEY:s3cr3t"] {
            let error = parse(&format!("A=b\n{line}\nC=d")).wrong.expect(line).to_string();
            assert!(error.contains("line 2") && error.contains("ROUTEMASTER_ROOT_KEY"), "{error}");
            assert!(!error.contains("s3cr3t"), "{error}");
        }
        assert_eq!(parse("ROUTEMASTER_ROOT_KEY").wrong, None, "as in `export NAME`");
    }

    #[test]
    fn a_secret_may_be_in_a_file_and_nothing_else_may() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("root");
        std::fs::write(&file, "s3cr3t \r\n").unwrap();
        let path = file.to_str().unwrap();
        let read = |pairs: &[(&str, &str)]| {
            let find = |name: &str| pairs.iter().find(|(key, _)| *key == name);
            read_secrets(&|name| find(name).map(|(_, value)| (*value).to_owned()))
        };
        let secret = |value: &str| vec![("ROUTEMASTER_ROOT_KEY".to_owned(), value.to_owned())];
        assert_eq!(read(&[("ROUTEMASTER_ROOT_KEY_FILE", path)]), (secret("s3cr3t "), None));
        assert_eq!(read(&[("ROUTEMASTER_BIND_FILE", path)]), (vec![], None));
        for (pairs, expected) in [
            (&[("ROUTEMASTER_ROOT_KEY_FILE", "no/such")][..], "there is no such file"),
            (&[("ROUTEMASTER_ROOT_KEY_FILE", path), ("ROUTEMASTER_ROOT_KEY", "x")], "both set"),
        ] {
            let error = read(pairs).1.expect(expected).to_string();
            assert!(error.contains(expected), "{error}");
        }
        assert!(is_file_of_secret("ROUTEMASTER_TOKEN_FILE"));
        assert!(is_file_of_secret("ROUTEMASTER_CLIENTS_FILE"));
        assert!(!is_file_of_secret("ROUTEMASTER_BIND_FILE"));
    }
}
