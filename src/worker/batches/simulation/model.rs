//! A store's queues in memory, by the rules of `crate::store`, whose server takes as long as a Redis was measured to.
//! Who asks it does so from a machine, which may go.

use std::collections::{BTreeSet, VecDeque};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use async_trait::async_trait;
use futures_util::future::join_all;
use tokio::time::Instant;

use super::machines::Machine;
use crate::bus::batch::{Batch, BatchId};
use crate::bus::entity::Entity;
use crate::bus::health::Health;
use crate::bus::item::{Item, QueuedItem};
use crate::bus::position::EventPosition;
use crate::bus::subscription::options::DeliveryOptions;
use crate::bus::subscription::{CallbackUrl, Target, Terms};
use crate::bus::token::ClientToken;
use crate::store::{
    Alarm, AsideEntity, BatchOutcome, BatchSettled, BatchSettlement, EntityOrder, Lane, Lanes,
    LeasedBatch, Publication, Published, Publisher, QueueClaim, QueueLease, Queues, StoreError,
    StoreResult, Window, WindowStep,
};

/// What a server takes for a command, and in it for each batch that is given out or settled: 75 µs for a delivery, as
/// measured (docs/scale.md). How that is divided is taken.
const COMMAND: Duration = Duration::from_micros(6);
const BATCH: Duration = Duration::from_micros(36);
/// What it takes in each lane for a publish, and for each subscriber that has it.
const PUBLISH: Duration = Duration::from_micros(2);
const APPEND: Duration = Duration::from_nanos(1_750);
/// The way to the server and back.
const ROUND_TRIP: Duration = Duration::from_micros(500);
/// Events in a batch, at most.
const BATCH_MAX: usize = 100;

/// All subscribers' queues, in lanes, on servers.
pub struct Model {
    lanes: Vec<Mutex<LaneState>>,
    servers: Vec<Machine>,
    /// Of each process that delivers, for each lane.
    alarms: Mutex<Vec<Arc<Vec<Alarm>>>>,
    published: AtomicUsize,
    epoch: Instant,
    item: Item,
    terms: Terms,
}

/// The queues of a lane: of every so many subscribers, one.
struct LaneState {
    queues: Vec<Queue>,
    /// When a worker should look at which queue.
    due: BTreeSet<(Instant, usize)>,
    last_position: u64,
}

struct Queue {
    events: VecDeque<u64>,
    due: Option<Instant>,
    fence: u64,
    leased_until: Option<Instant>,
    batch: Option<OpenBatch>,
    batches: u64,
    health: Health,
}

/// A batch that was given out and is not acknowledged.
#[derive(Clone, Copy)]
struct OpenBatch {
    number: u64,
    events: usize,
    attempts: u32,
}

impl Model {
    /// One of so many subscribers, whose events leave `timeout` after they came.
    pub fn new(subscribers: usize, lanes: usize, servers: usize, timeout: Duration) -> Arc<Self> {
        let of_lane = |lane: usize| LaneState {
            queues: (lane..subscribers).step_by(lanes).map(|_| Queue::new()).collect(),
            due: BTreeSet::new(),
            last_position: 0,
        };
        Arc::new(Self {
            lanes: (0..lanes).map(|lane| Mutex::new(of_lane(lane))).collect(),
            servers: (0..servers).map(|_| Machine::new()).collect(),
            alarms: Mutex::default(),
            published: AtomicUsize::new(0),
            epoch: Instant::now(),
            item: Item::from_static(b"{\"topic\":\"a\"}"),
            terms: Terms {
                target: Target::Callback(CallbackUrl::parse("https://a.example/").unwrap()),
                uuid: None,
                timeout,
                max: BATCH_MAX as u32,
            },
        })
    }

    /// When the event at a position was published.
    pub fn published_at(&self, position: EventPosition) -> Instant {
        self.epoch + Duration::from_micros(position.number())
    }

