//! What messages need in the background: publishers that begin in the past are given what they lack, what waits for
//! publishers that are gone is discarded, and old messages are forgotten.

use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::bus::clock::Clock;
use crate::config::Cleaning;
use crate::store::{Store, StoreResult};
use crate::telemetry::metrics::record;

/// How long one look takes at most, so that something else has its turn.
const LOOK_MAX: Duration = Duration::from_millis(700);

/// How long messages are kept that wait for nobody, and when older ones are removed.
#[derive(Clone, Debug)]
pub struct MessageMemory {
    pub retention: Duration,
    pub cleaning: Cleaning,
}

pub struct MessageUpkeep {
    store: Arc<dyn Store>,
    memory: MessageMemory,
    clock: Clock,
    /// When old messages are removed next, in milliseconds since the epoch.
    cleaning_ms: Option<u64>,
    /// What came before is to go, while there is such a time.
    forget_before_ms: Option<u64>,
}

impl MessageUpkeep {
    pub fn new(store: Arc<dyn Store>, memory: MessageMemory) -> Self {
        let clock = Clock::system();
        let now_ms = clock.now_ms();
        let mut upkeep = Self {
            cleaning_ms: memory.cleaning.next_after(now_ms),
            store,
            memory,
            clock,
            forget_before_ms: None,
        };
        // What nobody was there to remove.
        let missed = upkeep.memory.cleaning.last_before(now_ms);
        upkeep.forget_before_ms = missed.map(|at_ms| upkeep.kept_since(at_ms));
        upkeep
    }

    fn kept_since(&self, at_ms: u64) -> u64 {
        at_ms.saturating_sub(self.memory.retention.as_millis() as u64)
    }

    pub async fn look(&mut self) {
        let until = Instant::now() + LOOK_MAX;
        let done = async {
            self.catch_up(until).await?;
            self.discard(until).await?;
            self.clean(until).await
        };
        if let Err(error) = done.await {
            tracing::debug!(%error, "failed to look after messages; trying again");
        }
    }

    async fn catch_up(&self, until: Instant) -> StoreResult<()> {
        while Instant::now() < until && self.store.catch_up().await? > 0 {}
        Ok(())
    }

    async fn discard(&self, until: Instant) -> StoreResult<()> {
        let mut discarded = 0;
        while Instant::now() < until {
            let portion = self.store.discard_deliveries().await?;
            if portion == 0 {
                break;
            }
            discarded += portion;
        }
        if discarded > 0 {
            record::messages_discarded(discarded);
            tracing::info!(
                deliveries = discarded,
                "discarded what waited for publishers that are gone"
            );
        }
        Ok(())
    }

    async fn clean(&mut self, until: Instant) -> StoreResult<()> {
        let now_ms = self.clock.now_ms();
        if let Some(at_ms) = self.cleaning_ms.filter(|at_ms| now_ms >= *at_ms) {
            self.forget_before_ms = Some(self.kept_since(at_ms));
            self.cleaning_ms = self.memory.cleaning.next_after(now_ms);
        }
        let Some(before_ms) = self.forget_before_ms else { return Ok(()) };
        let mut messages = 0;
        while Instant::now() < until {
            let asked = Instant::now();
            let forgotten = self.store.forget_messages(before_ms).await?;
            if forgotten.messages == 0 {
                self.forget_before_ms = None;
                break;
            }
            messages += forgotten.messages;
            // Half of the time is for clients and workers.
            tokio::time::sleep(asked.elapsed()).await;
        }
        if messages > 0 {
            tracing::info!(messages, "removed old messages");
        }
        Ok(())
    }
}
