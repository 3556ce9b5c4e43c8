//! Messages under torture: senders who bring each until it is accepted, publishers whose target refuses some, and what
//! must be so in the end.
//!
//! - A message that was answered with 201 is forwarded by each publisher until its target takes it, unless the store may
//!   lose it; also by one that came later and begins in the past.
//! - Nothing arrives that nobody sent, and no two attempts at a delivery have the same number.

use std::collections::{HashMap, HashSet};
use std::net::{SocketAddr, TcpListener};
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, Uri};
use axum_server::Handle;
use axum_server::tls_rustls::RustlsConfig;
use reqwest::Method;
use routemaster::tls::development::Identity;
use serde_json::{Value, json};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::load::Addresses;
use crate::oracle::{Counters, Terms};
use crate::support::Client;

/// How many senders there are, each with a topic of its own, and one message after the other.
const SENDERS: usize = 2;
/// The pause between two messages of one, at most.
const PACE_MAX: Duration = Duration::from_millis(25);
const AFTER_TROUBLE: Duration = Duration::from_millis(50);
/// The share of messages that are refused.
const REFUSED: f64 = 0.1;
/// After so many messages comes the publisher that begins in the past.
const LATE_AFTER: usize = 40;
/// How long the last messages may take to arrive.
const DRAIN_LIMIT: Duration = Duration::from_secs(40);
const LOOK: Duration = Duration::from_millis(100);

/// The publishers of each topic; the last one comes late.
const PUBLISHERS: [&str; 3] = ["first", "second", "late"];

/// One request that arrived.
#[derive(Clone)]
struct Arrival {
    delivery: String,
    attempt: u32,
    taken: bool,
}

/// By the path, which tells the publisher, and what the message says.
type Arrivals = Arc<Mutex<HashMap<(String, String), Vec<Arrival>>>>;

struct Shared {
    arrivals: Arrivals,
    dice: Mutex<fastrand::Rng>,
}

/// A message that was sent.
struct Sent {
    text: String,
    /// When the request was sent that was answered with 201.
    accepted_at: Option<Instant>,
    /// Whom it has to reach: those that its topic had, and the late one, if that came at all.
    publishers: Vec<Publisher>,
}

#[derive(Clone)]
struct Publisher {
    path: String,
    /// When the request was sent that was answered with 201, or with 409.
    made_at: Instant,
}

pub struct Messages {
    stop: CancellationToken,
    senders: Vec<JoinHandle<Vec<Sent>>>,
    arrivals: Arrivals,
    handle: Handle<SocketAddr>,
}

impl Messages {
    pub fn start(
        addresses: &Arc<Addresses>,
        identity: &Identity,
        ca: PathBuf,
        dice: &mut fastrand::Rng,
    ) -> Self {
        let arrivals = Arrivals::default();
        let (port, handle) = serve(identity, arrivals.clone(), dice.fork());
        let stop = CancellationToken::new();
        let senders = (0..SENDERS).map(|index| {
            let sender = Sender {
                index,
                addresses: addresses.clone(),
                ca: ca.clone(),
                target: format!("https://localhost:{port}"),
                dice: dice.fork(),
                at: None,
            };
            tokio::spawn(sender.run(stop.clone()))
        });
        let senders = senders.collect();
        Self { stop, senders, arrivals, handle }
    }

    /// Ends the senders, waits for what is promised, and judges: a note, and what was violated.
    /// `may_repeat`: an attempt may have the number of an earlier one, because the store lost that lease.
    pub async fn finish(self, terms: &Terms, may_repeat: bool) -> (String, Vec<String>) {
        self.stop.cancel();
        let mut sent = vec![];
        for sender in self.senders {
            sent.extend(sender.await.unwrap());
        }
        let may_be_lost = |at: Instant| terms.may_lose.iter().any(|time| time.contains(&at));
        let is_promised = |message: &&Sent| {
            let forgotten = terms.forgotten_before;
            message
                .accepted_at
                .is_some_and(|at| forgotten.is_none_or(|before| at >= before) && !may_be_lost(at))
        };
        let promised: Vec<(String, String)> = sent
            .iter()
            .filter(is_promised)
            .flat_map(|message| {
                let kept =
                    message.publishers.iter().filter(|publisher| !may_be_lost(publisher.made_at));
                kept.map(|publisher| (publisher.path.clone(), message.text.clone()))
            })
            .collect();
        let is_taken = |key: &(String, String)| {
            let arrivals = self.arrivals.lock().unwrap();
            arrivals.get(key).is_some_and(|all| all.iter().any(|arrival| arrival.taken))
        };
        let begun = Instant::now();
        while begun.elapsed() < DRAIN_LIMIT && !promised.iter().all(is_taken) {
            tokio::time::sleep(LOOK).await;
        }
        let mut violations = vec![];
        let lost: Vec<_> = promised.iter().filter(|key| !is_taken(key)).collect();
        if let Some((path, text)) = lost.first() {
            let count = lost.len();
            violations
                .push(format!("lost: {count} deliveries of messages, such as {text} to {path}"));
        }
        let accepted = sent.iter().filter(|message| message.accepted_at.is_some()).count();
        if accepted < 10 {
            violations.push("hardly any message was sent: this proves nothing".into());
        }
        self.handle.shutdown();
        let arrivals = self.arrivals.lock().unwrap();
        let is_sure = terms.may_lose.is_empty()
            && terms.forgotten_before.is_none()
            && terms.counters == Counters::Exactly;
        let mut again = 0;
        let known: HashSet<&str> = sent.iter().map(|message| message.text.as_str()).collect();
        for ((path, text), all) in arrivals.iter() {
            if !known.contains(text.as_str()) {
                violations
                    .push(format!("phantom: the message {text} at {path}, which nobody sent"));
                continue;
            }
            again += all.iter().filter(|arrival| arrival.taken).count().saturating_sub(1);
            let attempts: Vec<_> =
                all.iter().map(|arrival| (&arrival.delivery, arrival.attempt)).collect();
            let different: HashSet<_> = attempts.iter().collect();
            let has_none = attempts.iter().any(|(_, attempt)| *attempt == 0);
            if is_sure && (has_none || !may_repeat && different.len() < attempts.len()) {
                violations.push(format!("attempts at {text} to {path}: {attempts:?}"));
            }
        }
        violations.truncate(6);
        let note = format!(
            "{accepted} messages accepted, {} deliveries promised, {} arrived, {again} came again",
            promised.len(),
            arrivals.len(),
        );
        (note, violations)
    }
}

