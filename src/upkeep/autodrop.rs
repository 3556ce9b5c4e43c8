//! Autodrop (contract §6): when the store runs out of room, the oldest events go of the queues that hold
//! most, so that the bus can take new ones and nobody pushes out what waits for another.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::Budget;
use crate::store::{Drops, Duty, Lane, Store, StoreError, StoreResult, Usage};
use crate::telemetry::metrics::record;

/// A moment's peak, such as answers on their way to workers, is no reason to drop anything: the
/// store must be short of room twice in a row, this far apart.
const CONFIRM: Duration = Duration::from_millis(200);
/// The shortest pause between two steps. Each pause is as long as the step before, so that the
/// store has half of the time for publishers and workers.
const PAUSE_MIN: Duration = Duration::from_millis(5);
/// One process at a time makes room, else each would drop as much. So long a process that died
/// meanwhile holds up the others.
const TERM: Duration = Duration::from_secs(5);
/// After this time a run is reported and, if need be, followed by another one.
const RUN_MAX: Duration = Duration::from_secs(30);
/// What the queues must be able to give for a run to begin, if it is to make more room than this.
/// What else fills the store cannot be helped by dropping the little that they hold.
const WORTHWHILE: u64 = 16 * 1024 * 1024;

/// Looks after the room where one lane of the store is.
pub struct Autodrop {
    store: Arc<dyn Store>,
    lane: Lane,
    budget: Budget,
    stop: CancellationToken,
    /// Whether there was too little to drop when the store was last looked at.
    was_stuck: bool,
    /// Whether it failed when it was last looked at.
    was_failing: bool,
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

/// What could go.
struct Droppable {
    /// Of all lanes that share the room: shares are fair among them.
    all: Drops,
    /// Of the lane that room is made in.
    here: Drops,
}

impl Droppable {
    /// What the queues of this lane have to give so that so many bytes go in all.
    fn shares_here(&self, excess: u64) -> Drops {
        self.all.fair_shares(excess).only_of(&self.here)
    }

    /// Whether other lanes have something to give, which they do in their turn.
    fn is_elsewhere(&self) -> bool {
        self.all.total().items > self.here.total().items
    }

    fn is_worthwhile(&self, run: &Run) -> bool {
        self.all.total().bytes >= run.excess().min(WORTHWHILE)
    }
}

/// Why a run is done.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Cause {
    /// The store was looked at: it may hold more than it should.
    Look,
    /// The store has refused something for lack of room.
    Refusal,
    /// Somebody asked for it.
    Command,
}

impl Autodrop {
    /// One for each lane.
    ///
    /// # Errors
    /// If the store cannot be asked how many it has.
    pub async fn of_all_lanes(
        store: &Arc<dyn Store>,
        budget: Budget,
        stop: &CancellationToken,
    ) -> StoreResult<Vec<Self>> {
        let lanes = Lane::first(store.lanes().await?);
        Ok(lanes.map(|lane| Self::new(store.clone(), lane, budget, stop.clone())).collect())
    }

    fn new(store: Arc<dyn Store>, lane: Lane, budget: Budget, stop: CancellationToken) -> Self {
        Self { store, lane, budget, stop, was_stuck: false, was_failing: false }
    }

    pub fn lane(&self) -> Lane {
        self.lane
    }

    /// Makes room if there is too little; returns what was dropped.
    pub async fn look(&mut self, cause: Cause) -> Drops {
        let started = Instant::now();
        let mut run = None;
        let looked = self.make_room(cause, &mut run).await;
        // What was dropped before something went wrong was dropped all the same.
        match &run {
            Some(run) => self.report(run, cause, started.elapsed()),
            None => self.was_stuck = false,
        }
        if let Err(error) = &looked
            && !self.was_failing
        {
            tracing::warn!(%error, "failed to make room in the store; trying on");
        }
        self.was_failing = looked.is_err();
        run.map(|run| run.drops).unwrap_or_default()
    }

    async fn make_room(&self, cause: Cause, run: &mut Option<Run>) -> StoreResult<()> {
        if cause == Cause::Look {
            if !self.is_short().await? {
                return Ok(());
            }
            // A run begins with a look of its own.
            tokio::time::sleep(CONFIRM).await;
        }
        self.run(cause, run).await
    }

    /// Whether less is free than should be.
    pub async fn is_short(&self) -> StoreResult<bool> {
        let usage = self.store.usage(self.lane).await?;
        Ok(self.budget.limited_by(&usage).is_exceeded_by(&usage))
    }

