//! Topics and their names.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use crate::bus::json::Rejection;
use crate::bus::token::ClientToken;

/// The name of a topic: `[a-z_]`, at most as long as the bus allows.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TopicName(Arc<str>);

/// Why a string is not a topic name.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("`{name}` is not a topic name: use 1 to {max} of the characters a-z and _")]
pub struct InvalidTopicName {
    name: String,
    max: usize,
}

impl TopicName {
    /// The longest that a bus can be set to allow, in characters (contract §2).
    pub const MAX: usize = 64;

    /// Checks a name against the contract's `^[a-z_]{1,max}$`.
    pub fn parse(name: &str, max: usize) -> Result<Self, InvalidTopicName> {
        let allowed = |byte: u8| byte.is_ascii_lowercase() || byte == b'_';
        if (1..=max).contains(&name.len()) && name.bytes().all(allowed) {
            return Ok(Self(name.into()));
        }
        let shown = name.chars().filter(|c| !c.is_control()).take(80).collect();
        Err(InvalidTopicName { name: shown, max })
    }

    /// Takes a name that was checked before it was stored.
    pub(crate) fn from_stored(name: &str) -> Self {
        Self(name.into())
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for TopicName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// How much a topic keeps of what is published to it, whether anybody waits for it or not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Keep {
    pub age: Duration,
    pub bytes: u64,
}

/// The longest that a topic may keep events, in milliseconds: a year.
pub const KEEP_MS_MAX: u64 = 31_536_000_000;

/// More room than any store has.
const KEEP_BYTES_MAX: u64 = 1 << 50;

impl Keep {
    /// `None` is nothing, which is what 0 and 0 mean.
    ///
    /// # Errors
    /// If the numbers mean nothing.
    pub fn new(ms: u64, bytes: u64) -> Result<Option<Self>, Rejection> {
        match (ms, bytes) {
            (0, 0) => Ok(None),
            (1..=KEEP_MS_MAX, 1..=KEEP_BYTES_MAX) => {
                Ok(Some(Self { age: Duration::from_millis(ms), bytes }))
            }
            _ => Err(Rejection::new(format!(
                "`ms` must be 1 to {KEEP_MS_MAX} and `bytes` 1 or more, or both 0 for nothing"
            ))),
        }
    }
}

/// Where the bus publishes what happens to it (contract §14).
pub const NEWS_TOPIC: &str = "routemaster_news";

/// A topic as monitoring shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Topic {
    pub name: TopicName,
    /// The one client that may publish; `None` until somebody does.
    pub publisher: Option<ClientToken>,
    /// Events ever received.
    pub events: u64,
    /// What it keeps of them, `None` for nothing.
    pub keep: Option<Keep>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_lower_case_letters_and_underscores_within_the_limit() {
        assert!(TopicName::parse("widgets_of_all_kinds", 32).is_ok());
        assert!(TopicName::parse(&"a".repeat(32), 32).is_ok());
        for bad in ["", "Widgets", "widgets2", "wid-gets", "wídgets", "a b", "a\n", &"a".repeat(33)]
        {
            assert!(TopicName::parse(bad, 32).is_err(), "{bad:?}");
        }
        assert!(TopicName::parse(&"a".repeat(33), 64).is_ok());
    }
}
