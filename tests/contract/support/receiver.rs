//! A receiver: an HTTPS server that the bus delivers to, which remembers every request and
//! answers as it is told.

use std::collections::{BTreeSet, VecDeque};
use std::convert::Infallible;
use std::net::{SocketAddr, TcpListener};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use axum::body::{Body, Bytes};
use axum::extract::{ConnectInfo, State};
use axum::http::{HeaderMap, Method, StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use axum_server::Handle;
use axum_server::tls_rustls::RustlsConfig;
use futures_util::stream;
use routemaster::tls::development::Identity;
use serde_json::Value;
use tokio::sync::watch;

use super::client::numbered;
use super::raw;
use super::run::{eventually, soon};

/// How a receiver answers a delivery.
#[derive(Clone, Debug)]
pub enum Answer {
    Status(u16),
    /// This status, with this text.
    Text(u16, String),
    /// A redirect to this URL.
    Redirect(String),
    /// This status, and to come back after so many seconds.
    RetryAfter(u16, &'static str),
    /// 200, but only when this time is over.
    After(Duration),
    /// 200 as soon as [`Receiver::release`] is called.
    Held,
    /// Never.
    Hang,
    /// 200, with a body that never ends: so long a pause, 16 KiB, and so on.
    Endless(Duration),
}

/// One request that arrived.
#[derive(Clone, Debug)]
pub struct Attempt {
    pub method: Method,
    pub path: String,
    pub headers: HeaderMap,
    pub body: String,
    pub at: Instant,
    /// The bus's end of the connection.
    pub peer: SocketAddr,
    /// What it is, or will be, answered with.
    pub answer: Answer,
}

impl Attempt {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).and_then(|value| value.to_str().ok())
    }

    pub fn events(&self) -> Vec<Value> {
        serde_json::from_str(&self.body).unwrap_or_else(|_| panic!("no batch: {}", self.body))
    }

    pub fn numbers(&self) -> Vec<u64> {
        self.events().iter().map(numbered).collect()
    }

    /// Whether the bus may take the batch as delivered.
    pub fn acknowledged(&self) -> bool {
        !matches!(self.answer, Answer::Redirect(_) | Answer::RetryAfter(..) | Answer::Hang)
            && !matches!(self.answer, Answer::Status(status) | Answer::Text(status, _) if status != 200 && status != 204)
    }
}

struct Shared {
    plan: Mutex<Plan>,
    attempts: watch::Sender<Vec<Attempt>>,
    released: watch::Sender<bool>,
}

struct Plan {
    /// Answers for the next requests, in order.
    next: VecDeque<Answer>,
    /// The answer when there is no such.
    always: Answer,
    /// The share of requests that fail, and by which dice.
    failing: Option<(f64, fastrand::Rng)>,
    /// The numbers of events that are refused with 422, whatever they come with.
    refused: BTreeSet<u64>,
}

pub struct Receiver {
    port: u16,
    shared: Arc<Shared>,
    handle: Handle<SocketAddr>,
}

impl Receiver {
    /// Starts a receiver with this certificate on a free port.
    pub async fn start(identity: &Identity) -> Self {
        Self::start_on(0, identity).await
    }

    /// Starts a receiver on the port that another one had.
    pub async fn start_on(port: u16, identity: &Identity) -> Self {
        Self::start_at(SocketAddr::from(([127, 0, 0, 1], port)), identity).await
    }

    /// Starts a receiver at this address of loopback.
    pub async fn start_at(address: SocketAddr, identity: &Identity) -> Self {
        let bind = async || TcpListener::bind(address).ok();
        let (listener, _) = eventually("the receiver's port is free", bind).await;
        listener.set_nonblocking(true).unwrap();
        let port = listener.local_addr().unwrap().port();
        let shared = Arc::new(Shared {
            plan: Mutex::new(Plan {
                next: VecDeque::new(),
                always: Answer::Status(200),
                failing: None,
                refused: BTreeSet::new(),
            }),
            attempts: watch::channel(Vec::new()).0,
            released: watch::channel(false).0,
        });
        let handle = Handle::new();
        let tls = routemaster::tls::server::from_identity(identity).unwrap();
        let app = axum::Router::new().fallback(receive).with_state(shared.clone());
        // A batch may be larger than what a handler takes by default.
        let app = app.layer(axum::extract::DefaultBodyLimit::disable());
        let server = axum_server::from_tcp_rustls(listener, RustlsConfig::from_config(tls))
            .unwrap()
            .handle(handle.clone());
        tokio::spawn(server.serve(app.into_make_service_with_connect_info::<SocketAddr>()));
        Self { port, shared, handle }
    }

