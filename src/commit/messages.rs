//! Messages in groups: those of requests that arrive at the same time share one commit.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;
use tokio_util::task::TaskTracker;

use super::group::{GroupCommit, Groups};
use crate::store::{MessagesAccepted, NewMessageGroup, Store, StoreResult};
use crate::telemetry::metrics::record;
use crate::telemetry::sparing::SparingLine;

/// New messages on their way into the store; those of a request are kept together or not at all.
pub type MessageIntake = GroupCommit<MessageGroups>;

/// Hands new messages to the store.
pub struct MessageGroups {
    store: Arc<dyn Store>,
    /// What all messages may take.
    max_bytes: u64,
}

static FORGOTTEN: SparingLine = SparingLine::new();

impl MessageGroups {
    /// Starts the committers on `tasks`.
    pub fn start(store: Arc<dyn Store>, max_bytes: u64, tasks: &TaskTracker) -> MessageIntake {
        let committers = store.commits_at_once();
        GroupCommit::start(Self { store, max_bytes }, committers, tasks)
    }
}

impl Groups for MessageGroups {
    type Job = NewMessageGroup;
    type Outcome = MessagesAccepted;

    /// A busy store answers 503 within 5 s.
    const ANSWER_TIMEOUT: Duration = Duration::from_millis(4500);
    const JOBS_MAX: usize = 512;
    const ITEMS_MAX: usize = 2_000;
    const BYTES_MAX: usize = 4 * 1024 * 1024;

    fn weight(group: &NewMessageGroup) -> (usize, usize) {
        (group.contents.len(), group.contents.iter().map(bytes::Bytes::len).sum())
    }

    async fn commit(
        &self,
        groups: Vec<NewMessageGroup>,
        give_up: Instant,
    ) -> StoreResult<Vec<MessagesAccepted>> {
        let topics: Vec<_> = groups.iter().map(|group| group.topic.clone()).collect();
        let acceptance = self.store.accept_messages(groups, self.max_bytes, give_up).await?;
        // Counted here: they are kept, whether their client waits or not.
        for (topic, accepted) in topics.iter().zip(&acceptance.groups) {
            if let MessagesAccepted::Kept(messages) = accepted {
                record::messages_accepted(topic, messages.len() as u64);
            }
        }
        let forgotten = acceptance.forgotten;
        if forgotten.messages > 0 {
            record::messages_forgotten(forgotten);
            if let Some(untold) = FORGOTTEN.is_due() {
                tracing::warn!(
                    untold,
                    messages = forgotten.messages,
                    dead_letters = forgotten.dead,
                    "forgot messages before their time: messages have no more room \
                     (ROUTEMASTER_MESSAGES_MAX_BYTES)"
                );
            }
        }
        Ok(acceptance.groups)
    }
}
