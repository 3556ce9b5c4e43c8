//! Counting for charts: what passed in this process, and what waits in the store, brought to the store again and
//! again.

use std::collections::HashMap;
use std::sync::{Arc, LazyLock, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::throughput::Throughput;
use crate::bus::call::CallKind;
use crate::bus::clock::Clock;
use crate::bus::tally::{Subject, Tally};
use crate::store::{Duty, HeldDuty, Store, StoreResult};

/// How often counts are brought to the store.
const INTERVAL: Duration = Duration::from_secs(10);
/// The same where so much is counted that it would be felt.
const SPARING_INTERVAL: Duration = Duration::from_secs(60);
/// How many subjects, or which time for asking for what waits, is much.
const MANY: usize = 200;
const LONG: Duration = Duration::from_millis(10);
/// How long the last counts may take at the end of a process.
const LAST_TIMEOUT: Duration = Duration::from_secs(1);

/// Of how many subscriptions is counted until the counts are brought to the store, which takes as many as it counts.
const SUBJECTS_MAX: usize = 20_000;

/// What passed in this process and was not brought to the store yet.
static PASSED: LazyLock<Mutex<HashMap<Subject, Tally>>> = LazyLock::new(Mutex::default);

fn passed() -> MutexGuard<'static, HashMap<Subject, Tally>> {
    PASSED.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Counts what passed.
pub fn count(subject: Subject, tally: Tally) {
    add(&mut passed(), subject, &tally);
}

fn add(tallies: &mut HashMap<Subject, Tally>, subject: Subject, tally: &Tally) {
    if let Some(sum) = tallies.get_mut(&subject) {
        sum.add(tally);
    } else if tallies.len() < SUBJECTS_MAX || !matches!(subject, Subject::Subscription(_)) {
        tallies.insert(subject, *tally);
    }
}

/// Brings counts to the store until it is stopped.
pub struct TallyKeeper {
    store: Arc<dyn Store>,
    clock: Clock,
    /// Of looking at what waits, for all processes.
    duty: HeldDuty,
    throughput: Throughput,
}

impl TallyKeeper {
    pub fn new(store: Arc<dyn Store>) -> Self {
        let duty = HeldDuty::new(store.clone(), Duty::Tallies);
        Self { store, clock: Clock::system(), duty, throughput: Throughput::default() }
    }

    pub async fn run(mut self, stop: CancellationToken) {
        let mut pause = INTERVAL;
        loop {
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                () = stop.cancelled() => break,
            }
            pause = if self.turn().await { SPARING_INTERVAL } else { INTERVAL };
        }
        let last = async {
            self.bring(HashMap::new()).await;
            self.duty.give_back().await;
        };
        // What is counted is for looking at, and no reason to stop late.
        let _ = tokio::time::timeout(LAST_TIMEOUT, last).await;
    }

    /// Whether there was so much to count that the next time may be later.
    async fn turn(&mut self) -> bool {
        let (began, mut waiting) = (Instant::now(), HashMap::new());
        if !self.duty.is_mine().await {
            self.throughput.forget();
        } else if let Err(error) = self.look(&mut waiting).await {
            tracing::debug!(%error, "failed to count what waits");
        }
        let took = began.elapsed();
        self.bring(waiting).await > MANY || took > LONG
    }

    /// Looks at what waits just now.
    async fn look(&mut self, found: &mut HashMap<Subject, Tally>) -> StoreResult<()> {
        let statuses = self.store.subscriptions().await?;
        let queued = statuses.iter().map(|status| status.queued).sum();
        add(found, Subject::Bus, &Tally { queued, ..Tally::default() });
        for status in statuses.iter().filter(|status| status.queued > 0) {
            let subject = Subject::Subscription(status.subscriber.clone());
            add(found, subject, &Tally { queued: status.queued, ..Tally::default() });
        }
        for (subscriber, passed) in self.throughput.since(&statuses) {
            let tally = Tally { volume: passed.added, ..Tally::default() };
            if !tally.is_empty() {
                add(found, Subject::Subscription(subscriber), &tally);
            }
        }
        let mut calls = Tally::default();
        for kind in [CallKind::Call, CallKind::Postback] {
            calls.queued += self.store.call_counts(kind).await?.waiting;
        }
        add(found, Subject::Calls, &calls);
        let queued = self.store.call_counts(CallKind::Message).await?.waiting;
        add(found, Subject::Messages, &Tally { queued, ..Tally::default() });
        Ok(())
    }

    /// Brings what was found, and what passed, to the store; returns of how many subjects.
    async fn bring(&self, mut tallies: HashMap<Subject, Tally>) -> usize {
        for (subject, tally) in std::mem::take(&mut *passed()) {
            add(&mut tallies, subject, &tally);
        }
        tallies.retain(|_, tally| !tally.is_empty());
        let tallies: Vec<_> = tallies.into_iter().collect();
        let (count, at_ms) = (tallies.len(), self.clock.now_ms());
        if count == 0 {
            return 0;
        }
        if let Err(error) = self.store.add_tallies(at_ms, tallies.clone()).await {
            tracing::debug!(%error, "failed to keep what was counted; trying again");
            // An answer that was lost makes them count twice, which is better than a gap just when the store is away.
            let mut passed = passed();
            tallies.into_iter().for_each(|(subject, tally)| add(&mut passed, subject, &tally));
        }
        count
    }
}
