//! What is known of all subscriptions and topics: looked at from time to time, for all who watch.
//!
//! A list that puts what is in trouble first must know all of it. So it is read as a whole, and kept for as long as keeps
//! the cost of reading it small: a console that is open must not be felt by the bus.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use tokio::sync::Mutex;
use tokio::time::Instant;

use crate::api::state::Shared;
use crate::bus::subscription::SubscriptionStatus;
use crate::bus::topic::{Topic, TopicName};
use crate::store::StoreResult;

/// For how long at least what was read is good enough.
const FRESH: Duration = Duration::from_secs(1);
/// How many times longer than reading it took.
const SPARING: u32 = 200;
/// And for how long at most.
const STALE: Duration = Duration::from_secs(30);
/// Where reading takes longer than this, nobody waits for it whom what was read so long ago will do.
const SLOW: Duration = Duration::from_millis(50);
const TOLERABLE: Duration = Duration::from_secs(60);

pub struct Board {
    api: Shared,
    last: Mutex<Option<Reading>>,
    /// Whether it is read beside those who look.
    is_renewed: AtomicBool,
    /// How often something was changed from here.
    changes: AtomicU64,
}

/// What was read, and when.
#[derive(Clone)]
struct Reading {
    overall: Arc<Overall>,
    at: Instant,
    took: Duration,
}

/// All subscriptions and topics, as they were some time ago.
pub struct Overall {
    pub subscriptions: Vec<SubscriptionStatus>,
    pub topics: Vec<Topic>,
    by_id: HashMap<String, usize>,
    subscribers: HashMap<TopicName, usize>,
    /// When they were so, in milliseconds since the epoch.
    pub at_ms: u64,
    /// Whether they are read so rarely that it should be said.
    pub is_old: bool,
}

impl Board {
    pub fn new(api: Shared) -> Self {
        Self {
            api,
            last: Mutex::new(None),
            is_renewed: AtomicBool::new(false),
            changes: AtomicU64::new(0),
        }
    }

    /// # Errors
    /// If the store cannot be asked.
    pub async fn look(self: &Arc<Self>) -> StoreResult<Arc<Overall>> {
        // Those who come while it is read wait for the same answer.
        let mut last = self.last.lock().await;
        if let Some(reading) = &*last {
            let age = reading.at.elapsed();
            if age < (reading.took * SPARING).clamp(FRESH, STALE) {
                return Ok(reading.overall.clone());
            }
            if reading.took > SLOW && age < TOLERABLE {
                self.renew();
                return Ok(reading.overall.clone());
            }
        }
        let reading = self.read().await?;
        Ok(last.insert(reading).overall.clone())
    }

    /// Reads it for those who look later.
    fn renew(self: &Arc<Self>) {
        if self.is_renewed.swap(true, Ordering::Relaxed) {
            return;
        }
        let (board, changes) = (self.clone(), self.changes.load(Ordering::Relaxed));
        tokio::spawn(async move {
            match board.read().await {
                Ok(reading) => {
                    let mut last = board.last.lock().await;
                    // What was changed meanwhile is perhaps not in it.
                    if board.changes.load(Ordering::Relaxed) == changes {
                        *last = Some(reading);
                    }
                }
                // Whoever looks when it is too old hears of it.
                Err(error) => tracing::debug!(%error, "failed to look at all subscriptions"),
            }
            board.is_renewed.store(false, Ordering::Relaxed);
        });
    }

    async fn read(&self) -> StoreResult<Reading> {
        let began = Instant::now();
        let subscriptions = self.api.store.subscriptions().await?;
        let topics = self.api.store.topics().await?;
        let ids = subscriptions.iter().map(|status| status.subscriber.short_hash());
        let by_id = ids.enumerate().map(|(index, id)| (id, index)).collect();
        let mut subscribers = HashMap::new();
        for topic in subscriptions.iter().flat_map(|status| &status.subscription.topics) {
            *subscribers.entry(topic.clone()).or_default() += 1;
        }
        let took = began.elapsed();
        let (at_ms, is_old) = (self.api.clock.now_ms(), took > SLOW);
        let overall =
            Arc::new(Overall { subscriptions, topics, by_id, subscribers, at_ms, is_old });
        Ok(Reading { overall, at: began, took })
    }

    /// Something was changed from here: who looks next sees it.
    pub async fn forget(&self) {
        let mut last = self.last.lock().await;
        self.changes.fetch_add(1, Ordering::Relaxed);
        *last = None;
    }
}

impl Overall {
    /// The subscription with this id in an address.
    pub fn subscription(&self, id: &str) -> Option<&SubscriptionStatus> {
        self.subscriptions.get(*self.by_id.get(id)?)
    }

    /// How many subscribe to a topic.
    pub fn subscribers(&self, topic: &TopicName) -> usize {
        self.subscribers.get(topic).copied().unwrap_or(0)
    }
}
