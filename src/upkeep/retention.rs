//! Drops what subscribers do not want any more: events past their `retention`, or more of them
//! than `max_queued`.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::portions::Portions;
use crate::store::{DROP_STEP, Drops, Lane, Store};
use crate::telemetry::metrics::record;

/// How often the log tells what was dropped: it is what subscribers asked for.
const REPORT_INTERVAL: Duration = Duration::from_secs(60);
/// How many times as long as a look takes there is none.
const REST: u32 = 10;

pub struct Retention {
    store: Arc<dyn Store>,
    /// What was dropped and not yet told.
    dropped: Drops,
    told: Instant,
    /// With very many subscribers a look takes its time, and happens less often.
    rest_until: Instant,
}

impl Retention {
    pub fn new(store: Arc<dyn Store>) -> Self {
        Self { store, dropped: Drops::default(), told: Instant::now(), rest_until: Instant::now() }
    }

    pub async fn enforce(&mut self, stop: &CancellationToken) {
        let started = Instant::now();
        if started < self.rest_until {
            return;
        }
        match self.store.lanes().await {
            Ok(lanes) => {
                for lane in Lane::first(lanes) {
                    self.enforce_in(lane, stop).await;
                }
            }
            Err(error) => tracing::debug!(%error, "failed to drop expired events; trying again"),
        }
        self.rest_until = Instant::now() + started.elapsed() * REST;
        if self.told.elapsed() >= REPORT_INTERVAL {
            self.report();
        }
    }

    async fn enforce_in(&mut self, lane: Lane, stop: &CancellationToken) {
        let mut portions = Portions::begin();
        while !stop.is_cancelled() {
            match self.store.drop_expired(lane).await {
                Ok(drops) => {
                    record::expired(&drops);
                    self.dropped.add_all(&drops);
                    if drops.total().items < DROP_STEP as u64 || !portions.another().await {
                        break;
                    }
                }
                Err(error) => {
                    tracing::debug!(%error, "failed to drop expired events; trying again");
                    break;
                }
            }
        }
    }

    /// Tells what was dropped since it was last told.
    pub fn report(&mut self) {
        let drops = std::mem::take(&mut self.dropped);
        self.told = Instant::now();
        if !drops.is_empty() {
            tracing::info!(
                events = drops.total().items,
                subscribers = drops.iter().len(),
                by_subscriber = %drops,
                "dropped events as their subscribers' retention asks for"
            );
        }
    }
}
