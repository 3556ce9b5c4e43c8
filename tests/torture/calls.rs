//! Calls under torture: callers who bring each until it is accepted, a receiver that refuses some, and what must
//! be so in the end.
//!
//! - A call that was answered with 202 is made until its receiver takes it, unless the store may lose it.
//! - One whose cancelling was answered with 204 never arrives.
//! - Nothing arrives that nobody brought, and no two attempts at a call have the same number.

use std::collections::{HashMap, HashSet};
use std::net::{SocketAddr, TcpListener};
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum_server::Handle;
use axum_server::tls_rustls::RustlsConfig;
use reqwest::Method;
use routemaster::tls::development::Identity;
use serde_json::json;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::load::Addresses;
use crate::oracle::{Counters, Terms};
use crate::support::Client;

/// How many callers there are, each with one call after the other.
const CALLERS: usize = 2;
/// The pause between two calls of one, at most.
const PACE_MAX: Duration = Duration::from_millis(25);
const AFTER_TROUBLE: Duration = Duration::from_millis(50);
/// The share of calls that are refused, and of those that are put off and cancelled.
const REFUSED: f64 = 0.1;
const CANCELLED: f64 = 0.1;
/// How long the last calls may take to arrive.
const DRAIN_LIMIT: Duration = Duration::from_secs(40);
/// How long calls are put off that are cancelled: longer than any clock jumps.
const PUT_OFF_MS: u64 = 30 * 24 * 3_600_000;
const LOOK: Duration = Duration::from_millis(100);

/// One request that arrived.
#[derive(Clone, Copy)]
struct Arrival {
    attempt: u32,
    taken: bool,
}

type Arrivals = Arc<Mutex<HashMap<String, Vec<Arrival>>>>;

struct Shared {
    arrivals: Arrivals,
    dice: Mutex<fastrand::Rng>,
}

/// A call that was brought.
struct Brought {
    id: String,
    /// When the request was sent that was answered with 202.
    accepted_at: Option<Instant>,
    /// Whether its cancelling was answered with 204.
    cancelled: bool,
}

pub struct Calls {
    stop: CancellationToken,
    callers: Vec<JoinHandle<Vec<Brought>>>,
    arrivals: Arrivals,
    handle: Handle<SocketAddr>,
}

impl Calls {
    pub fn start(
        addresses: &Arc<Addresses>,
        identity: &Identity,
        ca: PathBuf,
        dice: &mut fastrand::Rng,
    ) -> Self {
        let arrivals = Arrivals::default();
        let (port, handle) = serve(identity, arrivals.clone(), dice.fork());
        let stop = CancellationToken::new();
        let callers = (0..CALLERS).map(|index| {
            let caller = Caller {
                index,
                addresses: addresses.clone(),
                ca: ca.clone(),
                url: format!("https://localhost:{port}/"),
                dice: dice.fork(),
                at: None,
            };
            tokio::spawn(caller.run(stop.clone()))
        });
        let callers = callers.collect();
        Self { stop, callers, arrivals, handle }
    }

    /// Ends the callers, waits for what is promised, and judges: a note, and what was violated.
    /// `may_repeat`: an attempt may have the number of an earlier one, because the store lost that lease.
    pub async fn finish(self, terms: &Terms, may_repeat: bool) -> (String, Vec<String>) {
        self.stop.cancel();
        let mut brought = vec![];
        for caller in self.callers {
            brought.extend(caller.await.unwrap());
        }
        let is_promised = |call: &&Brought| {
            let forgotten = terms.forgotten_before;
            call.accepted_at.is_some_and(|at| {
                !call.cancelled
                    && forgotten.is_none_or(|before| at >= before)
                    && !terms.may_lose.iter().any(|time| time.contains(&at))
            })
        };
        let promised: Vec<&Brought> = brought.iter().filter(is_promised).collect();
        let taken = |id: &str| {
            let arrivals = self.arrivals.lock().unwrap();
            arrivals.get(id).is_some_and(|all| all.iter().any(|arrival| arrival.taken))
        };
        let begun = Instant::now();
        while begun.elapsed() < DRAIN_LIMIT && !promised.iter().all(|call| taken(&call.id)) {
            tokio::time::sleep(LOOK).await;
        }
        let mut violations = vec![];
        let lost: Vec<&str> =
            promised.iter().map(|call| call.id.as_str()).filter(|id| !taken(id)).collect();
        if !lost.is_empty() {
            violations.push(format!("lost: {} calls, such as {}", lost.len(), lost[0]));
        }
        if brought.iter().filter(|call| call.accepted_at.is_some()).count() < 10 {
            violations.push("hardly any call was brought: this proves nothing".into());
        }
        self.handle.shutdown();
        let arrivals = self.arrivals.lock().unwrap();
        let is_sure = terms.may_lose.is_empty()
            && terms.forgotten_before.is_none()
            && terms.counters == Counters::Exactly;
        let mut again = 0;
        for (id, all) in arrivals.iter() {
            let Some(call) = brought.iter().find(|call| call.id == *id) else {
                violations.push(format!("phantom: the call {id}, which nobody brought"));
                continue;
            };
            if call.cancelled && is_sure {
                violations.push(format!("cancelled: {id} arrived all the same"));
            }
            again += all.iter().skip_while(|arrival| !arrival.taken).count().saturating_sub(1);
            // Two may be under way at once, where a worker was frozen or a clock jumped.
            let counts: Vec<u32> = all.iter().map(|arrival| arrival.attempt).collect();
            let different: HashSet<u32> = counts.iter().copied().collect();
            if is_sure && (different.contains(&0) || !may_repeat && different.len() < counts.len())
            {
                violations.push(format!("attempts at {id}: {counts:?}"));
            }
        }
        violations.truncate(6);
        let cancelled = brought.iter().filter(|call| call.cancelled).count();
        let note = format!(
            "{} calls accepted, {} promised, {} arrived, {cancelled} cancelled, {again} came again",
            brought.iter().filter(|call| call.accepted_at.is_some()).count(),
            promised.len(),
            arrivals.len(),
        );
        (note, violations)
    }
}

