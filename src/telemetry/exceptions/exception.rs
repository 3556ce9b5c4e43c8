//! An exception: one error of the log, in parts, and the process that it happened in.

use std::collections::BTreeMap;
use std::time::SystemTime;

use tracing::Event;
use tracing::field::{Field, Visit};

use crate::config::Role;
use crate::telemetry::host_name;

/// One error, as it was logged.
#[derive(Clone, Debug)]
pub struct Exception {
    pub at: SystemTime,
    /// The log line's message: what failed, in words that are the same each time.
    pub class: String,
    /// Why it failed: the field `error`, else the message once more.
    pub error: String,
    /// The module that logged it.
    pub target: &'static str,
    pub place: Place,
    /// The other fields of the log line.
    pub fields: BTreeMap<&'static str, String>,
}

/// Where in the source it happened.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Place {
    pub file: String,
    pub line: u32,
}

/// The process that reports.
pub struct Origin {
    pub release: &'static str,
    pub role: &'static str,
    pub hostname: String,
    pub pid: u32,
}

/// The longest text that is kept of an error until its secrets are off, in bytes.
const KEPT_TEXT: usize = 64 * 1024;

/// The field that holds where a panic happened, as `file:line:column`. It says more than the place
/// that logs it, which is the same for all panics.
pub const LOCATION: &str = "location";

impl Exception {
    pub fn of(event: &Event<'_>) -> Self {
        let metadata = event.metadata();
        let mut fields = Fields::default();
        event.record(&mut fields);
        let Fields(mut fields) = fields;
        let logged_at = || Place {
            file: metadata.file().unwrap_or_default().to_owned(),
            line: metadata.line().unwrap_or_default(),
        };
        let place = fields.get(LOCATION).and_then(|location| Place::parse(location));
        let class = fields.remove("message").unwrap_or_else(|| metadata.target().to_owned());
        Self {
            at: SystemTime::now(),
            error: fields.remove("error").unwrap_or_else(|| class.clone()),
            class,
            target: metadata.target(),
            place: place.unwrap_or_else(logged_at),
            fields,
        }
    }
}

impl Place {
    fn parse(location: &str) -> Option<Self> {
        let (place, _column) = location.rsplit_once(':')?;
        let (file, line) = place.rsplit_once(':')?;
        Some(Self { file: file.to_owned(), line: line.parse().ok()? })
    }
}

impl Origin {
    pub fn of_this_process(role: Role) -> Self {
        Self {
            release: concat!("routemaster@", env!("CARGO_PKG_VERSION")),
            role: role.name(),
            hostname: host_name(),
            pid: std::process::id(),
        }
    }
}

/// The beginning of a text, at most `max` bytes of it.
pub fn beginning(text: &str, max: usize) -> &str {
    &text[..text.floor_char_boundary(max)]
}

/// Reads the fields of an event as text.
#[derive(Default)]
struct Fields(BTreeMap<&'static str, String>);

impl Visit for Fields {
    fn record_str(&mut self, field: &Field, value: &str) {
        self.0.insert(field.name(), beginning(value, KEPT_TEXT).to_owned());
    }

    fn record_debug(&mut self, field: &Field, value: &dyn std::fmt::Debug) {
        self.record_str(field, &format!("{value:?}"));
    }
}

#[cfg(test)]
impl Exception {
    /// One to make reports of in tests.
    pub fn example() -> Self {
        Self {
            at: SystemTime::UNIX_EPOCH + std::time::Duration::from_millis(1_700_000_000_500),
            class: "failed to reach the store; trying on".into(),
            error: "Connection refused".into(),
            target: "routemaster::store",
            place: Place { file: "src/store/redis/connection.rs".into(), line: 184 },
            fields: BTreeMap::from([("store", "Redis, redis://localhost:6379".to_owned())]),
        }
    }
}

#[cfg(test)]
impl Origin {
    pub fn example() -> Self {
        Self { release: "routemaster@1.2.3", role: "web", hostname: "bus-1".into(), pid: 7 }
    }
}