    /// Publishes an event for each of these subscribers: as the product does, to the home lane first, and then to all
    /// others at once, also to those that have no subscriber of it.
    pub async fn publish(&self, subscribers: &[usize]) {
        self.publish_in(Lane::HOME, subscribers).await;
        let others = Lane::first(self.lanes.len()).skip(1);
        join_all(others.map(|lane| self.publish_in(lane, subscribers))).await;
    }

    async fn publish_in(&self, lane: Lane, subscribers: &[usize]) {
        let lanes = self.lanes.len();
        let of_lane = subscribers.iter().filter(|&subscriber| subscriber % lanes == lane.index());
        let own: Vec<usize> = of_lane.map(|subscriber| subscriber / lanes).collect();
        let publishes = PUBLISH * subscribers.len() as u32;
        self.server(lane).work(COMMAND + publishes + APPEND * own.len() as u32).await;
        self.published.fetch_add(own.len(), Ordering::Relaxed);
        let rings_in = self.state(lane).append(&own, self.epoch, self.terms.timeout);
        if let Some(delay) = rings_in {
            let alarms = self.alarms.lock().unwrap();
            alarms.iter().for_each(|alarms| alarms[lane.index()].ring_in(delay));
        }
    }

    /// What waits: subscriber and position of each event.
    pub fn waiting(&self) -> Vec<(usize, EventPosition)> {
        let mut waiting = Vec::new();
        for (lane, state) in self.lanes.iter().enumerate() {
            for (index, queue) in state.lock().unwrap().queues.iter().enumerate() {
                let subscriber = index * self.lanes.len() + lane;
                let events = queue.events.iter();
                waiting.extend(events.map(|&event| (subscriber, EventPosition::new(event))));
            }
        }
        waiting
    }

    /// How many events were published.
    pub fn published(&self) -> usize {
        self.published.load(Ordering::Relaxed)
    }

    fn server(&self, lane: Lane) -> &Machine {
        &self.servers[lane.index() % self.servers.len()]
    }

    fn state(&self, lane: Lane) -> MutexGuard<'_, LaneState> {
        self.lanes[lane.index()].lock().unwrap()
    }

    fn token(&self, lane: Lane, queue: usize) -> ClientToken {
        ClientToken::from_stored(&(queue * self.lanes.len() + lane.index()).to_string())
    }

    fn queue_of(&self, subscriber: &ClientToken) -> usize {
        subscriber_of(subscriber) / self.lanes.len()
    }

    fn leased(&self, lane: Lane, index: usize, queue: &Queue) -> LeasedBatch {
        let open = queue.batch.unwrap();
        let of = |&position: &u64| QueuedItem {
            position: EventPosition::new(position),
            item: self.item.clone(),
        };
        let subscriber = self.token(lane, index);
        let name = subscriber.reveal().to_owned();
        LeasedBatch {
            lease: QueueLease { subscriber, queue: name.clone(), fence: queue.fence },
            terms: self.terms.clone(),
            options: DeliveryOptions::default(),
            health: queue.health,
            waited: Duration::ZERO,
            batch: Batch {
                id: BatchId { queue: name, number: open.number },
                attempt: open.attempts + 1,
                items: queue.events.iter().take(open.events).map(of).collect(),
            },
        }
    }
}

/// Which subscriber it is, from 0.
pub fn subscriber_of(token: &ClientToken) -> usize {
    token.reveal().parse().unwrap()
}

impl LaneState {
    /// Appends an event to each of these queues; in how long somebody has to look, if nobody does so before.
    fn append(&mut self, queues: &[usize], epoch: Instant, timeout: Duration) -> Option<Duration> {
        let now = Instant::now();
        let first_before = self.due.first().map(|(due, _)| *due);
        for &index in queues {
            let position = (now - epoch).as_micros() as u64;
            self.last_position = position.max(self.last_position + 1);
            let queue = &mut self.queues[index];
            queue.events.push_back(self.last_position);
            if queue.leased_until.is_none() && queue.batch.is_none() {
                let due = queue.waits_until(epoch, timeout);
                self.set_due(index, due);
            }
        }
        let first = self.due.first().map(|(due, _)| *due)?;
        first_before.is_none_or(|before| first < before).then(|| first - now)
    }

