//! A store to test, empty, and short ways to use it.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use bytes::Bytes;
use tempfile::TempDir;

use super::redis_server::RedisServer;
use crate::bus::clock::Clock;
use crate::bus::health::Health;
use crate::bus::item::Item;
use crate::bus::position::EventPosition;
use crate::bus::subscription::options::DeliveryOptions;
use crate::bus::subscription::{
    CallbackUrl, Retention, Subscription, SubscriptionStatus, Target, Terms,
};
use crate::bus::token::ClientToken;
use crate::bus::topic::{Topic, TopicName};
use crate::store::redis::{RedisOptions, RedisStore};
use crate::store::sqlite::SqliteStore;
use crate::store::{
    BatchOutcome, BatchSettled, BatchSettlement, Drops, Lane, LeasedBatch, Publication, Published,
    QueueClaim, QueueLease, Store, StoreResult, Subscribed,
};

/// Makes three tests, `<name>::sqlite`, `<name>::redis` and `<name>::redis_in_lanes`, of each
/// `async fn name(f: &Fixture)`. A function that is not named here is reported as unused.
macro_rules! on_all_stores {
    ($($name:ident),+ $(,)?) => {
        on_both_stores!($($name),+);

        mod redis_in_lanes {
            use crate::store::conformance::fixture::Fixture;

            $(
                #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
                async fn $name() {
                    super::$name(&Fixture::redis_in_lanes()).await;
                }
            )+
        }
    };
}
pub(crate) use on_all_stores;

/// As [`on_all_stores`], for what holds within one lane of a store.
macro_rules! on_both_stores {
    ($($name:ident),+ $(,)?) => { $(
        mod $name {
            use crate::store::conformance::fixture::Fixture;

            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn sqlite() {
                super::$name(&Fixture::sqlite()).await;
            }

            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn redis() {
                super::$name(&Fixture::redis()).await;
            }
        }
    )+ };
}
pub(crate) use on_both_stores;

/// A lease that does not run out during a test.
pub const LEASE: Duration = Duration::from_secs(60);
/// A lease that runs out during a test.
pub const SHORT_LEASE: Duration = Duration::from_millis(200);
/// A time that does not come during a test.
pub const HOUR: Duration = Duration::from_secs(3600);
/// The client that [`Fixture::publish`] publishes as.
pub const PUBLISHER: &str = "publisher";

const EVENTUALLY: Duration = Duration::from_secs(10);
const POLL: Duration = Duration::from_millis(10);

pub struct Fixture {
    pub store: Arc<dyn Store>,
    time: TestTime,
    // After `store`, so that the store is closed before what it stands on goes.
    backend: Backend,
}

enum Backend {
    Sqlite(TempDir),
    Redis(RedisServer),
}

/// The machine's time, which a test may move forward for a store that asks us for the time.
#[derive(Clone, Default)]
struct TestTime {
    ahead_ms: Arc<AtomicU64>,
}

impl TestTime {
    fn clock(&self) -> Clock {
        let (system, ahead_ms) = (Clock::system(), self.ahead_ms.clone());
        Clock::new(move || system.now_ms() + ahead_ms.load(Ordering::SeqCst))
    }
}

/// How many topics one client may have.
pub const MAX_TOPICS: u32 = 1_000;

