//! Machines on simulated time: each has one core, which takes work in the order in which it comes.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::time::Instant;

/// A machine with one core.
pub struct Machine {
    /// When it has done what it was given.
    free_at: Mutex<Instant>,
    is_gone: AtomicBool,
}

impl Machine {
    pub fn new() -> Self {
        Self { free_at: Mutex::new(Instant::now()), is_gone: AtomicBool::new(false) }
    }

    /// Works for so long, when the core is free; never comes back on a machine that has died.
    pub async fn work(&self, time: Duration) {
        self.unless_gone().await;
        tokio::time::sleep_until(self.takes(time)).await;
        self.unless_gone().await;
    }

    /// Takes work of so long; when it is done. A clock that is simulated goes in steps of a millisecond: who waits for
    /// several things waits once for all.
    pub fn takes(&self, time: Duration) -> Instant {
        let mut free_at = self.free_at.lock().unwrap();
        *free_at = (*free_at).max(Instant::now()) + time;
        *free_at
    }

    /// Nothing on it ever goes on.
    pub fn dies(&self) {
        self.is_gone.store(true, Ordering::Relaxed);
    }

    /// Never comes back on a machine that has died.
    pub async fn unless_gone(&self) {
        if self.is_gone.load(Ordering::Relaxed) {
            std::future::pending::<()>().await;
        }
    }
}
