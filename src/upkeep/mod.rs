//! What one process does for all of them, whatever its role: it drops events when the store runs
//! out of room ([`autodrop`], contract §6), those that their subscribers do not want any more, and calls that were
//! over long ago; and it looks after messages ([`messages`]), beside that, since their history may be slow.

pub mod autodrop;
mod calls;
mod dead_events;
pub mod messages;
mod portions;
mod retention;

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;

use crate::bus::news::News;
use crate::commit::NewsDesk;
use crate::store::{Budget, DeadBounds, Drops, Duty, HeldDuty, Store};
use autodrop::{Autodrop, Cause};
use calls::OldCalls;
use dead_events::OldDeadEvents;
use portions::Portions;
use retention::Retention;

/// How often the store is looked at. The contract asks for every 30 s: a fast publisher fills
/// what autodrop keeps free in less.
const INTERVAL: Duration = Duration::from_secs(1);
/// The pause after a look that a refusal has caused.
const AFTER_REFUSAL: Duration = Duration::from_millis(200);

/// Looks after the store until it is stopped.
///
/// `full` is notified when the store has refused something for lack of room: then room is made at
/// once, whoever has the duty.
pub async fn run(
    store: Arc<dyn Store>,
    budget: Budget,
    dead: DeadBounds,
    news: NewsDesk,
    full: Arc<Notify>,
    stop: CancellationToken,
) {
    let mut duty = HeldDuty::new(store.clone(), Duty::Upkeep);
    let mut retention = Retention::new(store.clone());
    let mut old_calls = OldCalls::new(store.clone(), dead.retention);
    let mut old_dead_events = OldDeadEvents::new(store.clone(), dead, news.clone());
    let mut autodrops = Vec::new();
    // A look keeps its time however many refusals there are: on a full disk they come without end.
    let mut looks = tokio::time::interval(INTERVAL);
    looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    while !stop.is_cancelled() {
        tokio::select! {
            biased;
            () = stop.cancelled() => {}
            _ = looks.tick() => {
                if duty.is_mine().await {
                    retention.enforce(&stop).await;
                    // With a store that is away each step takes its time: a stop waits for one, not for all.
                    if !stop.is_cancelled() {
                        old_calls.forget().await;
                    }
                    if !stop.is_cancelled() {
                        old_dead_events.tell_news().await;
                        old_dead_events.forget().await;
                    }
                    if stop.run_until_cancelled(forget_kept(store.as_ref())).await.is_none() {
                        break;
                    }
                    for autodrop in know_lanes(&mut autodrops, &store, budget, &stop).await {
                        tell(&news, &autodrop.look(Cause::Look).await);
                    }
                }
            }
            () = full.notified() => {
                let autodrops = know_lanes(&mut autodrops, &store, budget, &stop).await;
                let is_only_one = autodrops.len() == 1;
                for autodrop in autodrops {
                    // A refusal does not tell which lane it came from.
                    if is_only_one || matches!(autodrop.is_short().await, Ok(true)) {
                        tell(&news, &autodrop.look(Cause::Refusal).await);
                    }
                }
                // Many may be refused where nothing helps, such as a full disk.
                tokio::time::sleep(AFTER_REFUSAL).await;
            }
        }
    }
    retention.report();
    duty.give_back().await;
}

/// Forgets what topics have kept beyond what they keep.
async fn forget_kept(store: &dyn Store) {
    let mut portions = Portions::begin();
    loop {
        match store.forget_kept().await {
            Ok(has_more) if has_more && portions.another().await => {}
            Ok(_) => break,
            Err(error) => {
                tracing::debug!(%error, "failed to forget kept events; trying again");
                break;
            }
        }
    }
}

fn tell(news: &NewsDesk, dropped: &Drops) {
    let events = dropped.total().items;
    if events > 0 {
        news.tell(News::Autodrop { events, subscribers: dropped.iter().len() as u64 });
    }
}

/// Makes one autodrop for each lane as soon as the store tells how many there are; none until then.
async fn know_lanes<'a>(
    autodrops: &'a mut Vec<Autodrop>,
    store: &Arc<dyn Store>,
    budget: Budget,
    stop: &CancellationToken,
) -> &'a mut [Autodrop] {
    if autodrops.is_empty() {
        match Autodrop::of_all_lanes(store, budget, stop).await {
            Ok(all) => *autodrops = all,
            Err(error) => tracing::debug!(%error, "failed to look at the store; trying on"),
        }
    }
    autodrops
}
