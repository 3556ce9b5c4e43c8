//! Running a test: its runtime, its store, and the bounds of everything it waits for.

use std::future::Future;
use std::pin::pin;
use std::time::{Duration, Instant};

use super::redis_server::RedisServer;

/// Now, in milliseconds since the epoch.
pub fn now_ms() -> u64 {
    std::time::SystemTime::UNIX_EPOCH.elapsed().unwrap().as_millis() as u64
}

/// How long a whole test may take. What takes longer hangs.
const TEST_LIMIT: Duration = Duration::from_secs(90);
/// How long something that happens "soon" may take on a busy machine.
const SOON: Duration = Duration::from_secs(40);
/// How often something is looked at that cannot be awaited.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// Where the bus under test keeps everything.
pub enum Store {
    Sqlite,
    Redis(RedisServer),
}

impl Store {
    pub fn sqlite() -> Self {
        Store::Sqlite
    }

    pub fn redis() -> Self {
        Store::Redis(RedisServer::start())
    }

    /// A Redis that has everything on disk before it answers.
    pub fn redis_with_aof() -> Self {
        Store::Redis(RedisServer::start_with_aof())
    }

    /// The Redis, to do harm to it.
    pub fn server(&mut self) -> &mut RedisServer {
        match self {
            Store::Redis(server) => server,
            Store::Sqlite => panic!("there is no Redis"),
        }
    }

    /// The value of `ROUTEMASTER_REDIS_URL`; none for SQLite.
    pub fn url(&self) -> Option<String> {
        match self {
            Store::Sqlite => None,
            Store::Redis(server) => Some(server.url()),
        }
    }
}

/// Runs a test to its end, or panics when it takes longer than any test may.
pub fn run(test: impl Future<Output = ()>) {
    // Tests of one process share it; who comes second finds it done.
    let _ = routemaster::tls::install_provider();
    let mut builder = tokio::runtime::Builder::new_multi_thread();
    let runtime = builder.worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(async {
        // The test lives until after the panic, so that its processes tell what they printed.
        let mut test = pin!(test);
        let finished = tokio::time::timeout(TEST_LIMIT, test.as_mut()).await;
        assert!(finished.is_ok(), "the test hangs: it was not done after {TEST_LIMIT:?}");
    });
    runtime.shutdown_background();
}

/// Waits for something that happens by itself within a short time.
pub async fn soon<T>(what: &str, future: impl Future<Output = T>) -> T {
    within(SOON, what, future).await
}

/// Waits for something that must happen within `limit`.
pub async fn within<T>(limit: Duration, what: &str, future: impl Future<Output = T>) -> T {
    let Ok(value) = tokio::time::timeout(limit, future).await else {
        panic!("this did not happen within {limit:?}: {what}");
    };
    value
}

/// Looks again and again until `look` finds something; returns it and how long that took.
pub async fn eventually<T>(what: &str, mut look: impl AsyncFnMut() -> Option<T>) -> (T, Duration) {
    let start = Instant::now();
    let found = soon(what, async {
        loop {
            if let Some(found) = look().await {
                return found;
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
    });
    (found.await, start.elapsed())
}
