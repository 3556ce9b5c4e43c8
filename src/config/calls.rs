//! What settings say of calls and postbacks, beyond plain values.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use super::Settings;
use super::parse::within;
use crate::bus::call::Persistence;
use crate::store::DestinationLimits;

/// An interface that may be open to everybody.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Interface {
    Calls,
    Postbacks,
    Messages,
}

impl Interface {
    pub const ALL: [Self; 3] = [Self::Calls, Self::Postbacks, Self::Messages];

    pub fn name(self) -> &'static str {
        match self {
            Self::Calls => "calls",
            Self::Postbacks => "postbacks",
            Self::Messages => "messages",
        }
    }
}

/// The key of the original's clients. It is a password, and is shown nowhere.
#[derive(Clone, PartialEq, Eq)]
pub struct CallsKey(Arc<str>);

impl CallsKey {
    pub fn parse(text: &str) -> Option<Self> {
        (1..=256).contains(&text.chars().count()).then(|| Self(text.into()))
    }

    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for CallsKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("CallsKey(…)")
    }
}

/// How far the time in a hash may be away.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyWindow {
    Within(Duration),
    Any,
}

impl KeyWindow {
    const DEFAULT: Self = Self::Within(Duration::from_secs(300));

    pub fn parse(text: &str) -> Option<Self> {
        if text.eq_ignore_ascii_case("off") {
            return Some(Self::Any);
        }
        within(text, 1..=86_400).map(|seconds| Self::Within(Duration::from_secs(seconds as u64)))
    }
}

/// The pauses between attempts at a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CallPauses {
    pub first: Duration,
    pub max: Duration,
}

/// How many calls go to a destination at once while its last one has failed.
const PROBES: u32 = 2;
const FIRST_PAUSE: Duration = Duration::from_secs(5);
const MAX_PAUSE: Duration = Duration::from_secs(300);

impl Settings {
    /// The key by whose hash calls may be made, and how far the time in that may be away.
    pub fn calls_key(&self) -> Option<(CallsKey, KeyWindow)> {
        let by_default = if self.calls_key.is_some() { KeyWindow::DEFAULT } else { KeyWindow::Any };
        let key = self.calls_key.clone().or_else(|| self.authorization_key.clone())?;
        Some((key, self.calls_key_window.unwrap_or(by_default)))
    }

    /// Whether an interface may be used without a token.
    pub fn is_open(&self, interface: Interface) -> bool {
        let as_the_original = interface == Interface::Calls
            && self.authorization_key_is_empty
            && self.calls_key.is_none();
        as_the_original || self.open.contains(&interface)
    }

    /// For how long postbacks are made again.
    pub fn postback_persistence(&self) -> Persistence {
        let max_attempts = Some(self.postback_attempts);
        Persistence { requeue: true, max_attempts, give_up_after: None }
    }

    /// How many calls may be on their way to one destination.
    pub fn destination_limits(&self) -> DestinationLimits {
        let in_flight = self.calls_per_destination;
        DestinationLimits {
            in_flight,
            probes: PROBES.min(in_flight),
            per_publisher: self.messages_per_publisher,
        }
    }

    pub fn call_pauses(&self) -> CallPauses {
        match (self.call_retry, self.call_retry_max, self.call_pause) {
            (None, None, Some(pause)) => CallPauses { first: pause, max: pause },
            (None, Some(max), _) => CallPauses { first: FIRST_PAUSE.min(max), max },
            (first, max, _) => {
                let first = first.unwrap_or(FIRST_PAUSE);
                CallPauses { first, max: max.unwrap_or(MAX_PAUSE.max(first)) }
            }
        }
    }
}
