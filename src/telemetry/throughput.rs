//! What went through the queues since they were last looked at.

use std::collections::HashMap;

use crate::bus::subscription::SubscriptionStatus;
use crate::bus::token::ClientToken;

/// What had gone through each queue when it was last looked at; `None` before the first time: what happened before
/// was counted by another process.
#[derive(Default)]
pub struct Throughput(Option<HashMap<ClientToken, Passed>>);

/// Events that went through a queue.
#[derive(Clone, Copy, Default)]
pub struct Passed {
    /// Those that were put into it.
    pub added: u64,
    /// Those that its subscriber acknowledged.
    pub removed: u64,
}

impl From<&SubscriptionStatus> for Passed {
    fn from(status: &SubscriptionStatus) -> Self {
        let SubscriptionStatus { sent, queued, autodropped, expired, .. } = *status;
        Self { added: sent + queued + autodropped + expired, removed: sent }
    }
}

impl Throughput {
    /// Another process looks at the queues: what it counts must not be counted here later.
    pub fn forget(&mut self) {
        self.0 = None;
    }

    /// What went through each queue since the last time.
    pub fn since(&mut self, statuses: &[SubscriptionStatus]) -> Vec<(ClientToken, Passed)> {
        let now: HashMap<ClientToken, Passed> =
            statuses.iter().map(|status| (status.subscriber.clone(), status.into())).collect();
        let grown = self.0.as_ref().map(|seen| {
            let grown = now.iter().map(|(subscriber, now)| {
                let before = seen.get(subscriber).copied().unwrap_or_default();
                // A subscriber that left and came back has a new queue, which began at 0.
                let before = if now.added < before.added { Passed::default() } else { before };
                let passed = Passed {
                    added: now.added.saturating_sub(before.added),
                    removed: now.removed.saturating_sub(before.removed),
                };
                (subscriber.clone(), passed)
            });
            grown.collect()
        });
        self.0 = Some(now);
        grown.unwrap_or_default()
    }
}
