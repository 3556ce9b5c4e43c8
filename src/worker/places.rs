//! How much a worker does at once.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::bus::process::PlacesInUse;

/// The places for what may be in flight.
pub struct Places {
    free: Arc<Semaphore>,
    max: usize,
    /// A place is also held by who looks for work.
    in_flight: AtomicUsize,
}

impl Places {
    pub fn new(max: usize) -> Self {
        Self { free: Arc::new(Semaphore::new(max)), max, in_flight: AtomicUsize::new(0) }
    }

    /// A place as soon as there is one.
    pub async fn take(&self) -> Option<OwnedSemaphorePermit> {
        // The semaphore is never closed.
        self.free.clone().acquire_owned().await.ok()
    }

    pub fn take_now(&self) -> Option<OwnedSemaphorePermit> {
        self.free.clone().try_acquire_owned().ok()
    }

    pub fn free(&self) -> usize {
        self.free.available_permits()
    }

    /// How many are in use by what is in flight.
    pub fn in_use(&self) -> PlacesInUse {
        let used = self.in_flight.load(Ordering::Relaxed) as u64;
        PlacesInUse { used, max: self.max as u64 }
    }

    /// Counts something as in flight until it is done.
    pub async fn count<T>(&self, something: impl Future<Output = T>) -> T {
        self.in_flight.fetch_add(1, Ordering::Relaxed);
        let done = something.await;
        self.in_flight.fetch_sub(1, Ordering::Relaxed);
        done
    }
}
