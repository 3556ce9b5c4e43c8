//! Takes secrets out of exceptions before they leave the process.
//!
//! Nothing logs a secret on purpose. This is for the text of an error that repeats what it was
//! given. Two nets: the values of the secret settings, wherever they stand, and what looks like a
//! secret by its surroundings. A word too many that is blanked is the lesser evil.

use url::{Url, form_urlencoded};

use super::exception::{Exception, Place, beginning};
use crate::config::Settings;

/// What stands in a secret's place.
const BLANK: &str = "…";
/// The shortest value of a setting that is looked for. A shorter one, such as the default client
/// `demo`, is found inside ordinary words, and guessed as fast as it is read.
const SECRET_MIN: usize = 8;
/// What a value belongs to that is blanked: `name=value`, `"name": "value"` or a field.
const SECRET_NAMES: [&str; 8] =
    ["uuid", "password", "api-key", "api_key", "license_key", "authorization", "token", "secret"];
/// The longest text of a report, in bytes.
const REPORTED_TEXT: usize = 16 * 1024;

pub struct Scrubber {
    /// The longest first, so that none is left in part.
    secrets: Vec<String>,
}

impl Scrubber {
    pub fn new(settings: &Settings) -> Self {
        let mut secrets: Vec<String> =
            settings.secrets.iter().flat_map(|value| secret_parts(value)).collect();
        secrets.retain(|secret| secret.len() >= SECRET_MIN);
        secrets.sort_by_key(|secret| std::cmp::Reverse(secret.len()));
        Self { secrets }
    }

    /// The exception without secrets, and with no text longer than a report may be.
    pub fn exception(&self, exception: Exception) -> Exception {
        let Exception { at, class, error, target, place, fields } = exception;
        // Shortened only now, so that no secret is cut in two and missed.
        let text = |text: &str| beginning(&self.text(text), REPORTED_TEXT).to_owned();
        let field = |name: &str, value: &str| match SECRET_NAMES.contains(&name) {
            true => BLANK.to_owned(),
            false => text(value),
        };
        Exception {
            at,
            class: text(&class),
            error: text(&error),
            target,
            place: Place { file: text(&place.file), line: place.line },
            fields: fields.iter().map(|(&name, value)| (name, field(name, value))).collect(),
        }
    }

    /// A text without secrets.
    pub fn text(&self, text: &str) -> String {
        let mut text = text.to_owned();
        for secret in &self.secrets {
            if text.contains(secret) {
                text = text.replace(secret, BLANK);
            }
        }
        for name in SECRET_NAMES {
            text = without_named_values(&text, name);
        }
        let text = without_credentials(&without_url_users(&text));
        without_uuids(&without_service_tokens(&text))
    }
}

/// What is secret of the value of a secret setting: a URL, a key, or tokens between commas.
fn secret_parts(value: &str) -> Vec<String> {
    if let Some(url) = Url::parse(value).ok().filter(Url::has_host) {
        let mut parts = url_passwords(&url);
        // The user may be a key; in the URL of a Redis it is a name.
        if url.scheme() == "https" {
            parts.push(url.username().to_owned());
        }
        return parts;
    }
    value.split(',').map(|token| token_secret(token.trim()).to_owned()).collect()
}

/// What is secret of a token: all of it, or what follows the service's name.
fn token_secret(token: &str) -> &str {
    token.split_once("--").filter(|(name, _)| !name.is_empty()).map_or(token, |(_, secret)| secret)
}

/// The passwords in a URL, also those in its query, as they are written and as they are meant.
fn url_passwords(url: &Url) -> Vec<String> {
    let mut passwords: Vec<String> = Vec::new();
    if let Some(password) = url.password() {
        passwords.extend([password.to_owned(), percent_decoded(password)]);
    }
    let query = url.query_pairs();
    let is_password = |name: &str| name.to_ascii_lowercase().contains("password");
    passwords.extend(query.filter(|(name, _)| is_password(name)).map(|(_, value)| value.into()));
    passwords
}

fn percent_decoded(text: &str) -> String {
    // The parser of forms decodes a name as far as nothing in it has a meaning in forms.
    let name = text.replace('+', "%2B").replace('&', "%26").replace('=', "%3D");
    form_urlencoded::parse(name.as_bytes()).map(|(name, _)| name.into_owned()).collect()
}

/// What cannot be a part of a secret that stands in a text.
fn ends_value(c: char) -> bool {
    c.is_whitespace() || matches!(c, '"' | '\'' | '`' | ',' | ';' | '&' | '(' | ')' | '<' | '>')
}

/// `scheme://user:password@host` without what stands before `@`.
fn without_url_users(text: &str) -> String {
    let (mut clean, mut rest) = (String::with_capacity(text.len()), text);
    while let Some(at) = rest.find("://") {
        let (scheme, authority) = rest.split_at(at + "://".len());
        clean.push_str(scheme);
        rest = authority;
        // A password may hold anything else.
        let ends = |c: char| matches!(c, '/' | '?' | '#' | '"' | '`') || c.is_whitespace();
        let end = rest.find(ends);
        if let Some(at) = rest[..end.unwrap_or(rest.len())].rfind('@') {
            clean.push_str(BLANK);
            rest = &rest[at..];
        }
    }
    clean + rest
}