impl Fixture {
    pub fn sqlite() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let time = TestTime::default();
        let store = SqliteStore::open(directory.path(), time.clock()).unwrap();
        let store = store.with_max_topics(MAX_TOPICS);
        Self { store: Arc::new(store), time, backend: Backend::Sqlite(directory) }
    }

    pub fn redis() -> Self {
        Self::on_redis(RedisServer::start())
    }

    pub fn on_redis(server: RedisServer) -> Self {
        Self::on_redis_in_lanes(server, 1)
    }

    /// A Redis with its subscribers in several lanes, as a Cluster has them.
    pub fn redis_in_lanes() -> Self {
        Self::on_redis_in_lanes(RedisServer::start(), 5)
    }

    fn on_redis_in_lanes(server: RedisServer, lanes: usize) -> Self {
        let plain = RedisOptions::plain(&server.url());
        let options = RedisOptions { lanes: Some(lanes), max_topics: Some(MAX_TOPICS), ..plain };
        let store = RedisStore::open(&options).unwrap();
        let time = TestTime::default();
        Self { store: Arc::new(store), time, backend: Backend::Redis(server) }
    }

    /// Opens the same data again, as another process does.
    pub fn open_another(&self) -> Arc<dyn Store> {
        match &self.backend {
            Backend::Sqlite(directory) => {
                Arc::new(SqliteStore::open(directory.path(), self.time.clock()).unwrap())
            }
            Backend::Redis(server) => {
                Arc::new(RedisStore::open(&RedisOptions::plain(&server.url())).unwrap())
            }
        }
    }

    /// Closes the store and opens it again, as a process that is restarted does.
    pub fn reopen(&mut self) {
        self.store = self.open_another();
    }

    /// The directory of the embedded store.
    pub fn path(&self) -> &Path {
        match &self.backend {
            Backend::Sqlite(directory) => directory.path(),
            Backend::Redis(_) => panic!("this store has no directory"),
        }
    }

    pub fn server(&mut self) -> &mut RedisServer {
        match &mut self.backend {
            Backend::Redis(server) => server,
            Backend::Sqlite(_) => panic!("this store has no server"),
        }
    }

    /// What the store takes for the time, in milliseconds since the epoch.
    pub fn now_ms(&self) -> u64 {
        self.time.clock().now_ms()
    }

    /// Lets time pass for the store. Redis has its own clock, which has to be waited for.
    pub async fn pass(&self, time: Duration) {
        match &self.backend {
            Backend::Redis(_) => tokio::time::sleep(time).await,
            Backend::Sqlite(_) => {
                self.time.ahead_ms.fetch_add(time.as_millis() as u64, Ordering::SeqCst);
                tokio::task::yield_now().await;
            }
        }
    }

    /// Sets the clock of the embedded store back; it must have been moved forward before.
    pub fn set_back(&self, time: Duration) {
        self.time.ahead_ms.fetch_sub(time.as_millis() as u64, Ordering::SeqCst);
    }

    /// Tries, while time passes, until there is a result.
    pub async fn eventually<T>(
        &self,
        what: &str,
        mut attempt: impl AsyncFnMut() -> Option<T>,
    ) -> T {
        let give_up = Instant::now() + EVENTUALLY;
        loop {
            if let Some(result) = attempt().await {
                return result;
            }
            assert!(Instant::now() < give_up, "not within {EVENTUALLY:?}: {what}");
            self.pass(POLL).await;
        }
    }

    /// Subscribes, creating the topics, with a batch due at once unless `change` says otherwise.
    pub async fn subscribe(
        &self,
        subscriber: &str,
        topics: &[&str],
        change: impl FnOnce(&mut Terms),
    ) {
        let request = subscription(topics, change).into();
        let subscribed = self.store.subscribe(&client(subscriber), &request, true).await;
        assert_eq!(subscribed.unwrap(), Subscribed::Done);
    }

    /// Publishes in one publication, as [`PUBLISHER`].
    pub async fn publish<T: AsRef<str>>(&self, topic: &str, texts: &[T]) {
        let published =
            self.store.publish_placeless(vec![publication(PUBLISHER, topic, texts)]).await;
        assert_eq!(published.unwrap(), [STORED]);
    }

    /// Publishes each item by itself: publisher, topic, item.
    pub async fn publish_group(&self, group: &[(&str, &str, &str)]) -> Vec<Published> {
        let publications = group.iter().map(|(by, topic, text)| publication(by, topic, &[text]));
        self.store.publish_placeless(publications.collect()).await.unwrap()
    }

    pub async fn claim(&self, limit: usize) -> QueueClaim {
        self.store.claim_all(limit, LEASE).await.unwrap()
    }

    /// Claims the only queue that is due.
    pub async fn claim_one(&self) -> LeasedBatch {
        self.claim_one_for(LEASE).await
    }

    pub async fn claim_one_for(&self, lease: Duration) -> LeasedBatch {
        let mut batches = self.store.claim_all(10, lease).await.unwrap().batches;
        assert_eq!(batches.len(), 1, "queues given out: {batches:?}");
        batches.remove(0)
    }

    /// Checks that no queue is due, and says when the next one is.
    pub async fn claim_none(&self) -> Option<Duration> {
        let claim = self.claim(10).await;
        assert!(claim.batches.is_empty(), "nothing should be due: {claim:?}");
        claim.next_due
    }

    /// Waits until a queue is due and claims it.
    pub async fn claim_eventually(&self) -> LeasedBatch {
        self.eventually("a queue is due", async || self.claim(1).await.batches.pop()).await
    }

    pub async fn settle(&self, lease: &QueueLease, outcome: BatchOutcome) -> BatchSettled {
        let settlement = settlement(lease, outcome);
        self.store.settle_one(settlement, LEASE).await.unwrap()
    }

    /// Acknowledges and asks for the next batch.
    pub async fn acknowledge_and_take(&self, lease: &QueueLease) -> BatchSettled {
        let settlement =
            BatchSettlement { take_next: true, ..settlement(lease, BatchOutcome::Acknowledged) };
        self.store.settle_one(settlement, LEASE).await.unwrap()
    }

    /// Takes and acknowledges all that is due; what each subscriber received, in order.
    pub async fn drain(&self) -> BTreeMap<String, Vec<String>> {
        let mut received: BTreeMap<String, Vec<String>> = BTreeMap::new();
        loop {
            let batches = self.claim(100).await.batches;
            if batches.is_empty() {
                return received;
            }
            for leased in batches {
                let subscriber = leased.lease.subscriber.reveal().to_owned();
                received.entry(subscriber).or_default().extend(texts(&leased));
                let settled = self.settle(&leased.lease, BatchOutcome::Acknowledged).await;
                assert!(matches!(settled, BatchSettled::Released), "{settled:?}");
            }
        }
    }

    /// Drops what fairly has to go for so many bytes, or a step of it.
    pub async fn drop_oldest(&self, bytes: u64) -> Drops {
        let shares = self.store.droppable(Lane::HOME).await.unwrap().fair_shares(bytes);
        self.store.drop_oldest(Lane::HOME, bytes, &shares).await.unwrap()
    }

    pub async fn status(&self, subscriber: &str) -> SubscriptionStatus {
        let all = self.store.subscriptions().await.unwrap();
        let found = all.into_iter().find(|status| status.subscriber == client(subscriber));
        found.expect("the subscriber is known")
    }

    pub async fn topic(&self, name: &str) -> Topic {
        let all = self.store.topics().await.unwrap();
        all.into_iter().find(|known| known.name == topic(name)).expect("the topic is known")
    }
}

