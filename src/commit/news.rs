//! Publishes the bus's own news, where anybody has subscribed to them. Nobody waits for that.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::Instant;
use tokio_util::task::TaskTracker;
use url::Url;

use crate::bus::clock::Clock;
use crate::bus::news::News;
use crate::bus::token::{ClientToken, NEWS_CLIENT};
use crate::bus::topic::{NEWS_TOPIC, TopicName};
use crate::store::{Publication, Store, StoreResult};

/// How many wait at most; further ones are not told.
const WAITING_MAX: usize = 256;
/// How long the same about the same is not told again.
const SILENCE: Duration = Duration::from_secs(60);
/// Of how many it is known when they were told of.
const SUBJECTS_MAX: usize = 10_000;
/// How often it is looked for what may be told again, if there are too many.
const CLEAR_INTERVAL: Duration = Duration::from_secs(5);
/// How long is believed that nobody, or somebody, has subscribed.
const BELIEVED: Duration = Duration::from_secs(2);
/// How long the store may take.
const TIMEOUT: Duration = Duration::from_secs(4);

/// A handle to whom news are told; cheap to clone.
#[derive(Clone)]
pub struct NewsDesk {
    sender: mpsc::Sender<News>,
    told: Arc<Mutex<Told>>,
}

/// When it was told of what.
#[derive(Default)]
struct Told {
    subjects: HashMap<(&'static str, String), Instant>,
    /// When it was last looked for what may be told again.
    cleared: Option<Instant>,
}

impl NewsDesk {
    /// Starts publishing on `tasks`, until the last handle is dropped. `base` is where people reach the bus.
    pub fn start(store: Arc<dyn Store>, base: Url, tasks: &TaskTracker) -> Self {
        let (sender, mut waiting) = mpsc::channel(WAITING_MAX);
        let mut publisher = NewsPublisher { store, base, clock: Clock::system(), is_wanted: None };
        tasks.spawn(async move {
            while let Some(news) = waiting.recv().await {
                if let Err(error) = publisher.publish(&news).await {
                    tracing::debug!(%error, "failed to publish news");
                }
            }
        });
        Self { sender, told: Arc::default() }
    }

    /// One whose news nobody reads.
    #[cfg(test)]
    pub fn unread() -> Self {
        Self { sender: mpsc::channel(1).0, told: Arc::default() }
    }

    /// Publishes something, unless the same was told of the same not long ago.
    pub fn tell(&self, news: News) {
        if self.is_new(&news) && self.sender.try_send(news).is_err() {
            tracing::debug!("news were not published: too many wait");
        }
    }

    fn is_new(&self, news: &News) -> bool {
        let now = Instant::now();
        let is_within = |at: Instant, time| now.saturating_duration_since(at) < time;
        let (what, about) = news.subject();
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        let was_cleared = told.cleared.is_some_and(|at| is_within(at, CLEAR_INTERVAL));
        if told.subjects.len() >= SUBJECTS_MAX && !was_cleared {
            told.cleared = Some(now);
            told.subjects.retain(|_, at| is_within(*at, SILENCE));
        }
        let subject = (what, about.to_owned());
        if told.subjects.get(&subject).is_some_and(|at| is_within(*at, SILENCE))
            || told.subjects.len() >= SUBJECTS_MAX
        {
            return false;
        }
        told.subjects.insert(subject, now);
        true
    }
}

struct NewsPublisher {
    store: Arc<dyn Store>,
    base: Url,
    clock: Clock,
    /// Whether the topic is there, and when that was asked: it is made by whoever subscribes first.
    is_wanted: Option<(Instant, bool)>,
}

impl NewsPublisher {
    async fn publish(&mut self, news: &News) -> StoreResult<()> {
        if !self.is_wanted().await? {
            return Ok(());
        }
        let publication = Publication {
            topic: TopicName::from_stored(NEWS_TOPIC),
            publisher: ClientToken::from_stored(NEWS_CLIENT),
            items: vec![news.to_item(&self.base, self.clock.now_ms())],
            key: None,
        };
        self.store.publish(vec![publication], Instant::now() + TIMEOUT).await.map(drop)
    }

    async fn is_wanted(&mut self) -> StoreResult<bool> {
        if let Some((asked, is_wanted)) = self.is_wanted
            && asked.elapsed() < BELIEVED
        {
            return Ok(is_wanted);
        }
        let topics = self.store.topics().await?;
        let is_wanted = topics.iter().any(|topic| topic.name.as_str() == NEWS_TOPIC);
        self.is_wanted = Some((Instant::now(), is_wanted));
        Ok(is_wanted)
    }
}