    fn set_due(&mut self, index: usize, due: Option<Instant>) {
        let queue = &mut self.queues[index];
        if let Some(before) = std::mem::replace(&mut queue.due, due) {
            self.due.remove(&(before, index));
        }
        self.due.extend(due.map(|due| (due, index)));
    }
}

impl Queue {
    fn new() -> Self {
        Self {
            events: VecDeque::new(),
            due: None,
            fence: 0,
            leased_until: None,
            batch: None,
            batches: 0,
            health: Health::MAX,
        }
    }

    /// When its next batch is to leave.
    fn waits_until(&self, epoch: Instant, timeout: Duration) -> Option<Instant> {
        let oldest = epoch + Duration::from_micros(*self.events.front()?);
        Some(if self.events.len() >= BATCH_MAX { oldest } else { oldest + timeout })
    }

    fn open_batch(&mut self) {
        if self.batch.is_none() {
            self.batches += 1;
            let events = self.events.len().min(BATCH_MAX);
            self.batch = Some(OpenBatch { number: self.batches, events, attempts: 0 });
        }
    }
}

/// The store as a process on a machine has it.
pub struct ModelStore {
    model: Arc<Model>,
    machine: Arc<Machine>,
    alarms: Arc<Vec<Alarm>>,
}

impl ModelStore {
    pub fn of(model: &Arc<Model>, machine: &Arc<Machine>) -> Arc<Self> {
        let alarms: Arc<Vec<Alarm>> =
            Arc::new(model.lanes.iter().map(|_| Alarm::default()).collect());
        model.alarms.lock().unwrap().push(alarms.clone());
        Arc::new(Self { model: model.clone(), machine: machine.clone(), alarms })
    }

    /// Runs a script, which also says of how many batches it was, and has its answer when a server would have given it.
    async fn run<T>(&self, lane: Lane, script: impl FnOnce() -> (T, usize)) -> T {
        self.machine.unless_gone().await;
        let (answer, batches) = script();
        let done_at = self.model.server(lane).takes(COMMAND + BATCH * batches as u32);
        tokio::time::sleep_until(done_at + ROUND_TRIP).await;
        self.machine.unless_gone().await;
        answer
    }
}

#[async_trait]
impl Lanes for ModelStore {
    async fn lanes(&self) -> StoreResult<usize> {
        Ok(self.model.lanes.len())
    }
}

#[async_trait]
impl Publisher for ModelStore {
    async fn publish(&self, _: Vec<Publication>, _: Instant) -> StoreResult<Vec<Published>> {
        Err(not_simulated())
    }

    fn commits_at_once(&self) -> usize {
        1
    }
}

#[async_trait]
impl Queues for ModelStore {
    fn publisher(self: Arc<Self>) -> anyhow::Result<Arc<dyn Publisher>> {
        Ok(self)
    }

    async fn forget_publish_keys(&self) -> StoreResult<()> {
        Ok(())
    }

    async fn due_batches(&self, _: Duration) -> StoreResult<u64> {
        Err(not_simulated())
    }

    async fn claim_queues(
        &self,
        lane: Lane,
        limit: usize,
        lease: Duration,
    ) -> StoreResult<QueueClaim> {
        let claim = || {
            let (mut state, now) = (self.model.state(lane), Instant::now());
            let mut claim = QueueClaim::default();
            while let Some(&(due, index)) = state.due.first() {
                if due > now || claim.batches.len() == limit {
                    claim.next_due = Some(due.saturating_duration_since(now));
                    break;
                }
                let queue = &mut state.queues[index];
                // A lease that ran out: whoever had it has tried.
                if let (Some(_), Some(batch)) = (queue.leased_until, &mut queue.batch) {
                    batch.attempts += 1;
                }
                queue.open_batch();
                queue.fence += 1;
                queue.leased_until = Some(now + lease);
                claim.batches.push(self.model.leased(lane, index, queue));
                state.set_due(index, Some(now + lease));
            }
            let batches = claim.batches.len();
            (claim, batches)
        };
        Ok(self.run(lane, claim).await)
    }