/// A store as a whole, whatever its lanes.
#[async_trait]
pub trait WholeStore {
    /// Publishes, whatever positions the events get: [`STORED`] is what was stored.
    async fn publish_placeless(
        &self,
        publications: Vec<Publication>,
    ) -> StoreResult<Vec<Published>>;

    /// Claims in all lanes, up to `limit` queues together.
    async fn claim_all(&self, limit: usize, lease: Duration) -> StoreResult<QueueClaim>;

    async fn renew_all(
        &self,
        leases: &[QueueLease],
        lease: Duration,
    ) -> StoreResult<Vec<QueueLease>>;

    /// Settles one batch, in the lane that it is of.
    async fn settle_one(
        &self,
        settlement: BatchSettlement,
        lease: Duration,
    ) -> StoreResult<BatchSettled>;
}

#[async_trait]
impl WholeStore for Arc<dyn Store> {
    async fn publish_placeless(
        &self,
        publications: Vec<Publication>,
    ) -> StoreResult<Vec<Published>> {
        let placeless = |published| match published {
            Published::Stored(_) => STORED,
            other => other,
        };
        let published = self.publish(publications, soon()).await?;
        Ok(published.into_iter().map(placeless).collect())
    }

    async fn claim_all(&self, limit: usize, lease: Duration) -> StoreResult<QueueClaim> {
        let mut all = QueueClaim::default();
        for lane in Lane::first(self.lanes().await?) {
            // All queues' leases end: when the next one does is asked for with a limit of 0.
            let claim = self.claim_queues(lane, limit - all.batches.len(), lease).await?;
            all.batches.extend(claim.batches);
            all.next_due = all.next_due.into_iter().chain(claim.next_due).min();
        }
        Ok(all)
    }