/// What publishers lead to: it keeps what arrives, and refuses some.
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

async fn receive(
    State(shared): State<Arc<Shared>>,
    uri: Uri,
    headers: HeaderMap,
    body: Bytes,
) -> StatusCode {
    let header = |name: &str| {
        headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default().to_owned()
    };
    let body: Value = serde_json::from_slice(&body).unwrap_or_default();
    let text = body["text"].as_str().unwrap_or_default().to_owned();
    let attempt = header("routemaster-attempt").parse().unwrap_or_default();
    let taken = shared.dice.lock().unwrap().f64() >= REFUSED;
    let arrival = Arrival { delivery: header("message-id"), attempt, taken };
    let mut arrivals = shared.arrivals.lock().unwrap();
    arrivals.entry((uri.path().to_owned(), text)).or_default().push(arrival);
    if taken { StatusCode::OK } else { StatusCode::INTERNAL_SERVER_ERROR }
}

/// Sends one message after the other.
struct Sender {
    index: usize,
    addresses: Arc<Addresses>,
    ca: PathBuf,
    target: String,
    dice: fastrand::Rng,
    /// The web process it talks to.
    at: Option<(String, Client)>,
}

impl Sender {
    async fn run(mut self, stop: CancellationToken) -> Vec<Sent> {
        let mut sent: Vec<Sent> = vec![];
        let mut late: Option<Publisher> = None;
        let mut from_the_start = self.set_up(&stop).await;
        for number in 0.. {
            if stop.is_cancelled() {
                break;
            }
            if number == LATE_AFTER {
                late = self.add_publisher(PUBLISHERS[2], false, &stop).await;
            }
            let text = format!("{}-{number}", self.index);
            let topic = self.topic();
            let body =
                json!({"topic": topic, "payload": {"text": text}, "attributes": {}}).to_string();
            let accepted_at = loop {
                match self.insist("/api/messages", &body, &[201, 400], &stop).await {
                    Some((at, 201)) => break Some(at),
                    // The store has forgotten everything.
                    Some(_) => {
                        from_the_start = self.set_up(&stop).await;
                        late = match late {
                            Some(_) => self.add_publisher(PUBLISHERS[2], false, &stop).await,
                            None => None,
                        };
                    }
                    None => break None,
                }
            };
            sent.push(Sent { text, accepted_at, publishers: from_the_start.clone() });
            tokio::time::sleep(PACE_MAX.mul_f64(self.dice.f64())).await;
        }
        for message in &mut sent {
            message.publishers.extend(late.clone());
        }
        sent
    }

    fn topic(&self) -> String {
        format!("torture {}", self.index)
    }

    /// Makes the topic and the publishers that are there from the start, which it returns.
    async fn set_up(&mut self, stop: &CancellationToken) -> Vec<Publisher> {
        let topic = json!({"name": self.topic(), "origin_host": "https://a.example"}).to_string();
        self.insist("/api/topics", &topic, &[201, 409], stop).await;
        let mut made = vec![];
        for name in &PUBLISHERS[..2] {
            made.extend(self.add_publisher(name, true, stop).await);
        }
        made
    }

    async fn add_publisher(
        &mut self,
        name: &str,
        from_now: bool,
        stop: &CancellationToken,
    ) -> Option<Publisher> {
        let path = format!("/{}/{name}", self.index);
        let body = json!({
            "topic": self.topic(), "target": format!("{}{path}", self.target),
            "type": "http", "active": true, "from_now": from_now, "seconds_retry": 1,
        });
        let (made_at, _) =
            self.insist("/api/publishers", &body.to_string(), &[201, 409], stop).await?;
        Some(Publisher { path, made_at })
    }

    /// Sends a request until it is answered with one of these; when the last one was sent, and its status.
    async fn insist(
        &mut self,
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
            match client.try_send(Method::POST, path, &[], body.to_owned()).await {
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