/// A receiver that keeps what arrives, and refuses some.
fn serve(
    identity: &Identity,
    arrivals: Arrivals,
    dice: fastrand::Rng,
) -> (u16, Handle<SocketAddr>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.set_nonblocking(true).unwrap();
    let port = listener.local_addr().unwrap().port();
    let shared = Arc::new(Shared { arrivals, dice: Mutex::new(dice) });
    let tls = routemaster::tls::server::from_identity(identity).unwrap();
    let app = axum::Router::new().fallback(receive).with_state(shared);
    let handle = Handle::new();
    let server = axum_server::from_tcp_rustls(listener, RustlsConfig::from_config(tls));
    let server = server.unwrap().handle(handle.clone());
    tokio::spawn(server.serve(app.into_make_service()));
    (port, handle)
}

async fn receive(State(shared): State<Arc<Shared>>, headers: HeaderMap) -> StatusCode {
    let header = |name: &str| {
        headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default().to_owned()
    };
    let attempt = header("routemaster-attempt").parse().unwrap_or_default();
    let taken = shared.dice.lock().unwrap().f64() >= REFUSED;
    let mut arrivals = shared.arrivals.lock().unwrap();
    arrivals.entry(header("idempotency-key")).or_default().push(Arrival { attempt, taken });
    if taken { StatusCode::OK } else { StatusCode::INTERNAL_SERVER_ERROR }
}

/// Brings one call after the other.
struct Caller {
    index: usize,
    addresses: Arc<Addresses>,
    ca: PathBuf,
    url: String,
    dice: fastrand::Rng,
    /// The web process it talks to.
    at: Option<(String, Client)>,
}

impl Caller {
    async fn run(mut self, stop: CancellationToken) -> Vec<Brought> {
        let mut brought = vec![];
        for number in 0.. {
            if stop.is_cancelled() {
                break;
            }
            let id = format!("call-{}-{number}", self.index);
            let is_put_off = self.dice.f64() < CANCELLED;
            let mut body = json!({ "url": self.url, "id": id, "requeue": true });
            if is_put_off {
                body["delay"] = PUT_OFF_MS.into();
            }
            let body = body.to_string();
            let accepted_at = self.insist(Method::POST, "/calls", &body, &[202], &stop).await;
            let mut call =
                Brought { id, accepted_at: accepted_at.map(|(at, _)| at), cancelled: false };
            if is_put_off && call.accepted_at.is_some() {
                let path = format!("/calls/{}", call.id);
                // Gone already: an earlier try came further than its answer, or the store has forgotten it.
                let ended = self.insist(Method::DELETE, &path, "", &[204, 404], &stop).await;
                call.cancelled = true;
                if ended.is_none() {
                    // It waits, far beyond the end of this.
                    call.accepted_at = None;
                }
            }
            brought.push(call);
            tokio::time::sleep(PACE_MAX.mul_f64(self.dice.f64())).await;
        }
        brought
    }

    /// Sends a request until it is answered with one of these; when the last one was sent, and its status.
    async fn insist(
        &mut self,
        method: Method,
        path: &str,
        body: &str,
        good: &[u16],
        stop: &CancellationToken,
    ) -> Option<(Instant, u16)> {
        while !stop.is_cancelled() {
            let Some(client) = self.client() else {
                tokio::time::sleep(AFTER_TROUBLE).await;
                continue;
            };
            let sent_at = Instant::now();
            match client.try_send(method.clone(), path, &[], body.to_owned()).await {
                Ok(reply) if good.contains(&reply.status) => return Some((sent_at, reply.status)),
                Ok(_) => {}
                Err(_) => self.at = None,
            }
            tokio::time::sleep(AFTER_TROUBLE).await;
        }
        None
    }

    fn client(&mut self) -> Option<Client> {
        if self.at.is_none() {
            let base = self.addresses.after("", self.dice.usize(..100))?;
            let client = Client::new(&base, &self.ca).beside_the_api().with_token("demo");
            self.at = Some((base, client));
        }
        self.at.as_ref().map(|(_, client)| client.clone())
    }
}
