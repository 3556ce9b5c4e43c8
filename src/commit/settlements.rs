//! Settlements in groups: deliveries that end at the same time are recorded by one commit.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;
use tokio_util::task::TaskTracker;

use super::group::{GroupCommit, Groups};
use crate::store::{BatchSettled, BatchSettlement, Lane, Queues, StoreResult};

/// Settlements of one lane's batches on their way into the store.
pub type Settlements = GroupCommit<SettleGroups>;

/// How a delivery ended, on its way into the store.
#[derive(Clone, Debug)]
pub struct Settling {
    pub settlement: BatchSettlement,
    /// Whether more is likely to wait in the queue, whose next batch comes with the answer.
    pub is_urgent: bool,
}

/// Hands settlements to the store.
pub struct SettleGroups {
    queues: Arc<dyn Queues>,
    lane: Lane,
    /// How long the lease of a next batch holds.
    lease: Duration,
}

/// How many groups are under way at once in a lane: one is recorded while another one is answered.
const COMMITTERS: usize = 2;

impl SettleGroups {
    /// Starts the committers on `tasks`.
    pub fn start(
        queues: Arc<dyn Queues>,
        lane: Lane,
        lease: Duration,
        tasks: &TaskTracker,
    ) -> Settlements {
        GroupCommit::start(Self { queues, lane, lease }, COMMITTERS, tasks)
    }
}

impl Groups for SettleGroups {
    type Job = Settling;
    type Outcome = BatchSettled;

    const ANSWER_TIMEOUT: Duration = Duration::from_millis(4500);
    const JOBS_MAX: usize = 128;
    const ITEMS_MAX: usize = usize::MAX;
    const BYTES_MAX: usize = usize::MAX;
    /// Of many small deliveries, some end within this time; it is also how much later the queue of one of
    /// them can be due again.
    const LINGER: Duration = Duration::from_millis(5);

    fn weight(_: &Settling) -> (usize, usize) {
        (1, 0)
    }

    fn is_urgent(settling: &Settling) -> bool {
        settling.is_urgent
    }

    async fn commit(
        &self,
        settling: Vec<Settling>,
        _give_up: Instant,
    ) -> StoreResult<Vec<BatchSettled>> {
        let settlements = settling.into_iter().map(|settling| settling.settlement).collect();
        self.queues.settle_batches(self.lane, settlements, self.lease).await
    }
}
