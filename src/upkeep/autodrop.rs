//! Autodrop (contract §6): when the store runs out of room, the oldest events of all queues go,
//! so that the bus can take new ones.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::Budget;
use crate::store::{Drops, Store, StoreResult, Usage};
use crate::telemetry::metrics::record;

/// A moment's peak, such as answers on their way to workers, is no reason to drop anything: the
/// store must be short of room twice in a row, this far apart.
const CONFIRM: Duration = Duration::from_millis(200);
/// The pause between two steps, which leaves the store to publishers and workers.
const PAUSE: Duration = Duration::from_millis(5);
/// How many subscribers the log names.
const NAMED_MAX: usize = 20;

pub struct Autodrop {
    store: Arc<dyn Store>,
    budget: Budget,
    /// Whether the store was short of room with nothing left to drop, when it was last looked at.
    was_stuck: bool,
}

/// What one run did, or would do.
#[derive(Debug)]
pub struct Run {
    pub budget: Budget,
    pub before: Usage,
    pub after: Usage,
    pub drops: Drops,
    /// Whether there was enough to drop.
    pub enough: bool,
}

impl Autodrop {
    pub fn new(store: Arc<dyn Store>, budget: Budget) -> Self {
        Self { store, budget, was_stuck: false }
    }

    /// Makes room if there is too little. With `at_once`, without a second look: the store has
    /// refused something already.
    pub async fn look(&mut self, at_once: bool) {
        let run = async {
            if !at_once && self.is_short().await? {
                tokio::time::sleep(CONFIRM).await;
            }
            if self.is_short().await? { self.run().await.map(Some) } else { Ok(None) }
        };
        let started = Instant::now();
        match run.await {
            Ok(Some(run)) => self.report(&run, started.elapsed()),
            Ok(None) => self.was_stuck = false,
            Err(error) => tracing::warn!(%error, "autodrop failed; trying again"),
        }
    }

    async fn is_short(&self) -> StoreResult<bool> {
        let usage = self.store.usage().await?;
        Ok(self.budget.limited_by(&usage).is_exceeded_by(&usage))
    }

    /// Drops the oldest events until twice the threshold is free, if less than the threshold is.
    pub async fn run(&self) -> StoreResult<Run> {
        let mut run = self.begin().await?;
        while run.is_needed() {
            let drops = self.store.drop_oldest(run.budget.excess(&run.after)).await?;
            record::dropped(&drops, true);
            run.enough = !drops.is_empty();
            run.drops.add_all(&drops);
            tokio::time::sleep(PAUSE).await;
            run.after = self.store.usage().await?;
        }
        Ok(run)
    }

    /// What [`Autodrop::run`] would drop, about: how much room an event takes is estimated.
    pub async fn preview(&self) -> StoreResult<Run> {
        let mut run = self.begin().await?;
        while run.is_needed() {
            let excess = run.budget.excess(&run.after);
            let drops = self.store.preview_drop(excess, &run.drops).await?;
            run.enough = !drops.is_empty();
            run.drops.add_all(&drops);
            run.after.used = run.before.used.saturating_sub(run.drops.total().bytes);
        }
        Ok(run)
    }

    async fn begin(&self) -> StoreResult<Run> {
        let before = self.store.usage().await?;
        let budget = self.budget.limited_by(&before);
        Ok(Run { budget, before, after: before, drops: Drops::default(), enough: true })
    }

    /// Logs what a run did: once with totals.
    fn report(&mut self, run: &Run, took: Duration) {
        let total = run.drops.total();
        if total.items > 0 {
            tracing::warn!(
                events = total.items,
                subscribers = run.drops.iter().len(),
                by_subscriber = by_subscriber(&run.drops),
                bytes_used_before = run.before.used,
                bytes_used = run.after.used,
                bytes_max = run.budget.max,
                took_ms = took.as_millis() as u64,
                "autodrop: the store ran out of room; dropped the oldest events"
            );
        }
        let is_stuck = !run.enough;
        if is_stuck && !self.was_stuck {
            tracing::error!(
                bytes_used = run.after.used,
                bytes_max = run.budget.max,
                "autodrop: the store is out of room, and no queue has anything left to drop"
            );
        }
        self.was_stuck = is_stuck;
    }
}

impl Run {
    /// Whether more is to go: it began over the high mark, and ends at the low one.
    fn is_needed(&self) -> bool {
        self.enough
            && self.budget.is_exceeded_by(&self.before)
            && self.budget.excess(&self.after) > 0
    }
}

/// Who lost how many events, the most first.
pub fn by_subscriber(drops: &Drops) -> String {
    let mut rows: Vec<_> = drops.iter().collect();
    rows.sort_by_key(|(_, dropped)| std::cmp::Reverse(dropped.items));
    let named = rows.iter().take(NAMED_MAX);
    let mut parts: Vec<_> =
        named.map(|(subscriber, dropped)| format!("{subscriber} {}", dropped.items)).collect();
    if rows.len() > NAMED_MAX {
        parts.push(format!("and {} more", rows.len() - NAMED_MAX));
    }
    parts.join(", ")
}
