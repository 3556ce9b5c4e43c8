//! Looks up the hosts of callbacks, and gives away only the addresses that deliveries may go to.
//!
//! The connection is made to one of the addresses that were checked here: a name that answers
//! differently the next time it is looked up is checked anew.
//!
//! A name server that is slow is not the receiver's fault: where a look-up takes long or fails, the addresses
//! that the name had not long ago are taken, if it had any.
//!
//! A look-up is a call into the system that blocks, for many seconds if a name server is silent,
//! and cannot be broken off; who waits for it gives up long before. So that names that hang hold up
//! nobody else, each name is looked up once at a time, whoever waits for it, and on a thread of its
//! own, of which there are only so many.

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, SocketAddr, ToSocketAddrs};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use tokio::sync::watch;

use super::rules::EgressRules;

/// How many names are looked up at once; for further ones the look-up fails, and with it the
/// attempt to deliver.
const LOOKUPS_MAX: usize = 500;

/// The system's resolver behind the rules for callbacks.
pub struct CheckedResolver {
    rules: Arc<EgressRules>,
    lookups: Lookups,
}

/// How long a look-up may take before addresses that are known are taken.
const PATIENCE: Duration = Duration::from_millis(500);
/// How long addresses are taken while no look-up succeeds.
const KNOWN_FOR: Duration = Duration::from_secs(600);
/// Of how many names addresses are remembered.
const KNOWN_MAX: usize = 20_000;

/// The look-ups under way, each with its result once it is there, and what earlier ones found.
#[derive(Clone, Default)]
struct Lookups(Arc<Mutex<Names>>);

#[derive(Default)]
struct Names {
    under_way: HashMap<String, watch::Receiver<Option<Found>>>,
    known: HashMap<String, (Instant, Vec<IpAddr>)>,
}

impl Names {
    fn remember(&mut self, name: &str, addresses: &[IpAddr]) {
        if self.known.len() >= KNOWN_MAX && !self.known.contains_key(name) {
            self.known.retain(|_, (since, _)| since.elapsed() < KNOWN_FOR);
            if self.known.len() >= KNOWN_MAX {
                return;
            }
        }
        self.known.insert(name.to_owned(), (Instant::now(), addresses.to_vec()));
    }

    fn known(&self, name: &str) -> Option<Vec<IpAddr>> {
        let (since, addresses) = self.known.get(name)?;
        (since.elapsed() < KNOWN_FOR).then(|| addresses.clone())
    }
}

/// The addresses of a name, or why there are none.
type Found = Result<Vec<IpAddr>, String>;

impl CheckedResolver {
    pub fn new(rules: Arc<EgressRules>) -> Self {
        Self { rules, lookups: Lookups::default() }
    }

    /// The addresses of a name that may be connected to; their port comes from the URL.
    ///
    /// # Errors
    /// Why there is none.
    pub async fn allowed(&self, name: &str) -> Result<Vec<SocketAddr>, String> {
        let (mut allowed, mut denied) = (Vec::new(), None);
        for address in self.addresses(name).await? {
            match self.rules.check_address(address) {
                Ok(()) => allowed.push(SocketAddr::new(address, 0)),
                Err(reason) => denied = denied.or(Some(reason)),
            }
        }
        match denied {
            // One of possibly many: it names the rule.
            Some(denied) if allowed.is_empty() => {
                Err(format!("no address of {name} is allowed: {denied}"))
            }
            _ => Ok(allowed),
        }
    }

    /// Whether each address of a name may be connected to.
    ///
    /// # Errors
    /// Which may not.
    pub fn check_all(&self, name: &str, addresses: &[IpAddr]) -> Result<(), String> {
        let all = addresses.iter().try_for_each(|address| self.rules.check_address(*address));
        all.map_err(|denied| format!("not every address of {name} is allowed: {denied}"))
    }

    /// All addresses that a name has, allowed or not.
    ///
    /// # Errors
    /// Why it cannot be looked up.
    pub async fn addresses(&self, name: &str) -> Result<Vec<IpAddr>, String> {
        self.lookups.addresses(name, system_lookup).await
    }
}

fn system_lookup(name: &str) -> io::Result<Vec<IpAddr>> {
    Ok((name, 0).to_socket_addrs()?.map(|address| address.ip()).collect())
}

impl Lookups {
    /// Waits for the look-up of this name that is under way, or starts one; takes what is known if that
    /// does not help in time.
    async fn addresses(
        &self,
        name: &str,
        lookup: fn(&str) -> io::Result<Vec<IpAddr>>,
    ) -> Result<Vec<IpAddr>, String> {
        let known = self.names().known(name);
        let find = async {
            let mut found = self.join_or_start(name, lookup)?;
            let found = found.wait_for(Option::is_some).await;
            let failed = || Err("the look-up failed".to_owned());
            found.ok().and_then(|found| found.clone()).unwrap_or_else(failed)
        };
        let Some(known) = known else { return find.await };
        match tokio::time::timeout(PATIENCE, find).await {
            Ok(Ok(found)) => Ok(found),
            Ok(Err(_)) | Err(_) => Ok(known),
        }
    }

