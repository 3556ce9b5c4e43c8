//! Simulated subscribers: what they do with batches, and what they saw.

use std::ops::Range;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use http::StatusCode;
use tokio::time::Instant;

use super::Setting;
use super::machines::Machine;
use super::model::{Model, subscriber_of};
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
    /// Events that have not come.
    pub waiting: usize,
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
        }
    }

    pub fn seen(&self) -> Seen {
        Seen {
            arrivals: std::mem::take(&mut *self.arrivals.lock().unwrap()),
            deliveries: self.deliveries.load(Ordering::Relaxed),
            again: self.again.load(Ordering::Relaxed),
            waiting: self.model.waiting(),
        }
    }

    fn manners(&self, receiver: usize) -> Manners {
        let Setting { hanging, refusing, .. } = self.setting;
        match receiver % 1000 {
            place if place < hanging => Manners::Hangs,
            place if place < hanging + refusing => Manners::Refuses,
            _ => Manners::Answers,
        }
    }

    /// Has a batch, and answers.
    async fn receive(&self, leased: &LeasedBatch) -> Manners {
        let index = subscriber_of(&leased.lease.subscriber);
        let is_busy = &self.each[index].is_busy;
        let was_busy = is_busy.swap(true, Ordering::Relaxed);
        assert!(!was_busy, "two deliveries at once to subscriber {index}");
        let manners = self.manners(index);
        match manners {
            Manners::Answers => self.arrived(leased, &self.each[index].last),
            Manners::Refuses => {}
            Manners::Hangs => tokio::time::sleep(HANGS - ANSWER).await,
        }
        tokio::time::sleep(ANSWER).await;
        is_busy.store(false, Ordering::Relaxed);
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
            let due = self.model.published_at(queued.position) + leased.terms.timeout;
            let late = Instant::now().saturating_duration_since(due);
            arrivals.push(Arrival { due: due - self.start, late });
        }
    }
}

impl Seen {
    /// How many events came to subscribers that answer.
    pub fn events(&self) -> usize {
        self.arrivals.len()
    }

    /// How late the events were that were due in these seconds, in milliseconds: median, 99th percentile, maximum.
    pub fn late_ms(&self, seconds: Range<u64>) -> [u64; 3] {
        let due_then = self.arrivals.iter().filter(|it| seconds.contains(&it.due.as_secs()));
        let mut late: Vec<u64> = due_then.map(|it| it.late.as_millis() as u64).collect();
        late.sort_unstable();
        assert!(!late.is_empty(), "nothing was due in these seconds");
        let last = (late.len() - 1) as f64;
        [0.5, 0.99, 1.0].map(|quantile| late[(last * quantile).round() as usize])
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
        self.machine.is_there().await;
        match manners {
            Manners::Answers => Ok(StatusCode::OK),
            Manners::Refuses => Err(DeliveryError::Refused(StatusCode::INTERNAL_SERVER_ERROR)),
            Manners::Hangs => Err(DeliveryError::Refused(StatusCode::GATEWAY_TIMEOUT)),
        }
    }
}
