//! The leases that this worker holds, renewed until they are settled.
//!
//! A lease that was not renewed in time belongs to somebody else by now, perhaps: its delivery is
//! broken off, so that a subscriber has one delivery in flight (contract §4), and a call is made once at a time.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::Instant;

use async_trait::async_trait;

use crate::store::{
    BatchStore, CallLease, Lane, Lanes, QueueLease, Store, StoreError, StoreResult,
};

/// How long a lease holds without being renewed: the queues and calls of a worker that was killed wait so
/// long for another one.
pub const LEASE: Duration = Duration::from_secs(6);
const RENEW_INTERVAL: Duration = Duration::from_millis(1500);
/// How long one try to renew may take, and the pause before the next one.
const RENEW_TIMEOUT: Duration = Duration::from_millis(1500);
const RETRY_PAUSE: Duration = Duration::from_millis(100);
/// How many leases one call renews.
const RENEW_MAX: usize = 1000;

/// What is leased, and can be renewed.
#[async_trait]
pub trait Lease: Clone + Eq + Hash + Send + Sync + 'static {
    /// What it is leased from.
    type Store: Lanes + ?Sized;

    /// Prolongs those that still hold; returns those that were lost.
    async fn renew(store: &Self::Store, lane: Lane, leases: &[Self]) -> StoreResult<Vec<Self>>;
}

#[async_trait]
impl Lease for QueueLease {
    type Store = dyn BatchStore;

    async fn renew(store: &dyn BatchStore, lane: Lane, leases: &[Self]) -> StoreResult<Vec<Self>> {
        store.renew_queues(lane, leases, LEASE).await
    }
}

#[async_trait]
impl Lease for CallLease {
    type Store = dyn Store;

    async fn renew(store: &dyn Store, lane: Lane, leases: &[Self]) -> StoreResult<Vec<Self>> {
        store.renew_calls(lane, leases, LEASE).await
    }
}

/// The leases of one lane, each with the time until which it holds. A lease that is lost is taken out.
pub struct Leases<L> {
    held: Mutex<HashMap<L, watch::Sender<Instant>>>,
}

impl<L> Default for Leases<L> {
    fn default() -> Self {
        Self { held: Mutex::default() }
    }
}

/// A lease that is renewed; no more so when this is dropped.
pub struct HeldLease<L: Lease> {
    leases: Arc<Leases<L>>,
    lease: L,
    valid_until: watch::Receiver<Instant>,
}

impl<L: Lease> HeldLease<L> {
    /// Completes when the lease is lost or has run out.
    pub async fn lost(&self) {
        let mut valid_until = self.valid_until.clone();
        loop {
            let until = *valid_until.borrow_and_update();
            tokio::select! {
                () = tokio::time::sleep_until(until) => return,
                renewed = valid_until.changed() => match renewed {
                    Ok(()) => {}
                    Err(_taken_out) => return,
                },
            }
        }
    }

    /// Does something; `None` if the lease is lost before it is done.
    pub async fn unless_lost<T>(&self, something: impl Future<Output = T>) -> Option<T> {
        tokio::select! {
            output = something => Some(output),
            () = self.lost() => None,
        }
    }
}

impl<L: Lease> Drop for HeldLease<L> {
    fn drop(&mut self) {
        self.leases.lock().remove(&self.lease);
    }
}

impl<L: Lease> Leases<L> {
    /// Takes charge of a lease that the store was asked for at `asked`.
    pub fn hold(self: &Arc<Self>, lease: &L, asked: Instant) -> HeldLease<L> {
        let (until, valid_until) = watch::channel(asked + LEASE);
        self.lock().insert(lease.clone(), until);
        HeldLease { leases: self.clone(), lease: lease.clone(), valid_until }
    }

    /// Renews all leases in time, without end.
    pub async fn keep_renewed(&self, store: &L::Store, lane: Lane) {
        loop {
            tokio::time::sleep(RENEW_INTERVAL).await;
            let leases: Vec<L> = self.lock().keys().cloned().collect();
            for some in leases.chunks(RENEW_MAX) {
                while !self.renew(store, lane, some).await && self.holds_any(some) {
                    tokio::time::sleep(RETRY_PAUSE).await;
                }
            }
        }
    }

    /// Whether some of these are held and have not run out.
    fn holds_any(&self, leases: &[L]) -> bool {
        let (held, now) = (self.lock(), Instant::now());
        leases.iter().any(|lease| held.get(lease).is_some_and(|until| *until.borrow() > now))
    }

    /// Renews these, if the store answers in time.
    async fn renew(&self, store: &L::Store, lane: Lane, leases: &[L]) -> bool {
        let asked = Instant::now();
        let renewed = tokio::time::timeout(RENEW_TIMEOUT, L::renew(store, lane, leases)).await;
        let late = |_| Err(StoreError::Unavailable("no answer in time".into()));
        match renewed.unwrap_or_else(late) {
            Ok(lost) => {
                let mut held = self.lock();
                for lease in lost {
                    held.remove(&lease);
                }
                for until in leases.iter().filter_map(|lease| held.get(lease)) {
                    until.send_replace(asked + LEASE);
                }
                true
            }
            Err(error) => {
                tracing::debug!(%error, "failed to renew leases; trying again");
                false
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<L, watch::Sender<Instant>>> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