    fn join_or_start(
        &self,
        name: &str,
        lookup: fn(&str) -> io::Result<Vec<IpAddr>>,
    ) -> Result<watch::Receiver<Option<Found>>, String> {
        let mut names = self.names();
        if let Some(found) = names.under_way.get(name) {
            return Ok(found.clone());
        }
        if names.under_way.len() >= LOOKUPS_MAX {
            return Err(format!("{LOOKUPS_MAX} names are being looked up already"));
        }
        let (result, found) = watch::channel(None);
        let (lookups, own_name) = (self.clone(), name.to_owned());
        let started = thread::Builder::new().name("lookup".into()).spawn(move || {
            let found = lookup(&own_name).map_err(|error| error.to_string());
            let mut names = lookups.names();
            names.under_way.remove(&own_name);
            if let Ok(addresses) = &found {
                names.remember(&own_name, addresses);
            }
            drop(names);
            result.send_replace(Some(found));
        });
        started.map_err(|error| format!("failed to start a thread for it: {error}"))?;
        names.under_way.insert(name.to_owned(), found.clone());
        Ok(found)
    }

    fn names(&self) -> MutexGuard<'_, Names> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;
    use crate::egress::host_pattern::HostPattern;

    async fn resolve(deny: &[&str]) -> Result<Vec<String>, String> {
        let deny: Vec<_> = deny.iter().filter_map(|text| HostPattern::parse(text)).collect();
        let resolver = CheckedResolver::new(Arc::new(EgressRules::new(&deny, &[])));
        let found = resolver.allowed("localhost").await?;
        Ok(found.iter().map(|address| address.ip().to_string()).collect())
    }

    #[tokio::test]
    async fn only_allowed_addresses_are_given_away() {
        let all = resolve(&[]).await.unwrap();
        assert!(all.contains(&"127.0.0.1".to_owned()), "{all:?}");
        let without: Vec<_> = all.iter().filter(|address| *address != "127.0.0.1").collect();
        match resolve(&["127.0.0.1"]).await {
            Ok(left) => assert_eq!(left.iter().collect::<Vec<_>>(), without),
            // A machine without IPv6.
            Err(_) => assert!(without.is_empty(), "{without:?}"),
        }
    }

    #[tokio::test]
    async fn a_name_without_an_allowed_address_is_an_error_that_names_the_rule() {
        let error = resolve(&["127.0.0.0/8", "::/0"]).await.unwrap_err();
        let setting = "in ROUTEMASTER_CALLBACK_DENY";
        assert!(error.starts_with("no address of localhost is allowed: "), "{error}");
        assert!(error.ends_with(setting), "{error}");
    }

    /// How often a name was looked up whose name server answers once and hangs from then on.
    static ASKED: AtomicUsize = AtomicUsize::new(0);

    fn answers_once(_: &str) -> io::Result<Vec<IpAddr>> {
        if ASKED.fetch_add(1, Ordering::SeqCst) == 0 {
            return Ok(vec![IpAddr::from([10, 0, 0, 7])]);
        }
        loop {
            thread::park();
        }
    }

    #[tokio::test]
    async fn while_a_name_server_is_slow_a_name_has_the_addresses_that_it_had() {
        let lookups = Lookups::default();
        for _ in 0..3 {
            let start = Instant::now();
            let found = lookups.addresses("a.example", answers_once).await;
            assert_eq!(found, Ok(vec![IpAddr::from([10, 0, 0, 7])]));
            assert!(start.elapsed() < PATIENCE * 3, "it took {:?}", start.elapsed());
        }
        assert_eq!(ASKED.load(Ordering::SeqCst), 2, "the one that hangs is waited for once");
    }

    /// How often names that hang were looked up.
    static HUNG: AtomicUsize = AtomicUsize::new(0);

    fn hangs_unless_good(name: &str) -> io::Result<Vec<IpAddr>> {
        if name == "good" {
            return Ok(vec![IpAddr::from([10, 0, 0, 1])]);
        }
        HUNG.fetch_add(1, Ordering::SeqCst);
        // The thread ends with its process.
        loop {
            thread::park();
        }
    }

    #[tokio::test]
    async fn names_that_hang_are_looked_up_once_each_and_hold_up_no_other_one() {
        let lookups = Lookups::default();
        let short = Duration::from_millis(1);
        // Some of them are asked for again and again.
        let some = (0..LOOKUPS_MAX - 1).chain(0..20).chain(0..20);
        for slow in some.map(|number| format!("slow-{number}")) {
            let waiting = lookups.addresses(&slow, hangs_unless_good);
            assert!(tokio::time::timeout(short, waiting).await.is_err());
        }
        let good = async || lookups.addresses("good", hangs_unless_good).await;
        for _ in 0..3 {
            assert_eq!(good().await.unwrap(), [IpAddr::from([10, 0, 0, 1])]);
        }
        let one_more = lookups.addresses("slow-more", hangs_unless_good);
        assert!(tokio::time::timeout(short, one_more).await.is_err(), "there is one place left");
        let new = lookups.addresses("new", hangs_unless_good).await;
        assert!(new.unwrap_err().contains("already"), "now there is none");
        assert!(good().await.is_ok(), "but what is known of others is taken");
        // The last of the threads may have to begin yet.
        let until = Instant::now() + Duration::from_secs(20);
        while HUNG.load(Ordering::SeqCst) < LOOKUPS_MAX && Instant::now() < until {
            tokio::time::sleep(short).await;
        }
        assert_eq!(HUNG.load(Ordering::SeqCst), LOOKUPS_MAX);
    }
}
