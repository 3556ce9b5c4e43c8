//! Takes what is due: calls, each by itself, and messages, of which one request may carry several. Each is a task of its
//! own, many at a time.
//!
//! The store bounds how many go to one destination at once, so that one which hangs holds few places. Each
//! lane has a dispatcher of its own, as for batches.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use futures_util::future::join_all;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::maker::CallMaker;
use crate::bus::process::PlacesInUse;
use crate::commit::{CallSettleGroups, CallSettlements};
use crate::config::Settings;
use crate::egress::google::pubsub::PubSub;
use crate::store::{
    Alarm, CallLease, CallOutcome, CallSettled, CallSettlement, DestinationLimits, Lane, Store,
    StoreResult,
};
use crate::worker::client_secrets::ClientSecrets;
use crate::worker::contents::Contents;
use crate::worker::leases::{LEASE, Leases};
use crate::worker::messages::{Forwarder, Parcel, parcels};
use crate::worker::pause::until_stopped;
use crate::worker::places::Places;
use crate::worker::receivers::Receivers;
use crate::worker::reporting::Reporting;
use crate::worker::work::{self, Work};

/// How many calls one look for work leases at most.
const CLAIM_MAX: usize = 128;

/// Makes calls and forwards messages until it is stopped.
pub struct CallWorker {
    store: Arc<dyn Store>,
    maker: CallMaker,
    forwarder: Forwarder,
    limits: DestinationLimits,
    places: Places,
    contents: Contents,
    stop: CancellationToken,
}

/// Works off the calls of one lane.
struct Dispatcher {
    worker: Arc<CallWorker>,
    lane: Lane,
    leases: Arc<Leases<CallLease>>,
    settlements: CallSettlements,
}

impl CallWorker {
    /// One that makes so many calls at once.
    pub fn new(
        settings: &Settings,
        max_calls: usize,
        receivers: Receivers,
        pubsub: Arc<PubSub>,
        reporting: Reporting,
        store: Arc<dyn Store>,
        stop: CancellationToken,
    ) -> Arc<Self> {
        let forwarder =
            Forwarder::new(settings, receivers.clone(), pubsub, reporting.attempts.clone(), &store);
        let secrets = ClientSecrets::new(store.clone());
        Arc::new(Self {
            store,
            maker: CallMaker::new(settings, receivers, reporting, secrets),
            forwarder,
            limits: settings.destination_limits(),
            places: Places::new(max_calls),
            contents: Contents::default(),
            stop,
        })
    }

    /// Works until it is stopped, then waits for the calls on their way. The caller bounds that wait.
    pub async fn run(self: Arc<Self>) {
        work::in_all_lanes(&*self.store, &self.stop, |lane, committers| {
            let settlements = CallSettleGroups::start(self.store.clone(), lane, committers);
            Dispatcher { worker: self.clone(), lane, leases: Arc::default(), settlements }
        })
        .await;
    }

    /// Begins nothing any more, or again; what is on its way is finished.
    pub fn drain(&self, is_draining: bool) {
        self.places.close(is_draining);
    }

    /// How many calls are on their way, and may be.
    pub fn calls(&self) -> PlacesInUse {
        self.places.in_use()
    }

    /// Makes what the store was asked for at `asked`.
    async fn make(&self, parcel: &Parcel, asked: Instant) -> Vec<CallSettlement> {
        if self.stop.is_cancelled() {
            let returned = |call| CallSettlement::new(call, CallOutcome::Returned);
            return parcel.calls().iter().map(returned).collect();
        }
        match parcel {
            Parcel::Call(call) => vec![self.maker.make(call, asked).await],
            Parcel::Messages { publisher, deliveries } => {
                self.forwarder.forward(publisher, deliveries, asked).await
            }
        }
    }
}

#[async_trait]
impl Work for Dispatcher {
    type Item = Parcel;
    type Lease = CallLease;

    const CLAIM_MAX: usize = CLAIM_MAX;

    fn leases(&self) -> &Leases<CallLease> {
        &self.leases
    }

    fn alarm(&self) -> &Alarm {
        self.worker.store.call_alarm(self.lane)
    }

    fn places(&self) -> &Places {
        &self.worker.places
    }

    fn stop(&self) -> &CancellationToken {
        &self.worker.stop
    }

    async fn claim(&self, limit: usize) -> StoreResult<(Vec<Parcel>, Option<Duration>)> {
        let CallWorker { store, limits, contents, stop, .. } = &*self.worker;
        if until_stopped(stop, contents.room()).await.is_none() {
            return Ok((Vec::new(), None));
        }
        let claim = store.claim_calls(self.lane, limit, *limits, LEASE).await?;
        Ok((parcels(claim.calls), claim.next_due))
    }

    async fn work_off(&self, parcel: Parcel, asked: Instant) {
        let bytes = parcel.calls().iter().map(|call| call.content.len()).sum();
        let _contents = self.worker.contents.hold(bytes);
        let held: Vec<_> =
            parcel.calls().iter().map(|call| self.leases.hold(&call.lease, asked)).collect();
        let lost = async {
            // A parcel goes out as a whole, and so it is broken off as a whole.
            futures_util::future::select_all(held.iter().map(|held| Box::pin(held.lost()))).await;
        };
        let settlements = tokio::select! {
            settlements = self.worker.make(&parcel, asked) => settlements,
            () = lost => {
                let id = parcel.calls()[0].lease.key.id.as_str();
                tracing::warn!(id, calls = parcel.calls().len(), "broke off a call: its lease was lost");
                return;
            }
        };
        let settle = |settlement: CallSettlement| async {
            let id = settlement.lease.key.id.clone();
            let (settled, _) = work::settle(&self.settlements, settlement).await;
            if settled == CallSettled::Stale {
                tracing::warn!(id = id.as_str(), "a call ended after its lease was lost");
            }
        };
        join_all(settlements.into_iter().map(settle)).await;
    }
}
