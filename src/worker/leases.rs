//! The leases that this worker holds, renewed until they are settled.
//!
//! A lease that could not be renewed in time belongs to somebody else by now, perhaps: its
//! delivery is broken off, so that a subscriber has one delivery in flight (contract §4).

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::store::{Lease, Store};

/// How long a lease holds without being renewed. With a killed worker, its queues wait so long
/// for the next one, which the contract's part of the issue allows 10 s.
pub const LEASE: Duration = Duration::from_secs(6);
const RENEW_INTERVAL: Duration = Duration::from_millis(1500);
/// How many leases one call renews.
const RENEW_MAX: usize = 1000;

#[derive(Default)]
pub struct Leases {
    held: Mutex<HashMap<Lease, Held>>,
}

struct Held {
    valid_until: Instant,
    lost: CancellationToken,
}

/// A lease while its batch is delivered; forgotten when dropped.
pub struct HeldLease {
    leases: Arc<Leases>,
    lease: Lease,
    lost: CancellationToken,
}

impl HeldLease {
    /// Completes when the lease is lost.
    pub async fn lost(&self) {
        self.lost.cancelled().await;
    }
}

impl Drop for HeldLease {
    fn drop(&mut self) {
        self.leases.lock().remove(&self.lease);
    }
}

impl Leases {
    /// Takes charge of a lease that the store gave after `asked`.
    pub fn hold(self: &Arc<Self>, lease: &Lease, asked: Instant) -> HeldLease {
        let lost = CancellationToken::new();
        let held = Held { valid_until: asked + LEASE, lost: lost.clone() };
        self.lock().insert(lease.clone(), held);
        HeldLease { leases: self.clone(), lease: lease.clone(), lost }
    }

    /// Renews all leases in time, without end.
    pub async fn keep_renewed(&self, store: &dyn Store) {
        loop {
            tokio::time::sleep(RENEW_INTERVAL).await;
            let leases: Vec<Lease> = self.lock().keys().cloned().collect();
            for some in leases.chunks(RENEW_MAX) {
                self.renew(store, some).await;
            }
            self.drop_expired();
        }
    }

    async fn renew(&self, store: &dyn Store, leases: &[Lease]) {
        let asked = Instant::now();
        match store.renew(leases, LEASE).await {
            Ok(lost) => {
                let mut held = self.lock();
                for lease in leases {
                    if let Some(held) = held.get_mut(lease) {
                        held.valid_until = asked + LEASE;
                    }
                }
                for lease in lost {
                    if let Some(held) = held.remove(&lease) {
                        held.lost.cancel();
                    }
                }
            }
            Err(error) => tracing::debug!(%error, "failed to renew leases; trying again"),
        }
    }

    fn drop_expired(&self) {
        let now = Instant::now();
        self.lock().retain(|_, held| {
            let valid = held.valid_until > now;
            if !valid {
                held.lost.cancel();
            }
            valid
        });
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Lease, Held>> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
