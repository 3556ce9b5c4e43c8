//! How many values a tag may have: clients choose the names of topics, and each of them would be a series.

use std::collections::HashMap;
use std::sync::{LazyLock, Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::bus::message::MessageTopicName;
use crate::bus::token::ClientToken;
use crate::bus::topic::TopicName;

/// How long a counter or a histogram is kept that does not move.
pub const LIFETIME: Duration = Duration::from_secs(24 * 3600);
/// How many values are told apart. Those that come when there are so many are one.
const VALUES_MAX: usize = 20_000;
const OTHERS: &str = "(others)";

static TOPICS: LazyLock<Labels> = LazyLock::new(Labels::default);
static MESSAGE_TOPICS: LazyLock<Labels> = LazyLock::new(Labels::default);
static SUBSCRIBERS: LazyLock<Labels> = LazyLock::new(Labels::default);
static DESTINATIONS: LazyLock<Labels> = LazyLock::new(Labels::default);

/// What a topic's series are tagged with.
pub fn of_topic(topic: &TopicName) -> String {
    TOPICS.admit(topic.to_string(), Instant::now())
}

/// What a message topic's series are tagged with.
pub fn of_message_topic(topic: &MessageTopicName) -> String {
    MESSAGE_TOPICS.admit(topic.to_string(), Instant::now())
}

/// What a subscriber's series are tagged with.
pub fn of_subscriber(subscriber: &ClientToken) -> String {
    SUBSCRIBERS.admit(subscriber.label(), Instant::now())
}

/// What a destination's series are tagged with.
pub fn of_destination(destination: &str) -> String {
    DESTINATIONS.admit(destination.to_owned(), Instant::now())
}

/// The values that a tag has, and when each was last used.
#[derive(Default)]
struct Labels(Mutex<HashMap<String, Instant>>);

impl Labels {
    fn admit(&self, label: String, now: Instant) -> String {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(used) = known.get_mut(&label) {
            *used = now;
            return label;
        }
        if known.len() >= VALUES_MAX {
            known.retain(|_, used| now.saturating_duration_since(*used) < LIFETIME);
        }
        if known.len() >= VALUES_MAX {
            return OTHERS.to_owned();
        }
        known.insert(label.clone(), now);
        label
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_one_too_many_counts_together_until_others_are_forgotten() {
        let (labels, start) = (Labels::default(), Instant::now());
        for number in 0..VALUES_MAX {
            assert_eq!(labels.admit(number.to_string(), start), number.to_string());
        }
        let later = start + LIFETIME / 2;
        assert_eq!(labels.admit("one more".into(), later), OTHERS);
        assert_eq!(labels.admit("7".into(), later), "7", "those that are known stay");
        assert_eq!(labels.admit("one more".into(), start + LIFETIME), "one more");
        assert_eq!(labels.0.lock().unwrap().len(), 2);
    }
}
