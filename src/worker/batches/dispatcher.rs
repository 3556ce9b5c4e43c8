//! Takes batches that are due and sees each through: deliver, settle, take the queue's next one.
//!
//! One task works on one queue at a time, so a subscriber that hangs holds a task, not the worker.
//!
//! Each lane of the store has a dispatcher of its own, so that one which is on its way to another node
//! of a Cluster holds up neither the claims nor the leases of the others.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::sender::BatchSender;
use super::windows::Windows;
use crate::bus::process::PlacesInUse;
use crate::commit::{SettleGroups, Settlements, Settling};
use crate::store::{Alarm, BatchSettled, BatchStore, Lane, LeasedBatch, QueueLease, StoreResult};
use crate::worker::leases::{LEASE, Leases};
use crate::worker::places::Places;
use crate::worker::work::{self, Work};

/// How many queues one look for work leases at most.
const CLAIM_MAX: usize = 32;

/// Delivers from the store's queues until it is stopped.
pub struct BatchWorker {
    store: Arc<dyn BatchStore>,
    sender: Arc<BatchSender>,
}

/// Works off the queues of one lane.
struct Dispatcher {
    worker: Arc<BatchWorker>,
    lane: Lane,
    leases: Arc<Leases<QueueLease>>,
    settlements: Settlements,
}

impl BatchWorker {
    pub fn new(store: Arc<dyn BatchStore>, sender: BatchSender) -> Arc<Self> {
        Arc::new(Self { store, sender: sender.into() })
    }

    /// Works until it is stopped, then waits for the deliveries in flight. The caller bounds
    /// that wait.
    pub async fn run(self: Arc<Self>) {
        work::in_all_lanes(&*self.store, &self.sender.stop, |lane, committers| {
            let settlements = SettleGroups::start(self.store.clone(), lane, LEASE, committers);
            Dispatcher { worker: self.clone(), lane, leases: Arc::default(), settlements }
        })
        .await;
    }

    /// Begins nothing any more, or again; what is in flight is finished.
    pub fn drain(&self, is_draining: bool) {
        self.sender.places.close(is_draining);
    }

    /// How many deliveries are in flight, and may be.
    pub fn deliveries(&self) -> PlacesInUse {
        self.sender.places.in_use()
    }
}

#[async_trait]
impl Work for Dispatcher {
    type Item = LeasedBatch;
    type Lease = QueueLease;

    const CLAIM_MAX: usize = CLAIM_MAX;

    fn leases(&self) -> &Leases<QueueLease> {
        &self.leases
    }

    fn alarm(&self) -> &Alarm {
        self.worker.store.alarm(self.lane)
    }

    fn places(&self) -> &Places {
        &self.worker.sender.places
    }

    fn stop(&self) -> &CancellationToken {
        &self.worker.sender.stop
    }

    async fn claim(&self, limit: usize) -> StoreResult<(Vec<LeasedBatch>, Option<Duration>)> {
        let claim = self.worker.store.claim_queues(self.lane, limit, LEASE).await?;
        Ok((claim.batches, claim.next_due))
    }

    /// Delivers a queue's batches, one after the other, as long as one is due.
    async fn work_off(&self, mut leased: LeasedBatch, mut asked: Instant) {
        loop {
            if leased.options.parallel.is_some() {
                let Self { worker, leases, lane, .. } = self;
                let windows =
                    Windows { store: &worker.store, sender: &worker.sender, leases, lane: *lane };
                return windows.work_off(leased, asked).await;
            }
            let held = self.leases.hold(&leased.lease, asked);
            let delivered = held.unless_lost(self.worker.sender.deliver(&leased, asked)).await;
            let Some(settlement) = delivered else {
                let subscriber = &leased.lease.subscriber;
                tracing::warn!(%subscriber, "broke off a delivery: its lease was lost");
                return;
            };
            self.worker.sender.tell_news(&leased, &settlement);
            // A full batch, as a rule, was not the last one.
            let is_urgent = leased.batch.items.len() >= leased.terms.max as usize;
            let settling = Settling { settlement, is_urgent };
            let (settled, settled_at) = work::settle(&self.settlements, settling).await;
            match settled {
                BatchSettled::Next(next) => leased = *next,
                BatchSettled::Released => return,
                BatchSettled::Stale => {
                    let subscriber = &leased.lease.subscriber;
                    tracing::warn!(%subscriber, "a delivery ended after its lease was lost");
                    return;
                }
            }
            asked = settled_at;
        }
    }
}