    /// The callback to subscribe with.
    pub fn url(&self) -> String {
        format!("https://localhost:{}/events", self.port)
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    /// Answers so from now on.
    pub fn answer(&self, answer: Answer) {
        self.shared.plan.lock().unwrap().always = answer;
    }

    /// Answers the next requests so, one after the other.
    pub fn answer_next(&self, answers: impl IntoIterator<Item = Answer>) {
        self.shared.plan.lock().unwrap().next.extend(answers);
    }

    /// Fails this share of the requests with 500; the seed decides which.
    pub fn fail_share(&self, share: f64, seed: u64) {
        println!("the receiver fails {share} of its batches, with the seed {seed}");
        let dice = fastrand::Rng::with_seed(seed);
        self.shared.plan.lock().unwrap().failing = Some((share, dice));
    }

    /// Refuses each batch that holds an event with one of these numbers, and no other.
    pub fn refuse_numbers(&self, numbers: impl IntoIterator<Item = u64>) {
        self.shared.plan.lock().unwrap().refused = numbers.into_iter().collect();
    }

    /// As [`Receiver::refuse_numbers`].
    pub fn refuse_number(&self, number: u64) {
        self.refuse_numbers([number]);
    }

    /// Lets everything go that is answered with [`Answer::Held`].
    pub fn release(&self) {
        self.shared.released.send_replace(true);
    }

    /// Ends it with all its connections; returns its port, which refuses connections now.
    pub async fn close(self) -> u16 {
        let port = self.port;
        drop(self);
        let closed = async || (!raw::is_open(port).await).then_some(());
        eventually("the receiver is closed", closed).await;
        port
    }

    /// How many connections the bus has made for its deliveries.
    pub fn connections(&self) -> usize {
        let peers: BTreeSet<_> = self.attempts_so_far().iter().map(|a| a.peer).collect();
        peers.len()
    }

    /// Every request so far, in the order of arrival.
    pub fn attempts_so_far(&self) -> Vec<Attempt> {
        self.shared.attempts.borrow().clone()
    }

    /// Waits until this many requests arrived; returns all.
    pub async fn attempts(&self, count: usize) -> Vec<Attempt> {
        let what = format!("{count} deliveries are tried");
        self.until(&what, |attempts| attempts.len() >= count).await
    }

    /// Waits until this many events were acknowledged; returns all, in the order of arrival.
    pub async fn events(&self, count: usize) -> Vec<Value> {
        let what = format!("{count} events are delivered");
        let attempts = self.until(&what, |attempts| acknowledged(attempts).len() >= count);
        acknowledged(&attempts.await)
    }

    /// As [`Receiver::events`], by number.
    pub async fn numbers(&self, count: usize) -> Vec<u64> {
        self.events(count).await.iter().map(numbered).collect()
    }

    /// Waits until an event with this number arrives, acknowledged or not; returns all requests.
    pub async fn arrival(&self, number: u64) -> Vec<Attempt> {
        let has_it = |attempts: &Vec<Attempt>| {
            attempts.iter().any(|attempt| attempt.numbers().contains(&number))
        };
        self.until(&format!("event {number} arrives"), has_it).await
    }

    /// Waits until what has arrived is as expected.
    pub async fn until(
        &self,
        what: &str,
        expected: impl FnMut(&Vec<Attempt>) -> bool,
    ) -> Vec<Attempt> {
        let mut attempts = self.shared.attempts.subscribe();
        soon(what, attempts.wait_for(expected)).await.unwrap().clone()
    }

    /// Requires that nothing more arrives for this time than did until now.
    pub async fn stays_quiet(&self, time: Duration) {
        let mut attempts = self.shared.attempts.subscribe();
        attempts.mark_unchanged();
        if tokio::time::timeout(time, attempts.changed()).await.is_ok() {
            panic!("this was delivered unexpectedly: {:?}", attempts.borrow().last());
        }
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        self.handle.shutdown();
    }
}

/// The numbers of events, in the order in which each came first.
pub fn first_seen(attempts: &[Attempt]) -> Vec<u64> {
    let mut seen = BTreeSet::new();
    let numbers = attempts.iter().flat_map(Attempt::numbers);
    numbers.filter(|number| seen.insert(*number)).collect()
}

fn acknowledged(attempts: &[Attempt]) -> Vec<Value> {
    attempts.iter().filter(|attempt| attempt.acknowledged()).flat_map(Attempt::events).collect()
}

async fn receive(
    State(shared): State<Arc<Shared>>,
    ConnectInfo(peer): ConnectInfo<SocketAddr>,
    method: Method,
    uri: Uri,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let body = String::from_utf8_lossy(&body).into_owned();
    let answer = {
        let mut plan = shared.plan.lock().unwrap();
        let refused = |end: (usize, &str)| {
            let start = body[..end.0].rfind('/').map_or(0, |slash| slash + 1);
            body[start..end.0].parse().is_ok_and(|number| plan.refused.contains(&number))
        };
        let is_refused = !plan.refused.is_empty() && body.match_indices('"').any(refused);
        let failing = plan.failing.as_mut();
        if is_refused {
            Answer::Status(422)
        } else if failing.is_some_and(|(share, dice)| dice.f64() < *share) {
            Answer::Status(500)
        } else {
            plan.next.pop_front().unwrap_or_else(|| plan.always.clone())
        }
    };
    let path = uri.to_string();
    let (at, planned) = (Instant::now(), answer.clone());
    let attempt = Attempt { method, path, headers, body, at, peer, answer: planned };
    shared.attempts.send_modify(|attempts| attempts.push(attempt));
    match answer {
        Answer::Status(status) => StatusCode::from_u16(status).unwrap().into_response(),
        Answer::Text(status, text) => (StatusCode::from_u16(status).unwrap(), text).into_response(),
        Answer::RetryAfter(status, seconds) => {
            let status = StatusCode::from_u16(status).unwrap();
            (status, [("retry-after", seconds)]).into_response()
        }
        Answer::Redirect(to) => (StatusCode::FOUND, [("location", to)]).into_response(),
        Answer::After(delay) => {
            tokio::time::sleep(delay).await;
            StatusCode::OK.into_response()
        }
        Answer::Held => {
            let _ = shared.released.subscribe().wait_for(|released| *released).await;
            StatusCode::OK.into_response()
        }
        Answer::Hang => std::future::pending().await,
        Answer::Endless(pause) => {
            let body = stream::unfold((), move |()| async move {
                tokio::time::sleep(pause).await;
                Some((Ok::<_, Infallible>(Bytes::from_static(&[b'x'; 16 * 1024])), ()))
            });
            Body::from_stream(body).into_response()
        }
    }
}
