//! Clients for requests that go to the same hosts again and again, whose connections follow the names.
//!
//! A connection that is in use all the time would be kept for as long as its other end answers, though the
//! name has moved to another address. So names are looked up anew while they are used. Where none of a name's
//! addresses is left, the client with its connections gives way to a new one. There are several clients, each
//! for some of the hosts, so that one which moves does not cost all others a handshake.

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use url::{Host, Url};

use super::outbound::{Outbound, OutboundTemplate};
use super::resolver::CheckedResolver;

/// How often a name in use is looked up. With what a delivery takes, a host that moves is followed within
/// 60 s (contract §4).
const LOOK: Duration = Duration::from_secs(30);
/// Among how many clients hosts are divided.
const CLIENTS: usize = 16;
/// How many names one client's part has at most; further ones are not followed.
const NAMES_MAX: usize = 2_000;
/// After which time a name that nobody uses is forgotten.
const FORGET: Duration = Duration::from_secs(600);

/// Clients, each for a part of all hosts.
pub struct Pools {
    template: OutboundTemplate,
    resolver: Arc<CheckedResolver>,
    pools: Vec<Mutex<Pool>>,
}

struct Pool {
    client: Outbound,
    names: Names,
}

/// The names that one client's requests go to.
#[derive(Default)]
struct Names(HashMap<String, Looked>);

/// What is known of a name.
struct Looked {
    at: Instant,
    /// None until the first look-up succeeded.
    addresses: Option<Vec<IpAddr>>,
}

impl Pools {
    pub fn new(template: OutboundTemplate, resolver: Arc<CheckedResolver>) -> Arc<Self> {
        let pool = || Mutex::new(Pool { client: template.client(), names: Names::default() });
        let pools = (0..CLIENTS).map(|_| pool()).collect();
        Arc::new(Self { template, resolver, pools })
    }

    /// The client for requests to this URL's host.
    pub fn client_for(self: &Arc<Self>, url: &Url) -> Outbound {
        let mut hasher = DefaultHasher::new();
        url.host_str().hash(&mut hasher);
        let index = (hasher.finish() % CLIENTS as u64) as usize;
        let mut pool = self.pool(index);
        if let Some(Host::Domain(name)) = url.host()
            && pool.names.is_look_due(name, Instant::now())
        {
            tokio::spawn(self.clone().look(index, name.to_owned()));
        }
        pool.client.clone()
    }

    /// Looks a name up, and leaves the connections to addresses that it had if it has none of them any more.
    async fn look(self: Arc<Self>, index: usize, name: String) {
        // One that cannot be looked up just now has moved nowhere.
        let Ok(addresses) = self.resolver.addresses(&name).await else { return };
        let mut pool = self.pool(index);
        if pool.names.have_moved(&name, addresses) {
            tracing::info!(host = name, "a host has other addresses: connecting anew");
            pool.client = self.template.client();
        }
    }

    fn pool(&self, index: usize) -> MutexGuard<'_, Pool> {
        self.pools[index].lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Names {
    /// Whether it is time to look a name up; it counts as looked up then.
    fn is_look_due(&mut self, name: &str, now: Instant) -> bool {
        if let Some(looked) = self.0.get_mut(name) {
            let is_due = now.saturating_duration_since(looked.at) >= LOOK;
            if is_due {
                looked.at = now;
            }
            return is_due;
        }
        if self.0.len() >= NAMES_MAX {
            self.0.retain(|_, looked| now.saturating_duration_since(looked.at) < FORGET);
        }
        let has_room = self.0.len() < NAMES_MAX;
        if has_room {
            self.0.insert(name.to_owned(), Looked { at: now, addresses: None });
        }
        has_room
    }

    /// Takes note of a name's addresses; whether none of those that it had is left. Of many, some names show
    /// others each time.
    fn have_moved(&mut self, name: &str, addresses: Vec<IpAddr>) -> bool {
        let Some(looked) = self.0.get_mut(name) else { return false };
        let before = looked.addresses.replace(addresses);
        let now = looked.addresses.as_deref().unwrap_or_default();
        before.is_some_and(|before| !before.iter().any(|address| now.contains(address)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_in_use_is_looked_up_at_once_and_then_now_and_again() {
        let (mut names, start) = (Names::default(), Instant::now());
        assert!(names.is_look_due("a.example", start));
        assert!(!names.is_look_due("a.example", start + LOOK / 2));
        assert!(names.is_look_due("b.example", start + LOOK / 2));
        assert!(names.is_look_due("a.example", start + LOOK));
        assert!(!names.is_look_due("a.example", start + LOOK));
    }

    #[test]
    fn names_have_a_bound_and_those_nobody_uses_make_room() {
        let (mut names, start) = (Names::default(), Instant::now());
        for number in 0..NAMES_MAX {
            assert!(names.is_look_due(&number.to_string(), start));
        }
        assert!(!names.is_look_due("one more", start + LOOK), "it is not followed");
        assert!(names.is_look_due("one more", start + FORGET));
        assert_eq!(names.0.len(), 1);
    }

    #[test]
    fn a_host_has_moved_when_none_of_its_addresses_is_left() {
        let mut names = Names::default();
        names.is_look_due("a.example", Instant::now());
        let mut moved = |last: &[u8]| {
            let addresses = last.iter().map(|last| IpAddr::from([192, 0, 2, *last])).collect();
            names.have_moved("a.example", addresses)
        };
        assert!(!moved(&[1]), "it is known for the first time");
        assert!(!moved(&[2, 1]), "there is one more");
        assert!(!moved(&[2, 4]), "one is left");
        assert!(moved(&[3]));
        assert!(!moved(&[3]));
    }
}
