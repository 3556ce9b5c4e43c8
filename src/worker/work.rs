//! How any kind of work is taken: what is due is leased as long as there are places, and each is a task of its
//! own. The alarm says when to look; a slow poll covers one that was lost.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use futures_util::future::join_all;
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::leases::{Lease, Leases};
use super::pause::{self, Pause, insist, until_stopped};
use super::places::Places;
use crate::commit::{GroupCommit, Groups};
use crate::store::{Alarm, Lane, StoreResult};

/// The slow poll: how long a lost wake-up can hold up what is due.
const POLL: Duration = Duration::from_secs(1);

/// Work of one lane.
#[async_trait]
pub trait Work: Send + Sync + 'static {
    /// What is leased, and done by a task of its own.
    type Item: Send + 'static;

    type Lease: Lease;

    /// How many items one look leases at most.
    const CLAIM_MAX: usize;

    /// The leases of its items.
    fn leases(&self) -> &Leases<Self::Lease>;

    fn alarm(&self) -> &Alarm;
    fn places(&self) -> &Places;
    fn stop(&self) -> &CancellationToken;

    /// Leases up to `limit` items that are due; also in how long the next one is, if that is known.
    async fn claim(&self, limit: usize) -> StoreResult<(Vec<Self::Item>, Option<Duration>)>;

    /// Sees an item through that the store was asked for at `asked`.
    async fn work_off(&self, item: Self::Item, asked: Instant);
}

/// Works off all lanes, each by the work that `of_lane` makes of it, until it is stopped. What commits outcomes
/// is started on the tracker, and waited for.
pub async fn in_all_lanes<W: Work>(
    store: &<W::Lease as Lease>::Store,
    stop: &CancellationToken,
    of_lane: impl Fn(Lane, &TaskTracker) -> W,
) {
    let Some(lanes) = pause::lanes(store, stop).await else { return };
    let committers = TaskTracker::new();
    let works: Vec<_> =
        Lane::first(lanes).map(|lane| (lane, Arc::new(of_lane(lane, &committers)))).collect();
    join_all(works.iter().map(|(lane, work)| async {
        tokio::select! {
            () = work.leases().keep_renewed(store, *lane) => {}
            () = take(work) => {}
        }
    }))
    .await;
    // Committers end when nobody can bring them anything any more.
    drop(works);
    committers.close();
    committers.wait().await;
}

/// Reports an outcome, for as long as it takes: what is not reported is done again. Returns also when the store
/// was asked.
pub async fn settle<G: Groups>(settlements: &GroupCommit<G>, job: G::Job) -> (G::Outcome, Instant)
where
    G::Job: Clone,
{
    insist("failed to settle a delivery; trying on", || async {
        let asked = Instant::now();
        Ok((settlements.commit(job.clone()).await?, asked))
    })
    .await
}

/// Takes work until it is stopped, and waits for what is in flight.
async fn take<W: Work>(work: &Arc<W>) {
    let tasks = TaskTracker::new();
    let mut pause = Pause::default();
    while !work.stop().is_cancelled() {
        let place = until_stopped(work.stop(), work.places().take()).await;
        let Some(Some(place)) = place else { break };
        let limit = W::CLAIM_MAX.min(1 + work.places().free());
        let asked = Instant::now();
        match work.claim(limit).await {
            Ok((items, next_due)) => {
                pause.reset();
                let is_all = items.len() < limit;
                spawn(work, &tasks, items, asked, place);
                if is_all {
                    work.alarm().ring_in(next_due.unwrap_or(POLL));
                    until_stopped(work.stop(), work.alarm().wait(POLL)).await;
                }
            }
            Err(error) => {
                drop(place);
                pause.log_first(&error, "failed to look for work; trying on");
                until_stopped(work.stop(), pause.sleep()).await;
            }
        }
    }
    tasks.close();
    tasks.wait().await;
}

fn spawn<W: Work>(
    work: &Arc<W>,
    tasks: &TaskTracker,
    items: Vec<W::Item>,
    asked: Instant,
    first_place: OwnedSemaphorePermit,
) {
    let mut place = Some(first_place);
    for item in items {
        // Another lane may have taken the places that were counted on: a few more than allowed are better
        // than leases that run out.
        let place = place.take().or_else(|| work.places().take_now());
        let work = work.clone();
        tasks.spawn(async move {
            work.places().count(work.work_off(item, asked)).await;
            drop(place);
        });
    }
}
