//! Forgets events that became dead letters long ago or take too much room, and what names publications that were
//! stored once.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::portions::Portions;
use crate::store::{DEAD_EVENTS_AT_ONCE, DeadBounds, ForgottenDead, Lane, Store, StoreResult};

/// The pause between two looks.
const INTERVAL: Duration = Duration::from_secs(10);

pub struct OldDeadEvents {
    store: Arc<dyn Store>,
    bounds: DeadBounds,
    rest_until: Instant,
}

impl OldDeadEvents {
    pub fn new(store: Arc<dyn Store>, bounds: DeadBounds) -> Self {
        Self { store, bounds, rest_until: Instant::now() }
    }

    pub async fn forget(&mut self) {
        if Instant::now() < self.rest_until {
            return;
        }
        match self.forget_all().await {
            Ok(for_room) if for_room > 0 => tracing::warn!(
                events = for_room,
                "forgot dead letters, the oldest first: they took more than ROUTEMASTER_DEAD_EVENTS_MAX_BYTES"
            ),
            Ok(_) => {}
            Err(error) => tracing::debug!(%error, "failed to forget dead letters; trying again"),
        }
        self.rest_until = Instant::now() + INTERVAL;
    }

    /// How many went for want of room.
    async fn forget_all(&self) -> StoreResult<u64> {
        self.store.forget_publish_keys().await?;
        let lanes = self.store.lanes().await?;
        let bounds = DeadBounds { max_bytes: self.bounds.max_bytes / lanes as u64, ..self.bounds };
        let mut all_for_room = 0;
        for lane in Lane::first(lanes) {
            let mut portions = Portions::begin();
            loop {
                let ForgottenDead { old, for_room } =
                    self.store.forget_dead_events(lane, bounds).await?;
                all_for_room += for_room;
                if old.max(for_room) < DEAD_EVENTS_AT_ONCE as u64 || !portions.another().await {
                    break;
                }
            }
        }
        Ok(all_for_room)
    }
}
