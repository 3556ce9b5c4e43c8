//! What passed, counted over time: what charts are drawn from.

use super::token::ClientToken;

/// What is counted for.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Subject {
    /// All events, and all queues.
    Bus,
    /// The queue of one subscriber.
    Subscription(ClientToken),
    /// All calls and postbacks.
    Calls,
    /// All messages.
    Messages,
}

impl Subject {
    /// What it is called in a store, which needs no token for it.
    pub fn name(&self) -> String {
        match self {
            Self::Bus => "bus".into(),
            Self::Calls => "calls".into(),
            Self::Messages => "messages".into(),
            Self::Subscription(subscriber) => {
                format!("subscription {}", subscriber.short_hash())
            }
        }
    }
}

/// What passed in some time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Events, calls or messages that came.
    pub volume: u64,
    /// Those that got through.
    pub success: u64,
    /// Attempts that failed.
    pub failure: u64,
    /// How long those that got through had waited for it, together, in milliseconds.
    pub waited_ms: u64,
    /// How many waited at most.
    pub queued: u64,
}

impl Tally {
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// What both come to.
    pub fn add(&mut self, other: &Self) {
        self.volume = self.volume.saturating_add(other.volume);
        self.success = self.success.saturating_add(other.success);
        self.failure = self.failure.saturating_add(other.failure);
        self.waited_ms = self.waited_ms.saturating_add(other.waited_ms);
        self.queued = self.queued.max(other.queued);
    }

    /// How long what got through had waited, on average, in milliseconds.
    pub fn latency_ms(&self) -> Option<u64> {
        self.waited_ms.checked_div(self.success)
    }
}

/// How long the time is that is counted together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Span {
    Minute,
    Hour,
    Day,
}

const MINUTE_MS: u64 = 60_000;

impl Span {
    pub const ALL: [Self; 3] = [Self::Minute, Self::Hour, Self::Day];

    /// In milliseconds.
    pub fn length_ms(self) -> u64 {
        match self {
            Self::Minute => MINUTE_MS,
            Self::Hour => 60 * MINUTE_MS,
            Self::Day => 24 * 60 * MINUTE_MS,
        }
    }

    /// For how many of them is remembered what was counted: a little more than a chart shows.
    pub fn kept(self) -> u64 {
        match self {
            Self::Minute => 90,
            Self::Hour => 8 * 24,
            Self::Day => 92,
        }
    }

    /// When the one began that a moment is in; both in milliseconds since the epoch.
    pub fn start_of(self, at_ms: u64) -> u64 {
        at_ms - at_ms % self.length_ms()
    }

    /// When the oldest began that is kept.
    pub fn kept_since(self, now_ms: u64) -> u64 {
        self.start_of(now_ms).saturating_sub((self.kept() - 1) * self.length_ms())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_subject_is_named_without_its_token() {
        let subject = Subject::Subscription(ClientToken::parse("shop--s3cret").unwrap());
        assert!(subject.name().starts_with("subscription "));
        assert!(!subject.name().contains("s3cret"), "{}", subject.name());
    }

    #[test]
    fn a_moment_is_in_one_span_of_each_length() {
        let at_ms = 1_764_363_661_234;
        let starts = Span::ALL.map(|span| span.start_of(at_ms));
        assert_eq!(starts, [1_764_363_660_000, 1_764_363_600_000, 1_764_288_000_000]);
        assert_eq!(Span::Day.kept_since(at_ms), 1_764_288_000_000 - 91 * 86_400_000);
    }

    #[test]
    fn what_waited_is_the_most_that_did_and_the_rest_is_summed_up() {
        let one = Tally { volume: 3, success: 2, failure: 1, waited_ms: 10, queued: 7 };
        let mut both = Tally { queued: 9, ..one };
        both.add(&one);
        let expected = Tally { volume: 6, success: 4, failure: 2, waited_ms: 20, queued: 9 };
        assert_eq!(both, expected);
        assert_eq!(both.latency_ms(), Some(5));
        assert_eq!(Tally::default().latency_ms(), None);
    }
}
