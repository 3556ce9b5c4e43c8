//! How many connections are served at once, and how many of them may be one address's.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};

use ipnet::IpNet;

use super::limits::network;
use crate::telemetry::sparing::SparingLine;

/// How many connections there may be.
#[derive(Clone, Debug)]
pub struct PlaceLimits {
    /// In all.
    pub total: usize,
    /// From one address; none where a proxy stands before the bus and all come from there.
    pub per_address: Option<usize>,
    /// Networks whose addresses may hold as many as there are, such as those of balancers.
    pub trusted: Vec<IpNet>,
}

/// The places of all connections.
pub struct Places {
    limits: PlaceLimits,
    taken: Mutex<Taken>,
    full: SparingLine,
}

#[derive(Default)]
struct Taken {
    total: usize,
    by_address: HashMap<IpAddr, usize>,
}

/// A connection's place; free again when it is dropped.
pub struct Place {
    places: Arc<Places>,
    address: IpAddr,
}

/// There is no place for a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoPlace {
    #[error("as many connections are open as there may be")]
    Full,
    #[error("this address has as many connections open as one may have")]
    AddressFull,
}

impl Places {
    pub fn new(limits: PlaceLimits) -> Arc<Self> {
        Arc::new(Self { limits, taken: Mutex::default(), full: SparingLine::new() })
    }

    /// A place for a connection from this address; what is full is logged.
    ///
    /// # Errors
    /// If there is none.
    pub fn take(self: &Arc<Self>, peer: IpAddr) -> Result<Place, NoPlace> {
        let address = network(peer);
        let taken = self.count(address, peer);
        if let Err(error) = taken
            && let Some(untold) = self.full.is_due()
        {
            let (max, per_address) = (self.limits.total, self.limits.per_address);
            tracing::warn!(
                %peer,
                max,
                per_address,
                untold,
                "closed a new connection: {error}; see ROUTEMASTER_MAX_CONNECTIONS and \
                 ROUTEMASTER_MAX_CONNECTIONS_PER_ADDRESS"
            );
        }
        taken.map(|()| Place { places: self.clone(), address })
    }

    fn count(&self, address: IpAddr, peer: IpAddr) -> Result<(), NoPlace> {
        let is_trusted =
            || self.limits.trusted.iter().any(|net| net.contains(&peer.to_canonical()));
        let mut taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        if taken.total >= self.limits.total {
            return Err(NoPlace::Full);
        }
        let held = taken.by_address.get(&address).copied().unwrap_or(0);
        if self.limits.per_address.is_some_and(|max| held >= max) && !is_trusted() {
            return Err(NoPlace::AddressFull);
        }
        taken.total += 1;
        taken.by_address.insert(address, held + 1);
        Ok(())
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut taken = self.places.taken.lock().unwrap_or_else(PoisonError::into_inner);
        taken.total -= 1;
        if let Some(held) = taken.by_address.get_mut(&self.address) {
            *held -= 1;
            if *held == 0 {
                taken.by_address.remove(&self.address);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_address_has_a_part_of_the_places_and_a_trusted_one_all() {
        let limits = PlaceLimits {
            total: 4,
            per_address: Some(2),
            trusted: vec!["10.0.0.0/8".parse().unwrap()],
        };
        let places = Places::new(limits);
        let take = |text: &str| places.take(text.parse().unwrap());
        let first = take("192.0.2.1").unwrap();
        let _second = take("::ffff:192.0.2.1").unwrap();
        assert_eq!(take("192.0.2.1").err(), Some(NoPlace::AddressFull));
        drop(first);
        let _third = take("192.0.2.1").unwrap();
        let _balancers = [take("10.1.2.3").unwrap(), take("10.1.2.3").unwrap()];
        assert_eq!(take("10.1.2.3").err(), Some(NoPlace::Full));
        drop(_balancers);
        assert_eq!(places.taken.lock().unwrap().by_address.len(), 1, "none is remembered in vain");
        let _others = [take("10.1.2.3").unwrap(), take("192.0.2.2").unwrap()];
    }
}