    /// Drops events until twice the threshold is free, if less than the threshold is or the store has
    /// refused something: of the queues that hold most, the oldest first. `run` tells what was done, also on
    /// an error; it stays empty if another process is at it.
    pub async fn run(&self, cause: Cause, run: &mut Option<Run>) -> StoreResult<()> {
        if !self.store.take_duty(Duty::Autodrop, TERM).await? {
            return Ok(());
        }
        let ran = self.run_alone(cause, run).await;
        let given_back = self.store.take_duty(Duty::Autodrop, Duration::ZERO).await;
        ran.and(given_back.map(drop))
    }

    async fn run_alone(&self, cause: Cause, run: &mut Option<Run>) -> StoreResult<()> {
        let run = run.insert(self.begin().await?);
        if !run.is_needed(cause) {
            return Ok(());
        }
        let mut droppable = self.droppable().await?;
        if cause == Cause::Look && !droppable.is_worthwhile(run) {
            run.enough = false;
            return Ok(());
        }
        let give_up = Instant::now() + RUN_MAX;
        while run.excess() > 0 && Instant::now() < give_up && !self.stop.is_cancelled() {
            let before = run.drops.total();
            self.drop_shares(&droppable.shares_here(run.excess()), run, give_up).await?;
            if run.drops.total() == before {
                run.enough = run.excess() == 0 || droppable.is_elsewhere();
                break;
            }
            if run.excess() > 0 {
                droppable = self.droppable().await?;
            }
        }
        Ok(())
    }

    /// Drops what these queues have to give, in steps, until there is room or they have nothing more.
    async fn drop_shares(
        &self,
        shares: &Drops,
        run: &mut Run,
        give_up: Instant,
    ) -> StoreResult<()> {
        let mut left = shares.clone();
        while run.excess() > 0 && Instant::now() < give_up && !self.stop.is_cancelled() {
            let started = Instant::now();
            if !self.store.take_duty(Duty::Autodrop, TERM).await? {
                return Err(StoreError::Unavailable("another process makes room by now".into()));
            }
            let drops = self.store.drop_oldest(self.lane, run.excess(), &left).await?;
            record::autodropped(&drops);
            run.drops.add_all(&drops);
            run.after = self.store.usage(self.lane).await?;
            left.take_away(&drops);
            if drops.is_empty() || left.is_empty() {
                break;
            }
            tokio::time::sleep(started.elapsed().max(PAUSE_MIN)).await;
        }
        Ok(())
    }

    /// What [`Autodrop::run`] would drop, about: how much room an event takes is estimated.
    pub async fn preview(&self) -> StoreResult<Run> {
        let mut run = self.begin().await?;
        if run.is_needed(Cause::Command) {
            let droppable = self.droppable().await?;
            run.drops = droppable.shares_here(run.excess());
            run.after.used = run.before.used.saturating_sub(run.drops.total().bytes);
            run.enough = run.excess() == 0 || droppable.is_elsewhere();
        }
        Ok(run)
    }

    /// What the queues of all lanes that share this one's room could give.
    async fn droppable(&self) -> StoreResult<Droppable> {
        let (mut all, mut here) = (Drops::default(), Drops::default());
        for lane in self.store.neighbours(self.lane).await? {
            let droppable = self.store.droppable(lane).await?;
            all.add_all(&droppable);
            if lane == self.lane {
                here = droppable;
            }
        }
        Ok(Droppable { all, here })
    }

    async fn begin(&self) -> StoreResult<Run> {
        let before = self.store.usage(self.lane).await?;
        let budget = self.budget.limited_by(&before);
        Ok(Run { budget, before, after: before, drops: Drops::default(), enough: true })
    }

    /// Logs what a run did: once with totals.
    fn report(&mut self, run: &Run, cause: Cause, took: Duration) {
        let total = run.drops.total();
        if total.items > 0 {
            tracing::warn!(
                events = total.items,
                subscribers = run.drops.iter().len(),
                by_subscriber = %run.drops,
                bytes_used_before = run.before.used,
                bytes_used = run.after.used,
                bytes_max = run.budget.max,
                took_ms = took.as_millis() as u64,
                "autodrop: the store ran out of room; dropped the oldest events of the fullest \
                 queues"
            );
        }
        let refused_within_budget = cause == Cause::Refusal && !run.is_needed(cause);
        let is_stuck = !run.enough || refused_within_budget;
        if is_stuck && !self.was_stuck {
            let (bytes_used, bytes_max) = (run.after.used, run.budget.max);
            if refused_within_budget {
                tracing::error!(
                    bytes_used,
                    bytes_max,
                    "autodrop: the store refuses events though it holds less than it may: look \
                     whether its disk is full"
                );
            } else {
                tracing::error!(
                    bytes_used,
                    bytes_max,
                    "autodrop: the store is out of room, and the queues hold too little to make \
                     enough: look what else fills it, or raise how much it may hold"
                );
            }
        }
        self.was_stuck = is_stuck;
    }
}

