//! Delivers from a queue in the order of entities: holds its window, sends what [`HeldWindow`] says, several batches at
//! once, and records what became of them.

use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinSet;
use tokio::time::Instant;

use super::sender::BatchSender;
use super::window::{BatchRules, HeldWindow, Next};
use crate::bus::attempt::{Failure, is_refusal};
use crate::bus::batch::{Batch, BatchId, MAX_BATCH_BYTES};
use crate::bus::clock::Clock;
use crate::bus::entity::Entity;
use crate::bus::health::Health;
use crate::bus::item::QueuedItem;
use crate::store::{
    AsideProgress, BatchOutcome, BatchSettlement, BatchStore, Lane, LeasedBatch, QueueLease,
    Window, WindowStep,
};
use crate::worker::leases::{HeldLease, LEASE, Leases};
use crate::worker::pause::insist;

/// How many events are held at least, if they are there: behind those of an entity that is busy are others.
const HELD_MIN: usize = 1_000;
/// How many bytes of events are held: with more, the window does not grow.
const HELD_BYTES_MAX: usize = MAX_BATCH_BYTES;
/// After so many refusals in a row, it is not this or that entity that is refused.
const FAILURES_MAX: usize = 250;
/// How often is looked for what has come while more could be sent than is here.
/// The first looks are quick, because most deliveries are; what hangs is worth fewer.
const LOOK_INTERVAL: (Duration, Duration) = (Duration::from_millis(1), Duration::from_millis(10));
/// Nothing is sent by what the store said longer ago than this: meanwhile somebody may have paused the queue.
const RECORD_INTERVAL: Duration = Duration::from_millis(50);
/// How many failures of what is set aside wait to be recorded at most.
const PROGRESS_MAX: usize = 50;
/// The pause before an entity is looked at again whose events could not be had.
const READ_PAUSE_MS: u64 = 200;

/// What works off windows of a lane.
pub struct Windows<'a> {
    pub store: &'a Arc<dyn BatchStore>,
    pub sender: &'a Arc<BatchSender>,
    pub leases: &'a Arc<Leases<QueueLease>>,
    pub lane: Lane,
}

/// A queue that is worked off.
struct Work<'a> {
    store: &'a Arc<dyn BatchStore>,
    sender: &'a Arc<BatchSender>,
    leases: &'a Arc<Leases<QueueLease>>,
    lane: Lane,
    clock: Clock,
    opened: LeasedBatch,
    /// How its batches are called, with their numbers: no other window's are.
    name: String,
    lease: QueueLease,
    held: HeldLease<QueueLease>,
    window: HeldWindow,
    rules: BatchRules,
    parallel: usize,
    health: Health,
    out: JoinSet<Delivered>,
    /// When the last step was taken: so old is what is known of a pause.
    recorded: Instant,
    /// After which time is looked again.
    look_in: Duration,
    /// Since the last step.
    progress: Vec<AsideProgress>,
    failure: Option<Failure>,
    /// Nothing more goes out: the queue is paused, or this process stops.
    is_ending: bool,
    /// How the window ends if not as it should: its receiver is away, or gone.
    held_up: Option<BatchSettlement>,
    /// Whether anything was taken, and failures since then.
    has_success: bool,
    failures_in_a_row: usize,
}

/// Whose batch was sent.
enum Sent {
    Window,
    Aside { entity: Entity, events: usize },
}

/// A delivery that has ended.
struct Delivered {
    number: u64,
    sent: Sent,
    attempt: u32,
    settlement: BatchSettlement,
}

