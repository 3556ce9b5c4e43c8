//! Calls in groups: those that arrive at the same time share one commit, and those that end too.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;
use tokio_util::task::TaskTracker;

use super::group::{GroupCommit, Groups};
use crate::store::{Accepted, CallSettled, CallSettlement, Lane, NewCall, Store, StoreResult};
use crate::telemetry::metrics::record;

/// New calls on their way into the store, in groups of which each is kept as a whole or not at all.
pub type CallAcceptance = GroupCommit<AcceptGroups>;

/// Hands new calls to the store.
pub struct AcceptGroups {
    store: Arc<dyn Store>,
    /// What all calls may take.
    max_bytes: u64,
}

impl AcceptGroups {
    /// Starts the committers on `tasks`.
    pub fn start(store: Arc<dyn Store>, max_bytes: u64, tasks: &TaskTracker) -> CallAcceptance {
        let committers = store.commits_at_once();
        GroupCommit::start(Self { store, max_bytes }, committers, tasks)
    }
}

impl Groups for AcceptGroups {
    type Job = Vec<NewCall>;
    type Outcome = Vec<Accepted>;

    /// A busy store answers 503 within 5 s.
    const ANSWER_TIMEOUT: Duration = Duration::from_millis(4500);
    const JOBS_MAX: usize = 512;
    const ITEMS_MAX: usize = 2_000;
    const BYTES_MAX: usize = 4 * 1024 * 1024;

    fn weight(calls: &Vec<NewCall>) -> (usize, usize) {
        let bytes = |call: &NewCall| call.content.len() + call.title.as_str().len();
        (calls.len(), calls.iter().map(bytes).sum())
    }

    async fn commit(
        &self,
        groups: Vec<Vec<NewCall>>,
        give_up: Instant,
    ) -> StoreResult<Vec<Vec<Accepted>>> {
        let kinds: Vec<Vec<_>> =
            groups.iter().map(|calls| calls.iter().map(|call| call.kind).collect()).collect();
        let acceptance = self.store.accept_calls(groups, self.max_bytes, give_up).await?;
        // Counted here: they are kept, whether their client waits or not.
        for (kinds, accepted) in kinds.iter().zip(&acceptance.groups) {
            if !accepted.contains(&Accepted::Conflict) {
                let stored = kinds.iter().zip(accepted).filter(|(_, a)| **a == Accepted::Stored);
                stored.for_each(|(kind, _)| record::call_accepted(*kind));
            }
        }
        if acceptance.dead_dropped > 0 {
            record::calls_dropped(acceptance.dead_dropped);
            tracing::warn!(
                calls = acceptance.dead_dropped,
                "forgot dead calls before their time: calls have no more room \
                 (ROUTEMASTER_CALLS_MAX_BYTES)"
            );
        }
        Ok(acceptance.groups)
    }
}

/// Outcomes of one lane's calls on their way into the store.
pub type CallSettlements = GroupCommit<CallSettleGroups>;

/// Hands outcomes of calls to the store.
pub struct CallSettleGroups {
    calls: Arc<dyn Store>,
    lane: Lane,
}

/// How many groups are under way at once in a lane: one is recorded while another one is answered.
const COMMITTERS: usize = 2;

impl CallSettleGroups {
    /// Starts the committers on `tasks`.
    pub fn start(calls: Arc<dyn Store>, lane: Lane, tasks: &TaskTracker) -> CallSettlements {
        GroupCommit::start(Self { calls, lane }, COMMITTERS, tasks)
    }
}

impl Groups for CallSettleGroups {
    type Job = CallSettlement;
    type Outcome = CallSettled;

    const ANSWER_TIMEOUT: Duration = Duration::from_millis(4500);
    const JOBS_MAX: usize = 256;
    const ITEMS_MAX: usize = usize::MAX;
    const BYTES_MAX: usize = usize::MAX;

    fn weight(_: &CallSettlement) -> (usize, usize) {
        (1, 0)
    }

    async fn commit(
        &self,
        settlements: Vec<CallSettlement>,
        _give_up: Instant,
    ) -> StoreResult<Vec<CallSettled>> {
        self.calls.settle_calls(self.lane, settlements).await
    }
}
