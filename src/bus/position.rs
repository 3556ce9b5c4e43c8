//! Positions: where an event stands in all that was ever published.

use std::fmt;
use std::str::FromStr;

/// Where an event stands in all that was ever published to the bus; no two events have the same. They grow in
/// the order in which events were stored.
///
/// It is the time in microseconds since the epoch at which the event was stored, or a little more where
/// several were stored at once, so that a store that has lost its last changes gives none out again. It fits
/// into the whole numbers that JavaScript has (2^53).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct EventPosition(u64);

/// What is no position.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("the position of an event is a whole number, as `Routemaster-Event` tells it")]
pub struct InvalidPosition;

impl EventPosition {
    /// The largest that there can be.
    pub const MAX: Self = Self((1 << 53) - 1);

    /// What stands before all events.
    pub const BEFORE_ALL: Self = Self(0);

    pub fn new(number: u64) -> Self {
        Self(number.min(Self::MAX.0))
    }

    /// What an event from before there were positions is taken to have: when it was stored is known, in
    /// milliseconds since the epoch.
    pub fn of_time(ms: u64) -> Self {
        Self::new(ms.saturating_mul(1000))
    }

    /// What stands before all that is stored at a time, in milliseconds since the epoch, or later.
    pub fn before_time(ms: u64) -> Self {
        Self(Self::of_time(ms).0.saturating_sub(1))
    }

    pub fn number(self) -> u64 {
        self.0
    }

    /// When the event was stored, in milliseconds since the epoch.
    pub fn at_ms(self) -> u64 {
        self.0 / 1000
    }

    /// That of the event `count` further on, of those that were stored at once.
    pub fn plus(self, count: u64) -> Self {
        Self::new(self.0.saturating_add(count))
    }
}

impl FromStr for EventPosition {
    type Err = InvalidPosition;

    fn from_str(text: &str) -> Result<Self, InvalidPosition> {
        let number = text.parse().ok().filter(|number| *number <= Self::MAX.0);
        number.map(Self).ok_or(InvalidPosition)
    }
}

impl fmt::Display for EventPosition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}