impl Windows<'_> {
    /// Sees a window through that was given out.
    pub async fn work_off(&self, mut opened: LeasedBatch, asked: Instant) {
        let lease = opened.lease.clone();
        let subscriber = lease.subscriber.clone();
        let held = self.leases.hold(&lease, asked);
        let store = self.store;
        let aside =
            held.unless_lost(insist(TRYING_ON, || store.entities_aside(self.lane, &lease))).await;
        let Some(aside) = aside else { return };
        let clock = Clock::system();
        let parallel = opened.options.parallel.unwrap_or(1) as usize;
        let mut work = Work {
            store: self.store,
            sender: self.sender,
            leases: self.leases,
            lane: self.lane,
            name: format!("{}.{}", lease.queue, lease.fence),
            window: HeldWindow::new(std::mem::take(&mut opened.batch.items), aside, clock.now_ms()),
            rules: BatchRules {
                max: opened.terms.max as usize,
                timeout_ms: opened.terms.timeout.as_millis() as u64,
                aside_max: (parallel / 4).max(1),
                alone_after: opened.options.refusals_max,
            },
            parallel,
            health: opened.health,
            out: JoinSet::new(),
            recorded: asked,
            look_in: LOOK_INTERVAL.0,
            progress: Vec::new(),
            failure: None,
            is_ending: false,
            held_up: None,
            has_success: false,
            failures_in_a_row: 0,
            clock,
            opened,
            lease,
            held,
        };
        if work.run().await.is_none() {
            // What is on its way is broken off with the tasks.
            tracing::warn!(%subscriber, "broke off deliveries: their lease was lost");
        }
    }
}

