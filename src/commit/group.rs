//! Jobs that arrive at the same time share one commit of the store.
//!
//! Whoever brings a job waits for the commit that holds it. While one runs, the next group gathers, so
//! groups grow with the load and a lone job does not wait for company.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Mutex, mpsc, oneshot};
use tokio::time::Instant;
use tokio_util::task::TaskTracker;

use crate::store::{StoreError, StoreResult};

/// How many jobs wait at most; whoever brings more waits for a place, within its time.
const WAITING_MAX: usize = 4096;
/// A job that has less time left is not begun with: a commit takes some, too, and the whole group gives
/// up when its first job does.
const COMMIT_TIME_MIN: Duration = Duration::from_millis(500);

const LATE: &str = "no commit in time";

/// What is committed in groups.
pub trait Groups: Send + Sync + 'static {
    type Job: Send + 'static;
    /// What became of a job.
    type Outcome: Send + 'static;

    /// Longest time until whoever brought a job has its answer.
    const ANSWER_TIMEOUT: Duration;
    /// Where a group ends: so many jobs, so many items in them, or so many bytes.
    const JOBS_MAX: usize;
    const ITEMS_MAX: usize;
    const BYTES_MAX: usize;

    /// How long a group waits for company that is not there yet, unless a job in it is urgent.
    const LINGER: Duration = Duration::ZERO;

    /// Items and bytes of a job.
    fn weight(job: &Self::Job) -> (usize, usize);

    /// Whether somebody waits for what follows from this job.
    fn is_urgent(_job: &Self::Job) -> bool {
        true
    }

    /// Commits jobs together, in order, and says for each what became of it. What has not begun by
    /// `give_up` is not begun: whoever waits is told then that nothing was done.
    fn commit(
        &self,
        jobs: Vec<Self::Job>,
        give_up: Instant,
    ) -> impl Future<Output = StoreResult<Vec<Self::Outcome>>> + Send;
}

struct Waiting<G: Groups> {
    job: G::Job,
    /// When whoever brought it is told that nothing was done.
    give_up: Instant,
    answer: oneshot::Sender<StoreResult<G::Outcome>>,
}

/// A handle to the committers; they end when the last handle is dropped.
pub struct GroupCommit<G: Groups> {
    waiting: mpsc::Sender<Waiting<G>>,
}

impl<G: Groups> Clone for GroupCommit<G> {
    fn clone(&self) -> Self {
        Self { waiting: self.waiting.clone() }
    }
}

impl<G: Groups> GroupCommit<G> {
    /// Starts so many committers on `tasks`.
    pub fn start(groups: G, committers: usize, tasks: &TaskTracker) -> Self {
        let (waiting, receiver) = mpsc::channel(WAITING_MAX);
        let (groups, receiver) = (Arc::new(groups), Arc::new(Mutex::new(receiver)));
        for _ in 0..committers {
            tasks.spawn(commit_groups(groups.clone(), receiver.clone()));
        }
        Self { waiting }
    }

    /// Has a job done; answers after the commit that holds it.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`] if the store did not commit it in time.
    pub async fn commit(&self, job: G::Job) -> StoreResult<G::Outcome> {
        let give_up = Instant::now() + G::ANSWER_TIMEOUT;
        let ended = || StoreError::Unavailable("the committers have ended".into());
        let commit = async {
            let (answer, committed) = oneshot::channel();
            let sent = self.waiting.send(Waiting { job, give_up, answer }).await;
            sent.map_err(|_| ended())?;
            committed.await.map_err(|_| ended())?
        };
        match tokio::time::timeout_at(give_up, commit).await {
            Ok(result) => result,
            Err(_) => Err(StoreError::Unavailable(LATE.into())),
        }
    }
}

async fn commit_groups<G: Groups>(
    groups: Arc<G>,
    receiver: Arc<Mutex<mpsc::Receiver<Waiting<G>>>>,
) {
    loop {
        let mut waiting = receiver.lock().await;
        let Some(first) = waiting.recv().await else { return };
        let group = gather(&mut waiting, first).await;
        drop(waiting);
        let Some(give_up) = group.iter().map(|waiting| waiting.give_up).min() else {
            continue;
        };
        let (jobs, answers): (Vec<_>, Vec<_>) =
            group.into_iter().map(|waiting| (waiting.job, waiting.answer)).unzip();
        match groups.commit(jobs, give_up).await {
            Ok(outcomes) => {
                for (answer, outcome) in answers.into_iter().zip(outcomes) {
                    // Whoever has gone away needs no answer.
                    let _ = answer.send(Ok(outcome));
                }
            }
            Err(error) => {
                for answer in answers {
                    let _ = answer.send(Err(error.clone()));
                }
            }
        }
    }
}

/// Takes along what waits behind a job. Empty if nobody waits any more.
async fn gather<G: Groups>(
    receiver: &mut mpsc::Receiver<Waiting<G>>,
    first: Waiting<G>,
) -> Vec<Waiting<G>> {
    let mut group = Vec::new();
    let (mut items, mut bytes) = (0, 0);
    let linger_until = Instant::now() + G::LINGER;
    let mut is_urgent = false;
    // Those that are just being brought come along, for as long as there are any.
    let mut waiting = None;
    while waiting != Some(receiver.len()) && receiver.len() < G::JOBS_MAX {
        waiting = Some(receiver.len());
        tokio::task::yield_now().await;
    }
    let mut next = Some(first);
    while let Some(waiting) = next {
        // Whoever gave up, or is about to, is told that nothing was done.
        if waiting.give_up <= Instant::now() + COMMIT_TIME_MIN {
            let _ = waiting.answer.send(Err(StoreError::Unavailable(LATE.into())));
        } else if !waiting.answer.is_closed() {
            is_urgent |= G::is_urgent(&waiting.job);
            let (its_items, its_bytes) = G::weight(&waiting.job);
            items += its_items;
            bytes += its_bytes;
            group.push(waiting);
        }
        if group.len() >= G::JOBS_MAX || items >= G::ITEMS_MAX || bytes >= G::BYTES_MAX {
            break;
        }
        next = match receiver.try_recv() {
            Ok(waiting) => Some(waiting),
            Err(_) if is_urgent || group.is_empty() => None,
            Err(_) => tokio::time::timeout_at(linger_until, receiver.recv()).await.ok().flatten(),
        };
    }
    group
}
