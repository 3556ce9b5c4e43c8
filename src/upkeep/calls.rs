//! Forgets calls that were over long ago.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::portions::Portions;
use crate::store::{CALLS_AT_ONCE, CallMemory, Lane, Store};

/// How long a call that is done is kept, so that one which comes again is known (contract §9).
const DONE_KEPT: Duration = Duration::from_secs(24 * 3600);
/// The pause between two looks.
const INTERVAL: Duration = Duration::from_secs(10);

pub struct OldCalls {
    store: Arc<dyn Store>,
    memory: CallMemory,
    rest_until: Instant,
}

impl OldCalls {
    /// Calls that were given up are kept so long.
    pub fn new(store: Arc<dyn Store>, dead: Duration) -> Self {
        let memory = CallMemory { done: DONE_KEPT, dead };
        Self { store, memory, rest_until: Instant::now() }
    }

    pub async fn forget(&mut self) {
        if Instant::now() < self.rest_until {
            return;
        }
        let forgotten = match self.store.lanes().await {
            Ok(lanes) => self.forget_in(lanes).await,
            Err(error) => Err(error),
        };
        if let Err(error) = forgotten {
            tracing::debug!(%error, "failed to forget old calls; trying again");
        }
        self.rest_until = Instant::now() + INTERVAL;
    }

    async fn forget_in(&self, lanes: usize) -> crate::store::StoreResult<()> {
        for lane in Lane::first(lanes) {
            let mut portions = Portions::begin();
            while self.store.forget_calls(lane, self.memory).await? >= CALLS_AT_ONCE
                && portions.another().await
            {}
        }
        Ok(())
    }
}
