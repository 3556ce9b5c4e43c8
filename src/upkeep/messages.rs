//! What messages need in the background: publishers that begin in the past are given what they lack, what waits for
//! publishers that are gone is discarded, and old messages are forgotten.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;

use crate::bus::clock::Clock;
use crate::config::Cleaning;
use crate::history::MessageHistory;
use crate::store::{Duty, HeldDuty, MESSAGES_AT_ONCE, PublisherBehind, Store};
use crate::telemetry::metrics::record;
use crate::telemetry::sparing::SparingLine;

/// How often is looked whether something is to do.
const INTERVAL: Duration = Duration::from_secs(1);
static FAILED: SparingLine = SparingLine::new();

/// How long one look takes at most, so that something else has its turn.
const LOOK_MAX: Duration = Duration::from_millis(700);

/// How long messages are kept that wait for nobody, and when older ones are removed.
#[derive(Clone, Debug)]
pub struct MessageMemory {
    pub retention: Duration,
    pub cleaning: Cleaning,
}

/// Looks after messages until it is stopped.
pub async fn run(
    store: Arc<dyn Store>,
    memory: MessageMemory,
    history: Option<Arc<dyn MessageHistory>>,
    stop: CancellationToken,
) {
    let mut duty = HeldDuty::new(store.clone(), Duty::Messages);
    let mut upkeep = MessageUpkeep::new(store, memory, history);
    let mut looks = tokio::time::interval(INTERVAL);
    looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let working = async {
        loop {
            looks.tick().await;
            if duty.is_mine().await {
                upkeep.look().await;
            }
        }
    };
    tokio::select! {
        () = working => {}
        () = stop.cancelled() => {}
    }
    duty.give_back().await;
}

struct MessageUpkeep {
    store: Arc<dyn Store>,
    memory: MessageMemory,
    clock: Clock,
    /// When old messages are removed next, in milliseconds since the epoch.
    cleaning_ms: Option<u64>,
    /// What came before is to go, while there is such a time.
    forget_before_ms: Option<u64>,
    /// Where messages are kept that wait for nobody, if not in the store.
    history: Option<Arc<dyn MessageHistory>>,
    /// The last message that was looked at for it.
    archived_to: u64,
}

impl MessageUpkeep {
    fn new(
        store: Arc<dyn Store>,
        memory: MessageMemory,
        history: Option<Arc<dyn MessageHistory>>,
    ) -> Self {
        let clock = Clock::system();
        let now_ms = clock.now_ms();
        let mut upkeep = Self {
            cleaning_ms: memory.cleaning.next_after(now_ms),
            store,
            memory,
            clock,
            forget_before_ms: None,
            history,
            archived_to: 0,
        };
        // What nobody was there to remove.
        let missed = upkeep.memory.cleaning.last_before(now_ms);
        upkeep.forget_before_ms = missed.map(|at_ms| upkeep.kept_since(at_ms));
        upkeep
    }

    fn kept_since(&self, at_ms: u64) -> u64 {
        at_ms.saturating_sub(self.memory.retention.as_millis() as u64)
    }

    async fn look(&mut self) {
        let until = Instant::now() + LOOK_MAX;
        // What one of them fails at is no reason to leave the others out.
        for done in [
            self.catch_up(until).await,
            self.discard(until).await,
            self.clean(until).await,
            self.archive(until).await,
            self.index(until).await,
        ] {
            if let Err(error) = done
                && let Some(untold) = FAILED.is_due()
            {
                tracing::warn!(%error, untold, "failed to look after messages; trying again");
            }
        }
    }

    /// Gives publishers that begin in the past what they lack.
    async fn catch_up(&self, until: Instant) -> anyhow::Result<()> {
        for behind in self.store.publishers_behind().await? {
            let mut next = Some(behind);
            while let Some(behind) = next
                && Instant::now() < until
            {
                next = self.catch_up_some(behind).await?;
            }
        }
        Ok(())
    }

    /// Gives one of them some of it: first what is in history, then what is in the store. How it stands then, if there
    /// was something.
    async fn catch_up_some(
        &self,
        behind: PublisherBehind,
    ) -> anyhow::Result<Option<PublisherBehind>> {
        let PublisherBehind { publisher, topic_id, caught_up_to } = behind;
        let Some(history) = &self.history else {
            let given = self.store.catch_up(publisher, Vec::new()).await?;
            return Ok((given > 0).then_some(behind));
        };
        let old = history.after(topic_id, caught_up_to, MESSAGES_AT_ONCE).await?;
        if self.store.catch_up(publisher, old).await? == 0 {
            return Ok(None);
        }
        let all = self.store.publishers_behind().await?;
        Ok(all.into_iter().find(|one| one.publisher == publisher))
    }

    /// Brings what came into the index for text, as far as there is time for it.
    async fn index(&self, until: Instant) -> anyhow::Result<()> {
        while Instant::now() < until {
            let asked = Instant::now();
            if self.store.index_texts().await? == 0 {
                break;
            }
            // Most of the time is for clients and workers.
            tokio::time::sleep(3 * asked.elapsed()).await;
        }
        Ok(())
    }

    /// Moves what waits for nobody to where history is kept, if that is not the store.
    async fn archive(&mut self, until: Instant) -> anyhow::Result<()> {
        let Some(history) = &self.history else { return Ok(()) };
        while Instant::now() < until {
            let closed = self.store.closed_messages(self.archived_to).await?;
            let Some(last) = closed.last().map(|message| message.number) else {
                // What was still waiting then may be behind.
                self.archived_to = 0;
                break;
            };
            let numbers: Vec<u64> = closed.iter().map(|message| message.number).collect();
            history.add(closed).await?;
            self.store.forget_closed(&numbers).await?;
            self.archived_to = last;
        }
        Ok(())
    }

    async fn discard(&self, until: Instant) -> anyhow::Result<()> {
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

    async fn clean(&mut self, until: Instant) -> anyhow::Result<()> {
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
                if let Some(history) = &self.history {
                    history.remove_before(before_ms).await?;
                }
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
