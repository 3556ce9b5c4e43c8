//! What the Redis server's clock shows, as far as its last answer tells.
//!
//! A command carries the server's time after which nobody waits for it. The two machines' clocks
//! need not agree for that: each answer says what the server's clock shows.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// When the server's clock was last read, and what it showed, in milliseconds since the epoch.
#[derive(Default)]
pub struct ServerTime(Mutex<Option<(Instant, u64)>>);

impl ServerTime {
    pub fn learn(&self, server_ms: u64) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some((Instant::now(), server_ms));
    }

    /// What the server's clock will show at a moment from now on; `None` if it was never read.
    ///
    /// It may be short by the time that the last answer took, never more.
    pub fn at(&self, moment: Instant) -> Option<u64> {
        let (read, server_ms) = (*self.0.lock().unwrap_or_else(PoisonError::into_inner))?;
        let since: Duration = moment.saturating_duration_since(read);
        Some(server_ms + since.as_millis() as u64)
    }
}