/// What is shaped like a UUID: most subscribers authenticate deliveries with one.
fn without_uuids(text: &str) -> String {
    const GROUPS: [usize; 5] = [8, 4, 4, 4, 12];
    let is_uuid = |word: &str| {
        let mut lengths = word.split('-').map(str::len);
        lengths.by_ref().take(GROUPS.len() + 1).eq(GROUPS)
            && word.bytes().all(|byte| byte.is_ascii_hexdigit() || byte == b'-')
    };
    let mut clean = String::with_capacity(text.len());
    for part in text.split_inclusive(|c: char| !(c.is_ascii_alphanumeric() || c == '-')) {
        let end = part.rfind(|c: char| !(c.is_ascii_alphanumeric() || c == '-'));
        let (word, rest) = part.split_at(end.unwrap_or(part.len()));
        clean.push_str(if is_uuid(word) { BLANK } else { word });
        clean.push_str(rest);
    }
    clean
}

/// The word after `Basic` or `Bearer` is what proves who sends it.
fn without_credentials(text: &str) -> String {
    let mut clean = String::with_capacity(text.len());
    let mut proof_follows = false;
    for word in text.split_inclusive(char::is_whitespace) {
        let proof = word.find(ends_value).unwrap_or(word.len());
        if proof_follows && proof > 0 {
            clean.push_str(BLANK);
            clean.push_str(&word[proof..]);
        } else {
            clean.push_str(word);
        }
        let scheme = word.trim_end().rsplit(|c: char| !c.is_ascii_alphanumeric()).next();
        let is = |name| scheme.is_some_and(|scheme| scheme.eq_ignore_ascii_case(name));
        proof_follows = is("basic") || is("bearer");
    }
    clean
}

/// `name--<secret>` without the secret; the service's name is none.
fn without_service_tokens(text: &str) -> String {
    let in_token =
        |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, ':' | '_' | '-');
    let (mut clean, mut rest) = (String::with_capacity(text.len()), text);
    while !rest.is_empty() {
        let (token, after) = rest.split_at(rest.find(|c| !in_token(c)).unwrap_or(rest.len()));
        match token.split_once("--") {
            // Without a name it is a flag, or a line.
            Some((name, secret)) if !name.is_empty() && !secret.is_empty() => {
                clean.extend([name, "--", BLANK]);
            }
            _ => clean.push_str(token),
        }
        let (between, next) = after.split_at(after.find(in_token).unwrap_or(after.len()));
        clean.push_str(between);
        rest = next;
    }
    clean
}

