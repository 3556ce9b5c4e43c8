//! The one source of wall-clock time, so that a test can set it.
//!
//! Wall-clock time stamps events and schedules queues on the embedded store. The Redis store
//! takes the time from the Redis server instead, so that machines need not agree on it.

use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

/// Tells the time. Cheap to clone; clones tell the same time.
#[derive(Clone)]
pub struct Clock(Arc<dyn Fn() -> u64 + Send + Sync>);

impl Clock {
    /// The machine's clock.
    pub fn system() -> Self {
        Self::new(|| {
            let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH);
            since_epoch.map_or(0, |elapsed| elapsed.as_millis() as u64)
        })
    }

    /// A clock that answers what `now_ms` returns.
    pub fn new(now_ms: impl Fn() -> u64 + Send + Sync + 'static) -> Self {
        Self(Arc::new(now_ms))
    }

    /// Milliseconds since the Unix epoch.
    pub fn now_ms(&self) -> u64 {
        (self.0)()
    }
}
