//! Publishes in groups: those that arrive at the same time share one commit.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::Instant;
use tokio_util::task::TaskTracker;

use super::group::{GroupCommit, Groups};
use crate::bus::topic::TopicName;
use crate::store::{Publication, Published, Publisher, StoreError, StoreResult};
use crate::telemetry::metrics::record;

/// Publishes on their way into the store.
pub type Publishes = GroupCommit<PublishGroups>;

/// Hands publications to the store.
pub struct PublishGroups {
    publisher: Arc<dyn Publisher>,
    /// Notified when the store has no room left.
    full: Arc<Notify>,
}

impl PublishGroups {
    /// Starts the committers on `tasks`; `full` is notified when the store has no room left.
    pub fn start(
        publisher: Arc<dyn Publisher>,
        full: &Arc<Notify>,
        tasks: &TaskTracker,
    ) -> Publishes {
        let committers = publisher.commits_at_once();
        GroupCommit::start(Self { publisher, full: full.clone() }, committers, tasks)
    }
}

impl Groups for PublishGroups {
    type Job = Publication;
    type Outcome = Published;

    /// A busy store answers 503 within 5 s.
    const ANSWER_TIMEOUT: Duration = Duration::from_millis(4500);
    const JOBS_MAX: usize = 512;
    const ITEMS_MAX: usize = 2_000;
    const BYTES_MAX: usize = 4 * 1024 * 1024;

    fn weight(publication: &Publication) -> (usize, usize) {
        let bytes = publication.items.iter().map(|item| item.len()).sum();
        (publication.items.len(), bytes)
    }

    async fn commit(
        &self,
        publications: Vec<Publication>,
        give_up: Instant,
    ) -> StoreResult<Vec<Published>> {
        let counts: Vec<_> = publications
            .iter()
            .map(|publication| (publication.topic.clone(), publication.items.len()))
            .collect();
        let published = self.publisher.publish(publications, give_up).await;
        match &published {
            // Counted here: the events are stored, whether their publisher waits or not.
            Ok(published) => record_stored(&counts, published),
            Err(StoreError::Full(_)) => self.full.notify_one(),
            Err(_) => {}
        }
        published
    }
}

/// Counts the events that were stored, once for each topic.
fn record_stored(counts: &[(TopicName, usize)], published: &[Published]) {
    let mut stored: HashMap<&TopicName, usize> = HashMap::new();
    for ((topic, events), published) in counts.iter().zip(published) {
        if matches!(published, Published::Stored(_)) {
            *stored.entry(topic).or_default() += events;
        }
    }
    for (topic, events) in stored {
        record::published(topic, events);
    }
}
