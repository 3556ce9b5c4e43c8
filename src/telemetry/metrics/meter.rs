//! Measures the store: how long its queues are, what went through them, how much room it takes.
//! The one process that has the duty does so for all.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use metrics::{counter, gauge};

use super::labels;
use super::names::{
    CALLS_BYTES, CALLS_DEAD_LETTERS, CALLS_WAITING, EVENTS_ADDED, EVENTS_DEAD_LETTERS,
    EVENTS_REMOVED, HEALTH, JOBS_COUNT, MESSAGES_BYTES, MESSAGES_KEPT, PAUSED, QUEUE_BATCHES,
    QUEUE_EVENTS, QUEUE_STALENESS, REDIS_BYTES_USED, REDIS_CPU_SYS, REDIS_CPU_USER,
    REDIS_HIGH_MARK, REDIS_LOW_MARK, REDIS_MAX_MEM, SCALING_DUE, SCALING_THRESHOLD,
    SQLITE_BYTES_USED, SQLITE_HIGH_MARK, SQLITE_LOW_MARK, SQLITE_MAX_BYTES,
};
use crate::bus::call::CallKind;
use crate::bus::clock::Clock;
use crate::bus::subscription::SubscriptionStatus;
use crate::config::Settings;
use crate::store::Budget;
use crate::store::{CallCounts, Store, StoreResult, Usage, fullest_usage};
use crate::telemetry::throughput::Throughput;

/// Measures the store again and again.
pub struct Meter {
    store: Arc<dyn Store>,
    clock: Clock,
    budget: Budget,
    on_redis: bool,
    scaling_deadline: Duration,
    scaling_threshold: usize,
    throughput: Throughput,
}

/// The queues of the subscribers that have one label.
#[derive(Default)]
struct Queues {
    batches: u64,
    events: u64,
    oldest_ms: Option<u64>,
    health: u8,
    paused: u32,
}

impl Meter {
    pub fn new(settings: &Settings, store: Arc<dyn Store>, clock: Clock) -> Self {
        Self {
            store,
            clock,
            budget: settings.budget(),
            on_redis: settings.redis_url.is_some(),
            scaling_deadline: settings.scaling_deadline,
            scaling_threshold: settings.scaling_threshold,
            throughput: Throughput::default(),
        }
    }

    /// Another process has the duty: what it counts must not be counted here later.
    pub fn forget(&mut self) {
        self.throughput.forget();
    }

    /// Measures once.
    ///
    /// # Errors
    /// If the store cannot be asked.
    pub async fn measure(&mut self) -> StoreResult<()> {
        let statuses = self.store.subscriptions().await?;
        self.count(&statuses);
        let batches = self.set_queues(&statuses);
        let due = self.store.due_batches(Duration::ZERO).await?;
        let job = |queue: &'static str, status: &'static str, count: u64| {
            gauge!(JOBS_COUNT, "queue" => queue, "status" => status).set(count as f64);
        };
        job("main", "instant", due);
        job("main", "scheduled", batches.saturating_sub(due));
        let scaling = self.store.due_batches(self.scaling_deadline).await?;
        gauge!(SCALING_DUE).set(scaling as f64);
        gauge!(SCALING_THRESHOLD).set(self.scaling_threshold as f64);
        let (mut calls, mut messages) = (CallCounts::default(), CallCounts::default());
        for kind in CallKind::ALL {
            let counts = self.store.call_counts(kind).await?;
            let of_queue = if kind == CallKind::Message { &mut messages } else { &mut calls };
            of_queue.waiting += counts.waiting;
            of_queue.dead += counts.dead;
            for (name, count) in [
                (CALLS_WAITING, counts.waiting),
                (CALLS_DEAD_LETTERS, counts.dead),
                (CALLS_BYTES, counts.bytes),
            ] {
                gauge!(name, "kind" => kind.as_str()).set(count as f64);
            }
        }
        for (queue, counts) in [("calls", calls), ("messages", messages)] {
            job(queue, "waiting", counts.waiting);
            job(queue, "dead", counts.dead);
        }
        gauge!(EVENTS_DEAD_LETTERS).set(self.store.dead_event_count().await? as f64);
        let messages = self.store.message_counts().await?;
        gauge!(MESSAGES_KEPT).set(messages.messages as f64);
        gauge!(MESSAGES_BYTES).set(messages.bytes as f64);
        self.set_usage(&fullest_usage(&*self.store).await?);
        Ok(())
    }

    /// Counts what went through the queues since the last time.
    fn count(&mut self, statuses: &[SubscriptionStatus]) {
        for (subscriber, passed) in self.throughput.since(statuses) {
            for (name, grown) in [(EVENTS_ADDED, passed.added), (EVENTS_REMOVED, passed.removed)] {
                let subscriber = labels::of_subscriber(&subscriber);
                counter!(name, "subscriber" => subscriber).increment(grown);
            }
        }
    }

    /// Sets the gauges of the queues; returns how many batches they amount to.
    fn set_queues(&self, statuses: &[SubscriptionStatus]) -> u64 {
        // Several subscribers may have one label: their queues are summed up.
        let mut queues: BTreeMap<Arc<str>, Queues> = BTreeMap::new();
        for status in statuses {
            let health = status.health.points();
            let new = Queues { health, ..Queues::default() };
            let queue = queues.entry(labels::of_subscriber(&status.subscriber)).or_insert(new);
            queue.batches += status.queued.div_ceil(u64::from(status.subscription.terms.max));
            queue.events += status.queued;
            queue.oldest_ms = queue.oldest_ms.into_iter().chain(status.oldest_ms).min();
            queue.health = queue.health.min(health);
            queue.paused += u32::from(status.pause.is_some());
        }
        let now_ms = self.clock.now_ms();
        let mut batches = 0;
        for (label, queue) in queues {
            batches += queue.batches;
            let waited_ms = queue.oldest_ms.map_or(0, |oldest_ms| now_ms.saturating_sub(oldest_ms));
            for (name, value) in [
                (QUEUE_BATCHES, queue.batches as f64),
                (QUEUE_EVENTS, queue.events as f64),
                (QUEUE_STALENESS, waited_ms as f64 / 1000.0),
                (HEALTH, f64::from(queue.health)),
                (PAUSED, f64::from(queue.paused)),
            ] {
                gauge!(name, "subscriber" => label.clone()).set(value);
            }
        }
        batches
    }

    fn set_usage(&self, usage: &Usage) {
        let budget = self.budget.limited_by(usage);
        let [used, max, low, high] = if self.on_redis {
            [REDIS_BYTES_USED, REDIS_MAX_MEM, REDIS_LOW_MARK, REDIS_HIGH_MARK]
        } else {
            [SQLITE_BYTES_USED, SQLITE_MAX_BYTES, SQLITE_LOW_MARK, SQLITE_HIGH_MARK]
        };
        gauge!(used).set(usage.used as f64);
        gauge!(max).set(budget.max as f64);
        gauge!(low).set(budget.low_mark() as f64);
        gauge!(high).set(budget.high_mark() as f64);
        if let Some((user, system)) = usage.cpu {
            gauge!(REDIS_CPU_USER).set(user.as_millis() as f64);
            gauge!(REDIS_CPU_SYS).set(system.as_millis() as f64);
        }
    }
}
