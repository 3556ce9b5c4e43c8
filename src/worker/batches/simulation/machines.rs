//! Machines on simulated time: cores that take work in the order in which it comes.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::time::Instant;

/// The cores of a machine.
pub struct Machine {
    /// When each core has done what it was given.
    free_at: Mutex<BinaryHeap<Reverse<Instant>>>,
    is_gone: AtomicBool,
}

impl Machine {
    pub fn new(cores: usize) -> Self {
        let now = Reverse(Instant::now());
        Self { free_at: Mutex::new(vec![now; cores].into()), is_gone: AtomicBool::new(false) }
    }

    /// Works for so long, when a core is free; never comes back on a machine that has died.
    pub async fn work(&self, time: Duration) {
        self.unless_gone().await;
        tokio::time::sleep_until(self.takes(time)).await;
        self.unless_gone().await;
    }

    /// Takes work of so long; when it is done. A clock that is simulated goes in steps of a millisecond: who waits for
    /// several things waits once for all.
    pub fn takes(&self, time: Duration) -> Instant {
        let mut free_at = self.free_at.lock().unwrap();
        let Reverse(free) = free_at.pop().unwrap();
        let done_at = free.max(Instant::now()) + time;
        free_at.push(Reverse(done_at));
        done_at
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