impl Work<'_> {
    /// `None` if the lease was lost.
    async fn run(&mut self) -> Option<()> {
        // What a window holds already of entities that are set aside has to go there first.
        self.record().await?;
        loop {
            self.send_what_may_go().await?;
            if self.out.is_empty() {
                if self.progress.is_empty() {
                    return self.end().await;
                }
                self.record().await?;
                continue;
            }
            let now_ms = self.clock.now_ms();
            let wakes_at_ms = self.window.wakes_at_ms(self.rules, now_ms);
            let wakes_at_ms = wakes_at_ms.filter(|_| self.may_send());
            let wake = async move {
                match wakes_at_ms {
                    Some(at) => tokio::time::sleep(Duration::from_millis(at - now_ms)).await,
                    None => std::future::pending().await,
                }
            };
            let stop = self.sender.stop.clone();
            // More could be sent than is here: what waits here stands behind what is on its way, or waits for company.
            let looks = self.may_send() && self.may_grow() && self.window.len() < self.size();
            tokio::select! {
                Some(delivered) = self.out.join_next() => {
                    // One that panicked has taken its batch with it: the lease runs out.
                    let mut is_progress = self.took(delivered.ok()?);
                    while let Some(delivered) = self.out.try_join_next() {
                        is_progress |= self.took(delivered.ok()?);
                    }
                    // That something failed once more can wait for company.
                    if is_progress || self.progress.len() >= PROGRESS_MAX {
                        self.record().await?;
                    }
                }
                () = wake => {}
                () = tokio::time::sleep(self.look_in), if looks => {
                    self.look_in = (2 * self.look_in).min(LOOK_INTERVAL.1);
                    let store = self.store;
                    // One that cannot be asked is asked again.
                    if store.is_behind_window(self.lane, &self.lease).await.unwrap_or(false) {
                        self.record().await?;
                    }
                }
                () = self.held.lost() => return None,
                () = stop.cancelled(), if !self.is_ending => self.is_ending = true,
            }
        }
    }

    fn may_send(&self) -> bool {
        let may_go_on = !self.is_ending && !self.sender.places.is_closed();
        may_go_on && self.held_up.is_none() && self.out.len() < self.parallel
    }

    /// How many events are held at most.
    fn size(&self) -> usize {
        (2 * self.parallel * self.rules.max).max(HELD_MIN)
    }

    fn may_grow(&self) -> bool {
        !self.is_ending && self.window.bytes() < HELD_BYTES_MAX
    }

    async fn send_what_may_go(&mut self) -> Option<()> {
        if self.may_send() && self.recorded.elapsed() > RECORD_INTERVAL {
            self.record().await?;
        }
        while self.may_send() {
            // The first delivery has the place of the task.
            let place = if self.out.is_empty() { None } else { self.sender.places.take_now() };
            if place.is_none() && !self.out.is_empty() {
                break;
            }
            let Some(next) = self.window.next(self.rules, self.clock.now_ms()) else { break };
            let (number, items, sent, attempt) = match next {
                Next::Window { number, items } => (number, items, Sent::Window, 1),
                Next::Aside { entity, number, limit, attempt } => {
                    let items = self.read_aside(&entity, limit).await?;
                    if items.is_empty() {
                        continue;
                    }
                    let events = items.len();
                    (number, items, Sent::Aside { entity, events }, attempt)
                }
            };
            self.send(number, items, sent, attempt, place);
        }
        Some(())
    }

    /// The first events of an entity that is set aside; none if they are not there yet.
    async fn read_aside(&mut self, entity: &Entity, limit: usize) -> Option<Vec<QueuedItem>> {
        let store = self.store;
        let read = insist(TRYING_ON, || store.events_aside(self.lane, &self.lease, entity, limit));
        let items = self.held.unless_lost(read).await?;
        if items.is_empty()
            && let Some(aside) = self.window.aside(entity)
        {
            aside.is_out = false;
            aside.due_ms = self.clock.now_ms() + READ_PAUSE_MS;
        }
        Some(items)
    }

    fn send(
        &mut self,
        number: u64,
        items: Vec<QueuedItem>,
        sent: Sent,
        attempt: u32,
        place: Option<tokio::sync::OwnedSemaphorePermit>,
    ) {
        let oldest_ms = items.iter().map(|item| item.position.at_ms()).min();
        let now_ms = self.clock.now_ms();
        let waited = Duration::from_millis(now_ms.saturating_sub(oldest_ms.unwrap_or(now_ms)));
        let leased = LeasedBatch {
            lease: self.lease.clone(),
            terms: self.opened.terms.clone(),
            options: self.opened.options.clone(),
            // What an entity fails with is not the subscriber's health: its pauses grow with its own attempts.
            health: Health::MAX,
            waited,
            batch: Batch { id: BatchId { queue: self.name.clone(), number }, attempt, items },
        };
        self.look_in = LOOK_INTERVAL.0;
        let sender = self.sender.clone();
        self.out.spawn(async move {
            let settlement = sender.deliver(&leased, Instant::now()).await;
            if settlement.failure.is_some() {
                sender.tell_news(&leased, &settlement);
            }
            drop(place);
            Delivered { number, sent, attempt, settlement }
        });
    }

    /// Takes note of a delivery that has ended. Whether something is to be recorded now.
    fn took(&mut self, delivered: Delivered) -> bool {
        let Delivered { number, sent, attempt, settlement } = delivered;
        let is_progress = match (&sent, settlement.outcome) {
            (_, BatchOutcome::Acknowledged | BatchOutcome::Gone) => true,
            (sent, _) => matches!(sent, Sent::Window),
        };
        match settlement.outcome {
            BatchOutcome::Acknowledged => {
                (self.has_success, self.failures_in_a_row) = (true, 0);
                self.health = self.sender.back_off.after_success(self.health);
                match sent {
                    Sent::Window => self.window.acknowledged(number),
                    Sent::Aside { entity, events } => self.aside_taken(&entity, events, attempt),
                }
            }
            // It was not sent.
            BatchOutcome::Returned => match sent {
                Sent::Window => self.window.returned(number),
                Sent::Aside { entity, .. } => {
                    if let Some(aside) = self.window.aside(&entity) {
                        aside.is_out = false;
                    }
                }
            },
            BatchOutcome::Failed { retry_in } => {
                self.failures_in_a_row += 1;
                self.failure = settlement.failure.clone();
                match sent {
                    Sent::Window => self.window_failed(number, retry_in, settlement),
                    Sent::Aside { entity, events } => {
                        let batch = (number, events);
                        self.aside_failed(&entity, batch, attempt, settlement.failure, retry_in);
                    }
                }
            }
            BatchOutcome::Gone => {
                self.window.returned(number);
                self.held_up = Some(settlement);
            }
        }
        is_progress
    }

    fn window_failed(&mut self, number: u64, retry_in: Duration, settlement: BatchSettlement) {
        let status = settlement.failure.as_ref().and_then(|failure| failure.status);
        let due_ms = self.clock.now_ms() + retry_in.as_millis() as u64;
        // Whoever takes nothing at all, or cannot be reached, is not the fault of an entity.
        let is_away = match status {
            Some(status) => !is_refusal(status) || self.failures_in_a_row >= FAILURES_MAX,
            None => !self.has_success || self.failures_in_a_row >= self.parallel,
        };
        if is_away {
            self.window.returned(number);
        } else if self.window.refused(number, due_ms) {
            return;
        }
        self.health = self.sender.back_off.after_failure(self.health);
        let pause = self.sender.back_off.pause(
            self.health,
            self.opened.batch.attempt,
            self.opened.terms.timeout,
            fastrand::f64(),
        );
        // By the attempts of the window, and no less than its receiver asked for, or than places are left for.
        let outcome = BatchOutcome::Failed { retry_in: pause.max(retry_in) };
        self.held_up = Some(BatchSettlement { outcome, ..settlement });
    }

    fn aside_taken(&mut self, entity: &Entity, events: usize, attempt: u32) {
        if let Some(aside) = self.window.aside(entity) {
            (aside.is_out, aside.attempts, aside.batch) = (false, 0, None);
            aside.due_ms = self.clock.now_ms();
        }
        self.window.aside_went(entity, events);
        self.progress.push(AsideProgress {
            entity: entity.clone(),
            done: events,
            dead: None,
            attempts: 0,
            due_in: Duration::ZERO,
        });
        if !self.window.has_aside() {
            let subscriber = self.lease.subscriber.label();
            self.sender.recovered(subscriber, attempt);
        }
    }

    fn aside_failed(
        &mut self,
        entity: &Entity,
        (number, events): (u64, usize),
        attempt: u32,
        failure: Option<Failure>,
        retry_in: Duration,
    ) {
        let Some(aside) = self.window.aside(entity) else { return };
        let is_refused =
            failure.as_ref().is_some_and(|failure| failure.status.is_some_and(is_refusal));
        // What was refused with others is not guilty yet: alone it has as many tries as they had.
        let tries = |max: u32| if aside.events == 1 { max } else { max.saturating_mul(2) };
        let is_too_often = |max: u32| is_refused && events == 1 && attempt >= tries(max);
        let is_dead = self.opened.options.refusals_max.is_some_and(is_too_often);
        (aside.is_out, aside.due_ms) = (false, self.clock.now_ms() + retry_in.as_millis() as u64);
        aside.attempts = if is_dead { 0 } else { attempt };
        aside.batch = (!is_dead).then_some((number, events));
        self.progress.push(AsideProgress {
            entity: entity.clone(),
            done: 0,
            dead: failure.filter(|_| is_dead),
            attempts: aside.attempts,
            due_in: retry_in,
        });
        if is_dead {
            self.window.aside_went(entity, 1);
        }
    }

    /// Tells the store what has happened since the last time, and takes what has come.
    async fn record(&mut self) -> Option<()> {
        let gone = self.window.gone();
        let left = self.window.len() - gone.done.len() - gone.aside.len();
        let step = WindowStep {
            lease: self.lease.clone(),
            done: gone.done,
            aside: gone.aside,
            entities: std::mem::take(&mut self.progress),
            health: self.health,
            failure: self.failure.take(),
            has_recovered: self.has_success && !self.window.is_searching(),
            more: if self.may_grow() { self.size().saturating_sub(left) } else { 0 },
        };
        let (store, asked) = (self.store, Instant::now());
        let recorded = insist(TRYING_ON, || store.step_window(self.lane, step.clone(), LEASE));
        let Window { lease, items, is_paused } = self.held.unless_lost(recorded).await??;
        self.recorded = asked;
        self.window.recorded();
        self.window.extend(items);
        self.is_ending |= is_paused;
        self.held = self.leases.hold(&lease, asked);
        self.lease = lease;
        Some(())
    }

    /// Gives the queue back.
    async fn end(&mut self) -> Option<()> {
        let store = self.store;
        let Some(settlement) = &self.held_up else {
            let closed = insist(TRYING_ON, || store.close_window(self.lane, &self.lease));
            return self.held.unless_lost(closed).await;
        };
        let settlement = BatchSettlement {
            lease: self.lease.clone(),
            health: self.health,
            take_next: false,
            ..settlement.clone()
        };
        let settled =
            insist(TRYING_ON, || store.settle_batches(self.lane, vec![settlement.clone()], LEASE));
        self.held.unless_lost(settled).await.map(drop)
    }
}

const TRYING_ON: &str = "failed to work off a queue; trying on";
