//! Simulated subscribers: what they do with batches, and what they saw.

use std::ops::Range;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use http::StatusCode;
use tokio::time::Instant;

use super::machines::Machine;
use super::model::{Model, subscriber_of};
use super::{BATCH_TIMEOUT, Setting};
use crate::bus::position::EventPosition;
use crate::store::LeasedBatch;
use crate::worker::batches::courier::{Answer, Courier, DeliveryError};

/// What a worker's machine takes for a delivery (docs/scale.md).
const DELIVERY: Duration = Duration::from_micros(78);
/// In what time a subscriber answers.
const ANSWER: Duration = Duration::from_millis(5);
/// After what time one that hangs is given up: the default of `ROUTEMASTER_TIMEOUT`.
pub const HANGS: Duration = Duration::from_secs(20);

/// All subscribers.
pub struct Receivers {
    setting: Setting,
    model: Arc<Model>,
    each: Vec<Receiver>,
    start: Instant,
    /// Of each event that came to one that answers.
    arrivals: Mutex<Vec<Arrival>>,
    deliveries: AtomicU64,
    again: AtomicU64,
    overlaps: AtomicU64,
}

#[derive(Default)]
struct Receiver {
    /// The last event that it has had, in the order of its queue.
    last: AtomicU64,
    /// Whether a delivery is on its way to it.
    is_busy: AtomicBool,
}

/// When an event was due, as a time since the start, and how late it came.
struct Arrival {
    due: Duration,
    late: Duration,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Manners {
    Answers,
    Refuses,
    Hangs,
}

/// What they saw.
pub struct Seen {
    arrivals: Vec<Arrival>,
    pub deliveries: u64,
    /// Events that came once more.
    pub again: u64,
    /// Events that wait for those that answer, and were due.
    pub overdue: usize,
    pub published: usize,
    /// Events that came or wait, each once.
    pub accounted: usize,
    /// How often two deliveries were on their way to one of them.
    pub overlaps: u64,
}

/// How late events came, in milliseconds.
#[derive(Clone, Copy, Debug)]
pub struct LateMs {
    pub median: u64,
    pub p99: u64,
    pub max: u64,
}

impl Receivers {
    pub fn new(setting: Setting, model: &Arc<Model>) -> Self {
        Self {
            setting,
            model: model.clone(),
            each: (0..setting.subscribers).map(|_| Receiver::default()).collect(),
            start: Instant::now(),
            arrivals: Mutex::default(),
            deliveries: AtomicU64::new(0),
            again: AtomicU64::new(0),
            overlaps: AtomicU64::new(0),
        }
    }

    /// What came until now. What waits for those that answer counts as if it came now.
    pub fn seen(&self) -> Seen {
        let mut arrivals = std::mem::take(&mut *self.arrivals.lock().unwrap());
        let (mut overdue, mut accounted) = (0, arrivals.len());
        for (subscriber, position) in self.model.waiting() {
            // Otherwise it has come, and its delivery is not settled yet.
            if self.each[subscriber].last.load(Ordering::Relaxed) < position.number() {
                accounted += 1;
            } else {
                continue;
            }
            let due = self.due(position);
            if self.manners(subscriber) == Manners::Answers && due < Instant::now() {
                overdue += 1;
                arrivals.push(Arrival { due: due - self.start, late: due.elapsed() });
            }
        }
        Seen {
            arrivals,
            deliveries: self.deliveries.load(Ordering::Relaxed),
            again: self.again.load(Ordering::Relaxed),
            overdue,
            published: self.model.published(),
            accounted,
            overlaps: self.overlaps.load(Ordering::Relaxed),
        }
    }

    fn due(&self, position: EventPosition) -> Instant {
        self.model.published_at(position) + BATCH_TIMEOUT
    }

    fn manners(&self, receiver: usize) -> Manners {
        let Setting { hanging, refusing, outage, .. } = self.setting;
        if outage.is_some_and(|(from, to)| (from..to).contains(&self.start.elapsed().as_secs())) {
            return Manners::Hangs;
        }
        match receiver % 1000 {
            place if place < hanging => Manners::Hangs,
            place if place < hanging + refusing => Manners::Refuses,
            _ => Manners::Answers,
        }
    }

    /// Has a batch, and answers.
    async fn receive(&self, leased: &LeasedBatch) -> Manners {
        let index = subscriber_of(&leased.lease.subscriber);
        let busy = Busy::with(&self.each[index].is_busy);
        if busy.was_busy {
            self.overlaps.fetch_add(1, Ordering::Relaxed);
        }
        let manners = self.manners(index);
        match manners {
            Manners::Answers => self.arrived(leased, &self.each[index].last),
            Manners::Refuses => {}
            Manners::Hangs => tokio::time::sleep(HANGS - ANSWER).await,
        }
        tokio::time::sleep(ANSWER).await;
        manners
    }

    fn arrived(&self, leased: &LeasedBatch, last: &AtomicU64) {
        self.deliveries.fetch_add(1, Ordering::Relaxed);
        let mut arrivals = self.arrivals.lock().unwrap();
        for queued in &leased.batch.items {
            let number = queued.position.number();
            if last.fetch_max(number, Ordering::Relaxed) >= number {
                self.again.fetch_add(1, Ordering::Relaxed);
                continue;
            }
            let due = self.due(queued.position);
            let late = Instant::now().saturating_duration_since(due);
            arrivals.push(Arrival { due: due - self.start, late });
        }
    }
}

/// A subscriber has a delivery, until this is dropped.
struct Busy<'a> {
    is_busy: &'a AtomicBool,
    was_busy: bool,
}

impl<'a> Busy<'a> {
    fn with(is_busy: &'a AtomicBool) -> Self {
        Self { is_busy, was_busy: is_busy.swap(true, Ordering::Relaxed) }
    }
}

impl Drop for Busy<'_> {
    fn drop(&mut self) {
        self.is_busy.store(false, Ordering::Relaxed);
    }
}

impl Seen {
    /// How late the events were that were due in these seconds.
    pub fn late_ms(&self, seconds: Range<u64>) -> LateMs {
        let due_then = self.arrivals.iter().filter(|it| seconds.contains(&it.due.as_secs()));
        let mut late: Vec<u64> = due_then.map(|it| it.late.as_millis() as u64).collect();
        late.sort_unstable();
        assert!(!late.is_empty(), "nothing was due in these seconds");
        let last = (late.len() - 1) as f64;
        let [median, p99, max] = [0.5, 0.99, 1.0].map(|part| late[(last * part).round() as usize]);
        LateMs { median, p99, max }
    }
}

/// Takes batches to them, from one machine.
pub struct SimulatedCourier {
    pub receivers: Arc<Receivers>,
    pub machine: Arc<Machine>,
}

#[async_trait]
impl Courier for SimulatedCourier {
    async fn deliver(
        &self,
        leased: &LeasedBatch,
        _: &mut Answer,
    ) -> Result<StatusCode, DeliveryError> {
        self.machine.work(DELIVERY).await;
        let manners = self.receivers.receive(leased).await;
        self.machine.unless_gone().await;
        match manners {
            Manners::Answers => Ok(StatusCode::OK),
            Manners::Refuses => Err(DeliveryError::Refused(StatusCode::INTERNAL_SERVER_ERROR)),
            // What has timed out is judged like any other failure.
            Manners::Hangs => Err(DeliveryError::Refused(StatusCode::GATEWAY_TIMEOUT)),
        }
    }
}
