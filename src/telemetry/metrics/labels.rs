//! How many values a tag may have: clients choose the names of topics, and each of them would be a series.

use std::collections::HashMap;
use std::sync::{Arc, LazyLock, Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::bus::message::MessageTopicName;
use crate::bus::token::ClientToken;
use crate::bus::topic::TopicName;

/// How long a counter or a histogram is kept that does not move.
pub const LIFETIME: Duration = Duration::from_secs(24 * 3600);
/// How many values are told apart. Those that come when there are so many are one.
const VALUES_MAX: usize = 20_000;
/// How often it is looked for those that are not used any more, if there are too many.
const CLEAR_INTERVAL: Duration = Duration::from_secs(60);
static OTHERS: LazyLock<Arc<str>> = LazyLock::new(|| Arc::from("(others)"));

static TOPICS: LazyLock<Labels> = LazyLock::new(Labels::default);
static MESSAGE_TOPICS: LazyLock<Labels> = LazyLock::new(Labels::default);
static SUBSCRIBERS: LazyLock<Labels> = LazyLock::new(Labels::default);
static DESTINATIONS: LazyLock<Labels> = LazyLock::new(Labels::default);

/// What a topic's series are tagged with.
pub fn of_topic(topic: &TopicName) -> Arc<str> {
    TOPICS.admit(topic.as_str(), Instant::now())
}

/// What a message topic's series are tagged with.
pub fn of_message_topic(topic: &MessageTopicName) -> Arc<str> {
    MESSAGE_TOPICS.admit(topic.as_str(), Instant::now())
}

/// What a subscriber's series are tagged with.
pub fn of_subscriber(subscriber: &ClientToken) -> Arc<str> {
    SUBSCRIBERS.admit(&subscriber.label(), Instant::now())
}

/// What a destination's series are tagged with.
pub fn of_destination(destination: &str) -> Arc<str> {
    DESTINATIONS.admit(destination, Instant::now())
}

/// The values that a tag has. Each is shared with its series, of which a delivery moves several.
#[derive(Default)]
struct Labels(Mutex<Known>);

#[derive(Default)]
struct Known {
    values: HashMap<Arc<str>, Used>,
    /// When it was last looked for those that are not used any more.
    cleared: Option<Instant>,
}

struct Used {
    /// The same as the key, which a look-up does not give.
    label: Arc<str>,
    at: Instant,
}

impl Known {
    /// Forgets what has not been used for long, if there is no room and that was not tried a moment ago: with more
    /// values than there is room for, most of them come by here.
    fn make_room(&mut self, now: Instant) {
        let is_recent = |at: Instant| now.saturating_duration_since(at) < CLEAR_INTERVAL;
        if self.values.len() >= VALUES_MAX && !self.cleared.is_some_and(is_recent) {
            self.cleared = Some(now);
            self.values.retain(|_, used| now.saturating_duration_since(used.at) < LIFETIME);
        }
    }
}

impl Labels {
    fn admit(&self, label: &str, now: Instant) -> Arc<str> {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(used) = known.values.get_mut(label) {
            used.at = now;
            return used.label.clone();
        }
        known.make_room(now);
        if known.values.len() >= VALUES_MAX {
            return OTHERS.clone();
        }
        let label: Arc<str> = label.into();
        known.values.insert(label.clone(), Used { label: label.clone(), at: now });
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
            let number = number.to_string();
            assert_eq!(*labels.admit(&number, start), *number);
        }
        let later = start + LIFETIME / 2;
        assert_eq!(&*labels.admit("one more", later), "(others)");
        assert_eq!(&*labels.admit("7", later), "7", "those that are known stay");
        assert_eq!(&*labels.admit("one more", start + LIFETIME), "one more");
        assert_eq!(labels.0.lock().unwrap().values.len(), 2);
    }
}
