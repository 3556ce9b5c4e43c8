//! Ingest: publishes that arrive at the same time share one commit of the store.
//!
//! Each publisher waits for the commit that holds its events. While one runs, the next group
//! gathers, so groups grow with the load and a lone publish does not wait for company.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Mutex, Notify, mpsc, oneshot};
use tokio::time::Instant;
use tokio_util::task::TaskTracker;

use crate::bus::topic::TopicName;
use crate::store::{Publication, Published, Store, StoreError, StoreResult};
use crate::telemetry::metrics::record;

/// How many publications wait at most; further publishers wait for a place, within their time.
const WAITING_MAX: usize = 4096;
/// Where a group ends: so many publications, so many items, or so many bytes.
const GROUP_MAX: usize = 512;
const GROUP_MAX_ITEMS: usize = 2_000;
const GROUP_MAX_BYTES: usize = 4 * 1024 * 1024;
/// Longest time until a publisher has its answer. A busy store answers 503 within 5 s.
const ANSWER_TIMEOUT: Duration = Duration::from_millis(4500);
/// A publication that has less time left is not begun with: a commit takes some, too, and the
/// whole group gives up when its first publisher does.
const COMMIT_TIME_MIN: Duration = Duration::from_millis(500);

struct Waiting {
    publication: Publication,
    /// When its publisher is told that nothing was stored.
    give_up: Instant,
    answer: oneshot::Sender<StoreResult<Published>>,
}

/// A handle to the committers; they end when the last handle is dropped.
#[derive(Clone)]
pub struct Ingest {
    waiting: mpsc::Sender<Waiting>,
}

impl Ingest {
    /// Starts the committers on `tasks`; `full` is notified when the store has no room left.
    pub fn start(store: &Arc<dyn Store>, full: &Arc<Notify>, tasks: &TaskTracker) -> Self {
        let (waiting, receiver) = mpsc::channel(WAITING_MAX);
        let receiver = Arc::new(Mutex::new(receiver));
        for _ in 0..store.commits_at_once() {
            tasks.spawn(commit_groups(store.clone(), full.clone(), receiver.clone()));
        }
        Self { waiting }
    }

    /// Stores a publication; answers after the commit that holds it.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`] if the store did not commit it in time.
    pub async fn publish(&self, publication: Publication) -> StoreResult<Published> {
        let give_up = Instant::now() + ANSWER_TIMEOUT;
        let ended = || StoreError::Unavailable("the committers have ended".into());
        let commit = async {
            let (answer, committed) = oneshot::channel();
            let sent = self.waiting.send(Waiting { publication, give_up, answer }).await;
            sent.map_err(|_| ended())?;
            committed.await.map_err(|_| ended())?
        };
        match tokio::time::timeout_at(give_up, commit).await {
            Ok(result) => result,
            Err(_) => Err(StoreError::Unavailable("no commit in time".into())),
        }
    }
}

async fn commit_groups(
    store: Arc<dyn Store>,
    full: Arc<Notify>,
    receiver: Arc<Mutex<mpsc::Receiver<Waiting>>>,
) {
    loop {
        let group = gather(&mut *receiver.lock().await).await;
        let Some(give_up) = group.iter().map(|waiting| waiting.give_up).min() else {
            return;
        };
        let (publications, answers): (Vec<_>, Vec<_>) =
            group.into_iter().map(|waiting| (waiting.publication, waiting.answer)).unzip();
        let counts: Vec<_> = publications
            .iter()
            .map(|publication| (publication.topic.clone(), publication.items.len()))
            .collect();
        match store.publish(publications, give_up).await {
            Ok(published) => {
                // Counted here: the events are stored, whether their publisher waits or not.
                record_stored(&counts, &published);
                for (answer, published) in answers.into_iter().zip(published) {
                    // A publisher that has gone away needs no answer.
                    let _ = answer.send(Ok(published));
                }
            }
            Err(error) => {
                if matches!(error, StoreError::Full(_)) {
                    full.notify_one();
                }
                for answer in answers {
                    let _ = answer.send(Err(error.clone()));
                }
            }
        }
    }
}

/// Counts the events that were stored, once for each topic.
fn record_stored(counts: &[(TopicName, usize)], published: &[Published]) {
    let mut stored: HashMap<&TopicName, usize> = HashMap::new();
    for ((topic, events), published) in counts.iter().zip(published) {
        if *published == Published::Stored {
            *stored.entry(topic).or_default() += events;
        }
    }
    for (topic, events) in stored {
        record::published(topic, events);
    }
}

/// Waits for a publication and takes along what else waits. Empty when all handles are gone.
async fn gather(receiver: &mut mpsc::Receiver<Waiting>) -> Vec<Waiting> {
    let mut group = Vec::new();
    let (mut items, mut bytes) = (0, 0);
    let mut next = receiver.recv().await;
    // Those whose requests are being read come along, for as long as there are any.
    let mut waiting = None;
    while waiting != Some(receiver.len()) && receiver.len() < GROUP_MAX {
        waiting = Some(receiver.len());
        tokio::task::yield_now().await;
    }
    while let Some(waiting) = next {
        // A publisher that gave up, or is about to, is told that its events are not stored.
        let in_time = waiting.give_up > Instant::now() + COMMIT_TIME_MIN;
        if in_time && !waiting.answer.is_closed() {
            items += waiting.publication.items.len();
            bytes += waiting.publication.items.iter().map(|item| item.len()).sum::<usize>();
            group.push(waiting);
        }
        if group.len() >= GROUP_MAX || items >= GROUP_MAX_ITEMS || bytes >= GROUP_MAX_BYTES {
            break;
        }
        next = match (receiver.try_recv(), group.is_empty()) {
            (Ok(waiting), _) => Some(waiting),
            (Err(_), true) => receiver.recv().await,
            (Err(_), false) => None,
        };
    }
    group
}