    async fn settle_batches(
        &self,
        lane: Lane,
        settlements: Vec<BatchSettlement>,
        lease: Duration,
    ) -> StoreResult<Vec<BatchSettled>> {
        let settle = |settlement: BatchSettlement| {
            let (mut state, now) = (self.model.state(lane), Instant::now());
            let index = self.model.queue_of(&settlement.lease.subscriber);
            let queue = &mut state.queues[index];
            if queue.fence != settlement.lease.fence || queue.leased_until.is_none() {
                return BatchSettled::Stale;
            }
            queue.health = settlement.health;
            let due = match settlement.outcome {
                BatchOutcome::Acknowledged => {
                    let done = queue.batch.take().map_or(0, |batch| batch.events);
                    queue.events.drain(..done);
                    let due = queue.waits_until(self.model.epoch, self.model.terms.timeout);
                    if settlement.take_next && due.is_some_and(|due| due <= now) {
                        queue.open_batch();
                        queue.leased_until = Some(now + lease);
                        let next = self.model.leased(lane, index, queue);
                        state.set_due(index, Some(now + lease));
                        return BatchSettled::Next(Box::new(next));
                    }
                    due
                }
                BatchOutcome::Failed { retry_in } => {
                    queue.batch.iter_mut().for_each(|batch| batch.attempts += 1);
                    Some(now + retry_in)
                }
                BatchOutcome::Gone => None,
                BatchOutcome::Returned => Some(now),
            };
            queue.leased_until = None;
            state.set_due(index, due);
            BatchSettled::Released
        };
        let count = settlements.len();
        Ok(self.run(lane, || (settlements.into_iter().map(settle).collect(), count)).await)
    }

    async fn renew_queues(
        &self,
        lane: Lane,
        leases: &[QueueLease],
        lease: Duration,
    ) -> StoreResult<Vec<QueueLease>> {
        let is_lost = |held: &&QueueLease| {
            let (mut state, until) = (self.model.state(lane), Instant::now() + lease);
            let index = self.model.queue_of(&held.subscriber);
            let queue = &mut state.queues[index];
            if queue.fence != held.fence || queue.leased_until.is_none() {
                return true;
            }
            queue.leased_until = Some(until);
            state.set_due(index, Some(until));
            false
        };
        Ok(self.run(lane, || (leases.iter().filter(is_lost).cloned().collect(), 0)).await)
    }

    fn alarm(&self, lane: Lane) -> &Alarm {
        &self.alarms[lane.index()]
    }
}

/// No subscriber of the model asks for that order.
#[async_trait]
impl EntityOrder for ModelStore {
    async fn step_window(
        &self,
        _: Lane,
        _: WindowStep,
        _: Duration,
    ) -> StoreResult<Option<Window>> {
        Err(not_simulated())
    }

    async fn close_window(&self, _: Lane, _: &QueueLease) -> StoreResult<()> {
        Err(not_simulated())
    }

    async fn is_behind_window(&self, _: Lane, _: &QueueLease) -> StoreResult<bool> {
        Err(not_simulated())
    }

    async fn entities_aside(&self, _: Lane, _: &QueueLease) -> StoreResult<Vec<AsideEntity>> {
        Err(not_simulated())
    }

    async fn events_aside(
        &self,
        _: Lane,
        _: &QueueLease,
        _: &Entity,
        _: usize,
    ) -> StoreResult<Vec<QueuedItem>> {
        Err(not_simulated())
    }
}

fn not_simulated() -> StoreError {
    StoreError::Unavailable("the model does not know that".into())
}
