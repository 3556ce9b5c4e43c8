//! How much a worker does at once.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};

use crate::bus::process::PlacesInUse;

/// The places for what may be in flight.
pub struct Places {
    free: Arc<Semaphore>,
    max: usize,
    /// Nobody comes in any more, for now.
    closed: watch::Sender<bool>,
    /// A place is also held by who looks for work.
    in_flight: AtomicUsize,
}

impl Places {
    pub fn new(max: usize) -> Self {
        Self {
            free: Arc::new(Semaphore::new(max)),
            max,
            closed: watch::Sender::new(false),
            in_flight: AtomicUsize::new(0),
        }
    }

    /// Lets nobody in any more, or again; what is in flight is not touched.
    pub fn close(&self, is_closed: bool) {
        self.closed.send_replace(is_closed);
    }

    pub fn is_closed(&self) -> bool {
        *self.closed.borrow()
    }

    /// A place as soon as there is one, and somebody may come in.
    pub async fn take(&self) -> Option<OwnedSemaphorePermit> {
        let mut closed = self.closed.subscribe();
        loop {
            // Neither the sender nor the semaphore ever goes before this does.
            closed.wait_for(|is_closed| !is_closed).await.ok()?;
            let place = self.free.clone().acquire_owned().await.ok()?;
            if !*closed.borrow() {
                return Some(place);
            }
        }
    }

    pub fn take_now(&self) -> Option<OwnedSemaphorePermit> {
        self.free.clone().try_acquire_owned().ok().filter(|_| !self.is_closed())
    }

    /// How many may come in now.
    pub fn free(&self) -> usize {
        if self.is_closed() { 0 } else { self.free.available_permits() }
    }

    /// How many are in use by what is in flight.
    pub fn in_use(&self) -> PlacesInUse {
        let used = self.in_flight.load(Ordering::Relaxed) as u64;
        PlacesInUse { used, max: self.max as u64 }
    }

    /// How scarce places are to others than who asks, and has one: 0 while half of them are free, 1 when none is.
    pub fn scarcity(&self) -> f64 {
        let others = (self.free.available_permits() + 1) as f64;
        (1.0 - 2.0 * others / self.max as f64).clamp(0.0, 1.0)
    }

    /// Counts something as in flight until it is done.
    pub async fn count<T>(&self, something: impl Future<Output = T>) -> T {
        self.in_flight.fetch_add(1, Ordering::Relaxed);
        let done = something.await;
        self.in_flight.fetch_sub(1, Ordering::Relaxed);
        done
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_scarce_when_more_than_half_are_taken_by_others() {
        let scarcity = |max: usize, taken: usize| {
            let places = Places::new(max);
            let _held: Vec<_> = (0..taken).filter_map(|_| places.take_now()).collect();
            places.scarcity()
        };
        assert_eq!(scarcity(1, 1), 0.0, "there is nobody else");
        assert_eq!(scarcity(2, 2), 0.0, "half is left to each");
        assert_eq!(scarcity(1_000, 1), 0.0);
        assert_eq!(scarcity(1_000, 501), 0.0);
        assert!((scarcity(1_000, 751) - 0.5).abs() < 0.01);
        assert!(scarcity(1_000, 1_000) > 0.99);
    }
}