/// `name=value`, `name: value`, `"name":"value"` and `name: Some("value")` without the value.
fn without_named_values(text: &str, name: &str) -> String {
    // ASCII only changes, so that positions are those of the text.
    let lower = text.to_ascii_lowercase();
    let (mut clean, mut done) = (String::with_capacity(text.len()), 0);
    while let Some(found) = lower[done..].find(name) {
        let after_name = done + found + name.len();
        let value = text[after_name..].trim_start_matches(['"', '\'', '`']).trim_start();
        // Two colons are a path in Rust.
        let is_path = value.starts_with("::");
        let Some(value) = value.strip_prefix(['=', ':']).filter(|_| !is_path) else {
            clean.push_str(&text[done..after_name]);
            done = after_name;
            continue;
        };
        let value = value.trim_start().trim_start_matches("Some(");
        let value = value.trim_start_matches(['"', '\'', '`']);
        let start = text.len() - value.len();
        clean.push_str(&text[done..start]);
        // The value of the header is of two words.
        let header = name == "authorization";
        let ends = |c: char| ends_value(c) && !(header && c == ' ');
        done = start + value.find(ends).unwrap_or(value.len());
        if done > start {
            clean.push_str(BLANK);
        }
    }
    clean.push_str(&text[done..]);
    clean
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Sources;

    fn scrubber(pairs: &[(&str, &str)]) -> Scrubber {
        let find = |name: &str| {
            pairs.iter().find(|(key, _)| *key == name).map(|(_, value)| (*value).to_owned())
        };
        let settings = Settings::load(&Sources { flags: &|_| None, environment: &find });
        Scrubber::new(&settings.unwrap())
    }

    #[test]
    fn the_values_of_secret_settings_are_blanked_wherever_they_stand() {
        let scrubber = scrubber(&[
            ("ROUTEMASTER_ROOT_KEY", "the-root-key"),
            ("ROUTEMASTER_CLIENTS", "demo,s3cr3t-client,orders--0123456789abcdef,s3cr3t-client-2"),
            (
                "ROUTEMASTER_REDIS_URL",
                "redis-sentinel://routemaster:p%C3%A4ss+word@h:1?sentinelPassword=s3ntin3l%21",
            ),
            ("HONEYBADGER_API_KEY", "hbp_12345678"),
            ("NEW_RELIC_LICENSE_KEY", "eu01xx12345678NRAL"),
            ("DATADOG_API_KEY", "dd_0123456789"),
            ("EXCEPTION_SERVICE_URL", "https://publickey:secretkey@sentry.io/1"),
        ]);
        for secret in [
            "the-root-key",
            "s3cr3t-client",
            "s3cr3t-client-2",
            "0123456789abcdef",
            "p%C3%A4ss+word",
            "päss+word",
            "s3ntin3l!",
            "hbp_12345678",
            "eu01xx12345678NRAL",
            "dd_0123456789",
            "publickey",
            "secretkey",
        ] {
            assert_eq!(scrubber.text(&format!("a({secret})b{secret}")), "a(…)b…", "{secret}");
        }
    }

    #[test]
    fn short_values_and_names_leave_ordinary_text_alone() {
        let scrubber = scrubber(&[
            ("ROUTEMASTER_CLIENTS", "demo,a,orders"),
            ("ROUTEMASTER_REDIS_URL", "redis://routemaster:redis@localhost"),
        ]);
        for text in [
            "a demonstration of orders by routemaster with redis and a demo",
            "failed to reach the store; trying on",
            "see https://localhost:17890/topics/orders?x=1#y, or mail a@example.com",
            "use --data-dir or -----BEGIN CERTIFICATE-----",
            "uuid::Uuid::new_v4 at src/uuid.rs:12:5",
            "no uuid, no password and no authorization",
            "the store said: Connection refused (os error 111)",
            "basic, or bearer",
            "",
        ] {
            assert_eq!(scrubber.text(text), text);
        }
    }

    #[test]
    fn what_looks_like_a_secret_is_blanked() {
        let scrubber = scrubber(&[]);
        for (text, clean) in [
            ("to redis://user:pass@host:1/0 failed", "to redis://…@host:1/0 failed"),
            ("rediss://:p@ss@host", "rediss://…@host"),
            ("`https://key@sentry.io/1`, https://b/", "`https://…@sentry.io/1`, https://b/"),
            ("a://u@h b://v@i", "a://…@h b://…@i"),
            ("sent Basic ZGVtbzp4 to it", "sent Basic … to it"),
            ("header \"basic ZGVtbzp4==\".", "header \"basic …\"."),
            ("Bearer abc.def-ghi", "Bearer …"),
            ("Authorization: Basic ZGVtbzp4", "Authorization: …"),
            ("{\"authorization\":\"Basic ZGVtbzp4\",\"a\":1}", "{\"authorization\":\"…\",\"a\":1}"),
            ("orders--0123456789abcdef is unknown", "orders--… is unknown"),
            ("(a:b--c)", "(a:b--…)"),
            ("?uuid=1b9d6bcd&x=1", "?uuid=…&x=1"),
            ("{\"uuid\": \"1b9d 6bcd\"}", "{\"uuid\": \"… 6bcd\"}"),
            ("Delivery { uuid: Some(\"1b9d\") }", "Delivery { uuid: Some(\"…\") }"),
            ("UUID='x' uuid=y", "UUID='…' uuid=…"),
            ("sentinelPassword=geheim", "sentinelPassword=…"),
            ("x-api-key: hbp_1", "x-api-key: …"),
            ("é password=é é", "é password=… é"),
            ("https://u:pa,s'(w);&0rd@h/x", "https://…@h/x"),
            (
                "token=sesame {\"token\":\"sesame2\"} secret: abc",
                "token=… {\"token\":\"…\"} secret: …",
            ),
            ("for 4f1c5a3e-0000-4000-8000-0123456789ab.", "for …."),
        ] {
            assert_eq!(scrubber.text(text), clean);
            assert_eq!(scrubber.text(clean), clean, "scrubbed twice");
        }
    }

    #[test]
    fn all_text_of_an_exception_is_scrubbed_and_then_shortened() {
        const SECRET: &str = "orders--0123456789abcdef";
        let mut exception = Exception::example();
        exception.class = format!("class {SECRET}");
        exception.error = format!("{}{SECRET}", " ".repeat(REPORTED_TEXT - 10));
        exception.place.file = format!("{SECRET}.rs");
        exception.fields.insert("note", SECRET.into());
        exception.fields.insert("uuid", "anything".into());
        let clean = scrubber(&[]).exception(exception);
        assert_eq!(clean.class, "class orders--…");
        assert!(clean.error.trim_start().starts_with("orders--"), "{}", clean.error.trim_start());
        assert!(clean.error.len() <= REPORTED_TEXT);
        assert_eq!(clean.place.file, "orders--….rs");
        assert_eq!((&*clean.fields["note"], &*clean.fields["uuid"]), ("orders--…", "…"));
    }
}