impl Run {
    /// Bytes that are still to go.
    fn excess(&self) -> u64 {
        self.budget.excess(&self.after)
    }

    fn is_needed(&self, cause: Cause) -> bool {
        let begins = cause == Cause::Refusal || self.budget.is_exceeded_by(&self.before);
        begins && self.budget.excess(&self.before) > 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::conformance::fixture::{Fixture, on_both_stores, plain};

    on_both_stores!(two_processes_that_run_at_once_make_room_once, a_run_that_is_stopped_tells);

    /// A store with items of 1,000 bytes, and a budget of which half is to be free.
    async fn full(f: &Fixture) -> Budget {
        f.subscribe("alice", &["a"], plain).await;
        for _ in 0..8 {
            f.publish("a", &vec!["x".repeat(900); 1_000]).await;
        }
        let max = f.store.usage(Lane::HOME).await.unwrap().used;
        Budget { max, min_free: max / 4 }
    }

    async fn two_processes_that_run_at_once_make_room_once(f: &Fixture) {
        let budget = full(f).await;
        let autodrop = |store| Autodrop::new(store, Lane::HOME, budget, CancellationToken::new());
        let (one, other) = (autodrop(f.store.clone()), autodrop(f.open_another()));
        let (mut its, mut others) = (None, None);
        let (ran, also) =
            tokio::join!(one.run(Cause::Refusal, &mut its), other.run(Cause::Refusal, &mut others));
        ran.and(also).unwrap();
        let dropped = |run: &Option<Run>| run.as_ref().map_or(0, |run| run.drops.total().bytes);
        let (all, half) = (dropped(&its) + dropped(&others), budget.max / 2);
        assert!(all > 0 && all < half * 5 / 4, "{all} went, where {half} were too much");
        assert!(f.status("alice").await.queued > 0);
    }

    async fn a_run_that_is_stopped_tells(f: &Fixture) {
        let budget = full(f).await;
        let stop = CancellationToken::new();
        let autodrop = Autodrop::new(f.store.clone(), Lane::HOME, budget, stop.clone());
        let mut run = None;
        let stopping = async {
            while f.status("alice").await.autodropped == 0 {
                tokio::task::yield_now().await;
            }
            stop.cancel();
        };
        let (ran, ()) = tokio::join!(autodrop.run(Cause::Refusal, &mut run), stopping);
        ran.unwrap();
        let told = run.unwrap().drops.total().items;
        assert_eq!(told, f.status("alice").await.autodropped);
        assert!(told < 8_000, "it went on to its end: {told}");
    }

    /// Lanes on one server share its room: who floods one of them pushes nobody out of another.
    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn shares_are_those_of_all_lanes_on_the_same_server() {
        let f = Fixture::redis_in_lanes();
        let few = ["alice", "bob", "carol", "dave", "erin", "frank"];
        for subscriber in few {
            f.subscribe(subscriber, &[subscriber], plain).await;
            f.publish(subscriber, &vec!["y".repeat(900); 20]).await;
        }
        f.subscribe("flood", &["flood"], plain).await;
        for _ in 0..8 {
            f.publish("flood", &vec!["x".repeat(900); 1_000]).await;
        }
        let max = f.store.usage(Lane::HOME).await.unwrap().used;
        let budget = Budget { max, min_free: max / 4 };
        let stop = CancellationToken::new();
        // The flooded lane has its turn last: without a look at it, the others would give all they have.
        let mut flooded = Vec::new();
        for autodrop in Autodrop::of_all_lanes(&f.store, budget, &stop).await.unwrap() {
            let droppable = f.store.droppable(autodrop.lane()).await.unwrap();
            if droppable.total().items > 1_000 {
                flooded.push(autodrop);
            } else {
                autodrop.run(Cause::Refusal, &mut None).await.unwrap();
            }
        }
        for autodrop in &flooded {
            autodrop.run(Cause::Refusal, &mut None).await.unwrap();
        }
        for subscriber in few {
            assert_eq!(f.status(subscriber).await.autodropped, 0, "{subscriber}");
        }
        let flood = f.status("flood").await;
        assert!(flood.autodropped > 1_000, "{flood:?}");
        let used = f.store.usage(Lane::HOME).await.unwrap().used;
        assert!(!budget.is_exceeded_by(&f.store.usage(Lane::HOME).await.unwrap()), "{used}");
    }
}
