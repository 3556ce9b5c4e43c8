//! What is known of all subscriptions and topics: looked at from time to time, for all who watch.
//!
//! A list that puts what is in trouble first must know all of it. So it is read as a whole, and kept for as long as keeps
//! the cost of reading it small: a console that is open must not be felt by the bus.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Mutex;
use tokio::time::Instant;

use crate::api::state::Shared;
use crate::bus::subscription::SubscriptionStatus;
use crate::bus::tally::Subject;
use crate::bus::token::ClientToken;
use crate::bus::topic::Topic;
use crate::store::StoreResult;

/// For how long at least what was read is good enough.
const FRESH: Duration = Duration::from_secs(1);
/// How many times longer than reading it took.
const SPARING: u32 = 200;
/// And for how long at most.
const STALE: Duration = Duration::from_secs(30);

pub struct Board {
    api: Shared,
    read: Mutex<Option<(Instant, Arc<Overall>)>>,
}

/// All subscriptions and topics, as they were some time ago.
pub struct Overall {
    pub subscriptions: Vec<SubscriptionStatus>,
    pub topics: Vec<Topic>,
    by_id: HashMap<String, usize>,
}

impl Board {
    pub fn new(api: Shared) -> Self {
        Self { api, read: Mutex::new(None) }
    }

    /// # Errors
    /// If the store cannot be asked.
    pub async fn look(&self) -> StoreResult<Arc<Overall>> {
        // Those who come meanwhile wait for the same answer.
        let mut read = self.read.lock().await;
        if let Some((good_until, overall)) = &*read
            && Instant::now() < *good_until
        {
            return Ok(overall.clone());
        }
        let began = Instant::now();
        let subscriptions = self.api.store.subscriptions().await?;
        let topics = self.api.store.topics().await?;
        let ids = subscriptions.iter().map(|status| id_of(&status.subscriber));
        let by_id = ids.enumerate().map(|(index, id)| (id, index)).collect();
        let overall = Arc::new(Overall { subscriptions, topics, by_id });
        let now = Instant::now();
        let good = ((now - began) * SPARING).clamp(FRESH, STALE);
        *read = Some((now + good, overall.clone()));
        Ok(overall)
    }

    /// Something was changed from here: who looks next sees it.
    pub async fn forget(&self) {
        *self.read.lock().await = None;
    }
}

impl Overall {
    /// The subscription with this id in an address.
    pub fn subscription(&self, id: &str) -> Option<&SubscriptionStatus> {
        self.subscriptions.get(*self.by_id.get(id)?)
    }
}

/// What a client is called in an address: a hash, because addresses stand in logs and histories.
pub fn id_of(client: &ClientToken) -> String {
    let name = Subject::Subscription(client.clone()).name();
    name.split_once(' ').map_or_else(String::new, |(_, hash)| hash.to_owned())
}
