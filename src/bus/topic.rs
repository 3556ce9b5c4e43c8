//! Topics and their names.

use std::fmt;
use std::sync::Arc;

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
