//! What a process delivers with: put together from the settings.

use std::sync::Arc;

use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::config::Settings;
use crate::store::Store;
use crate::worker::{BatchSender, BatchWorker, CallWorker, Receivers, Recovery, Reporting, pubsub};

/// What a process delivers with.
#[derive(Clone)]
pub struct Delivering {
    pub batches: Arc<BatchWorker>,
    pub calls: Arc<CallWorker>,
    recovery: Arc<Recovery>,
}

impl Delivering {
    /// How much the settings want done at once.
    pub fn places(settings: &Settings) -> usize {
        settings.max_deliveries + settings.max_calls
    }

    /// What makes so many deliveries and calls at once, each in its share.
    ///
    /// # Errors
    /// If the settings name a file that cannot be used.
    pub fn new(
        settings: &Settings,
        places: usize,
        reporting: Reporting,
        store: &Arc<dyn Store>,
        stop: &CancellationToken,
    ) -> anyhow::Result<Self> {
        let calls = (settings.max_calls * places / Self::places(settings)).max(1);
        let deliveries = places.saturating_sub(calls).max(1);
        let (receivers, pubsub) = (Receivers::new(settings)?, pubsub(settings)?);
        let (store, stop) = (store.clone(), stop.clone());
        let sender = BatchSender::new(
            settings,
            deliveries,
            receivers.clone(),
            pubsub.clone(),
            reporting.clone(),
            stop.clone(),
        );
        Ok(Self {
            batches: BatchWorker::new(store.clone(), sender),
            recovery: Recovery::new(settings, receivers.clone(), store.clone(), stop.clone())
                .into(),
            calls: CallWorker::new(settings, calls, receivers, pubsub, reporting, store, stop),
        })
    }

    /// Begins nothing any more, or again; what is in flight is finished.
    pub fn drain(&self, is_draining: bool) {
        self.batches.drain(is_draining);
        self.calls.drain(is_draining);
    }

    pub fn run(self, parts: &mut JoinSet<anyhow::Result<()>>) {
        parts.spawn(super::always_well(self.batches.run()));
        parts.spawn(super::always_well(self.calls.run()));
        parts.spawn(super::always_well(self.recovery.run()));
    }
}