    async fn renew_all(
        &self,
        leases: &[QueueLease],
        lease: Duration,
    ) -> StoreResult<Vec<QueueLease>> {
        let lanes = self.lanes().await?;
        let mut lost = leases.to_vec();
        for lane in Lane::first(lanes) {
            // Another lane knows nothing of a lease.
            let unknown = self.renew_queues(lane, leases, lease).await?;
            lost.retain(|lease| unknown.contains(lease));
        }
        Ok(lost)
    }

    async fn settle_one(
        &self,
        settlement: BatchSettlement,
        lease: Duration,
    ) -> StoreResult<BatchSettled> {
        for lane in Lane::first(self.lanes().await?) {
            let settled = self.settle_batches(lane, vec![settlement.clone()], lease).await?;
            let settled = settled.into_iter().next().expect("an answer for each");
            // Another lane knows nothing of a lease.
            if !matches!(settled, BatchSettled::Stale) {
                return Ok(settled);
            }
        }
        Ok(BatchSettled::Stale)
    }
}

/// What was stored, somewhere.
pub const STORED: Published = Published::Stored(EventPosition::BEFORE_ALL);

/// When a publish gives up.
pub fn soon() -> tokio::time::Instant {
    tokio::time::Instant::now() + Duration::from_secs(4)
}

pub fn topic(name: &str) -> TopicName {
    TopicName::parse(name, 32).unwrap()
}

pub fn client(token: &str) -> ClientToken {
    ClientToken::parse(token).unwrap()
}

pub fn callback(url: &str) -> Target {
    Target::Callback(CallbackUrl::parse(url).unwrap())
}

pub fn subscription(topics: &[&str], change: impl FnOnce(&mut Terms)) -> Subscription {
    let mut terms = Terms {
        target: callback("https://receiver.example/events"),
        uuid: None,
        timeout: Duration::ZERO,
        max: 100,
    };
    change(&mut terms);
    let topics = topics.iter().map(|name| topic(name)).collect();
    let options = DeliveryOptions::default();
    Subscription { topics, terms, retention: Retention::default(), options }
}

/// The settings that [`subscription`] gives.
pub fn plain(_: &mut Terms) {}

pub fn publication<T: AsRef<str>>(publisher: &str, topic_name: &str, texts: &[T]) -> Publication {
    Publication {
        topic: topic(topic_name),
        publisher: client(publisher),
        items: texts.iter().map(|text| Bytes::copy_from_slice(text.as_ref().as_bytes())).collect(),
        key: None,
    }
}

pub fn settlement(lease: &QueueLease, outcome: BatchOutcome) -> BatchSettlement {
    BatchSettlement {
        lease: lease.clone(),
        outcome,
        failure: None,
        health: Health::MAX,
        take_next: false,
    }
}

pub fn text(item: &Item) -> String {
    String::from_utf8(item.to_vec()).unwrap()
}

pub fn texts(leased: &LeasedBatch) -> Vec<String> {
    leased.batch.items.iter().map(|queued| text(&queued.item)).collect()
}

/// `from` to `to`, both included, as items.
pub fn numbers(from: u32, to: u32) -> Vec<String> {
    (from..=to).map(|number| number.to_string()).collect()
}

/// Checks that something is due after `expected`, less the time that the test took so far.
pub fn assert_due_after(next_due: Option<Duration>, expected: Duration) {
    let next_due = next_due.expect("something waits");
    assert!(
        next_due <= expected && next_due + Duration::from_secs(20) >= expected,
        "due in {next_due:?}, not in {expected:?}"
    );
}
