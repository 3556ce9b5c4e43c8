//! How much one client may publish, and how often one address may fail to authenticate.
//!
//! The counts are those of one process: with several web processes, a client may do so much at
//! each of them.

use std::hash::Hash;
use std::net::IpAddr;
use std::num::NonZeroU32;
use std::time::Duration;

use governor::clock::{Clock, DefaultClock};
use governor::state::keyed::DashMapStateStore;
use governor::{Quota, RateLimiter};

use crate::bus::token::ClientToken;

/// Failed authentications that one address may make: so many a second, after so many at once. A
/// known token passes however many others have failed, so that one service with a wrong token
/// does not lock out its neighbours behind the same address.
const FAILURES_PER_SECOND: NonZeroU32 = NonZeroU32::new(5).unwrap();
const FAILURES_AT_ONCE: NonZeroU32 = NonZeroU32::new(100).unwrap();
/// How often counts that have no effect any more are forgotten.
const SWEEP_INTERVAL: Duration = Duration::from_secs(60);
/// How many counts make a sweep necessary at once.
const COUNTS_MAX: usize = 100_000;

/// Something was done too often.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("too many {what}: try again in {} s", self.seconds())]
pub struct TooMany {
    what: &'static str,
    /// The time until there is room again.
    wait: Duration,
}

impl TooMany {
    /// Whole seconds after which there is room again.
    pub fn seconds(&self) -> u64 {
        self.wait.as_millis().div_ceil(1000) as u64
    }
}

pub struct Limits {
    /// `None`: unlimited.
    publishes: Option<Keyed<ClientToken>>,
    failures: Keyed<IpAddr>,
}

struct Keyed<K: Hash + Eq + Clone> {
    /// What is counted, in the plural.
    what: &'static str,
    limiter: RateLimiter<K, DashMapStateStore<K>, DefaultClock>,
    clock: DefaultClock,
}

impl<K: Hash + Eq + Clone> Keyed<K> {
    fn new(what: &'static str, per_second: NonZeroU32, at_once: NonZeroU32) -> Self {
        let quota = Quota::per_second(per_second).allow_burst(at_once);
        Self { what, limiter: RateLimiter::dashmap(quota), clock: DefaultClock::default() }
    }

    fn check(&self, key: &K) -> Result<(), TooMany> {
        if self.limiter.len() > COUNTS_MAX {
            self.sweep();
        }
        let full = |not_until: governor::NotUntil<_>| TooMany {
            what: self.what,
            wait: not_until.wait_time_from(self.clock.now()),
        };
        self.limiter.check_key(key).map_err(full)
    }

    /// Forgets the counts of those that have all their room again.
    fn sweep(&self) {
        self.limiter.retain_recent();
        self.limiter.shrink_to_fit();
    }
}

impl Limits {
    /// Publishes that one client may make: so many a second on the average, so many at once; any
    /// number without a rate.
    pub fn new(publish_rate: Option<NonZeroU32>, publish_burst: Option<NonZeroU32>) -> Self {
        Self {
            publishes: publish_rate
                .map(|rate| Keyed::new("publishes", rate, publish_burst.unwrap_or(rate))),
            failures: Keyed::new("failed authentications", FAILURES_PER_SECOND, FAILURES_AT_ONCE),
        }
    }

    /// Counts a publish; `Err` if it is one too many.
    pub fn publish(&self, client: &ClientToken) -> Result<(), TooMany> {
        self.publishes.as_ref().map_or(Ok(()), |publishes| publishes.check(client))
    }

    /// Counts an authentication that has failed; `Err` if it is one too many.
    pub fn failed_authentication(&self, address: IpAddr) -> Result<(), TooMany> {
        self.failures.check(&network(address))
    }

    /// Forgets what has no effect any more, without end.
    pub(super) async fn keep_swept(&self) {
        loop {
            tokio::time::sleep(SWEEP_INTERVAL).await;
            self.failures.sweep();
            if let Some(publishes) = &self.publishes {
                publishes.sweep();
            }
        }
    }
}

/// What counts as one address: of IPv6, the 64 bits that one customer usually has to himself.
pub fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => IpAddr::V6((address.to_bits() >> 64 << 64).into()),
        address => address,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_key_has_its_own_room_and_is_told_when_there_is_more() {
        let two = NonZeroU32::new(2).unwrap();
        let limit = Keyed::new("tries", two, two);
        for key in ["a", "b"] {
            assert_eq!(limit.check(&key), Ok(()));
            assert_eq!(limit.check(&key), Ok(()));
            let Err(TooMany { wait, .. }) = limit.check(&key) else { panic!("three at once") };
            assert!(wait > Duration::ZERO && wait <= Duration::from_millis(500), "{wait:?}");
        }
    }

    #[test]
    fn counts_without_effect_are_forgotten() {
        let limit = Keyed::new("tries", NonZeroU32::MAX, NonZeroU32::MAX);
        for key in 0..1000 {
            limit.check(&key).unwrap();
        }
        assert_eq!(limit.limiter.len(), 1000);
        std::thread::sleep(Duration::from_millis(2));
        limit.sweep();
        assert_eq!(limit.limiter.len(), 0);
    }

    #[test]
    fn the_addresses_of_one_network_count_together() {
        let same = |one: &str, other: &str| {
            network(one.parse().unwrap()) == network(other.parse().unwrap())
        };
        assert!(same("2001:db8::1", "2001:db8::ffff:1"));
        assert!(!same("2001:db8::1", "2001:db8:0:1::1"));
        assert!(same("::ffff:10.0.0.1", "10.0.0.1"));
        assert!(!same("10.0.0.1", "10.0.0.2"));
    }
}
