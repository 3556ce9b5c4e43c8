//! A subscriber's end: an HTTPS server that keeps every batch as it came, in the order of arrival.

use std::collections::HashSet;
use std::net::{SocketAddr, TcpListener};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use axum::extract::{DefaultBodyLimit, State};
use axum::http::{HeaderMap, StatusCode};
use axum_server::Handle;
use axum_server::tls_rustls::RustlsConfig;
use routemaster::tls::development::Identity;
use serde_json::value::RawValue;

use crate::oracle::{EventId, Receipt, origin};

/// How a receiver behaves.
#[derive(Clone, Copy, Debug)]
pub struct Manner {
    /// How long it takes for a batch, at most.
    pub delay: Duration,
    /// The share of batches that it refuses with 500.
    pub refuses: f64,
    /// The `max` of its subscription.
    pub max: u64,
}

/// What it has seen.
#[derive(Default)]
pub struct Seen {
    pub receipts: Vec<Receipt>,
    pub times: Vec<Instant>,
    /// Each event that was acknowledged.
    pub events: HashSet<EventId>,
}

struct Shared {
    manner: Manner,
    dice: Mutex<fastrand::Rng>,
    seen: Mutex<Seen>,
}

pub struct Receiver {
    pub name: &'static str,
    pub manner: Manner,
    port: u16,
    shared: Arc<Shared>,
    handle: Handle<SocketAddr>,
}

impl Receiver {
    pub fn start(
        name: &'static str,
        identity: &Identity,
        manner: Manner,
        dice: fastrand::Rng,
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        let port = listener.local_addr().unwrap().port();
        let (dice, seen) = (Mutex::new(dice), Mutex::default());
        let shared = Arc::new(Shared { manner, dice, seen });
        let tls = routemaster::tls::server::from_identity(identity).unwrap();
        let app = axum::Router::new().fallback(receive).with_state(shared.clone());
        let app = app.layer(DefaultBodyLimit::disable());
        let handle = Handle::new();
        let server = axum_server::from_tcp_rustls(listener, RustlsConfig::from_config(tls));
        let server = server.unwrap().handle(handle.clone());
        tokio::spawn(server.serve(app.into_make_service()));
        Self { name, manner, port, shared, handle }
    }

    pub fn url(&self) -> String {
        format!("https://localhost:{}/events", self.port)
    }

    /// Looks at what has come so far.
    pub fn look<T>(&self, look: impl FnOnce(&Seen) -> T) -> T {
        look(&self.shared.seen.lock().unwrap())
    }

    /// The longest time between two batches, from `start` to `end`.
    pub fn pause(&self, start: Instant, end: Instant) -> Duration {
        self.look(|seen| {
            let within = seen.times.iter().copied().filter(|at| (start..end).contains(at));
            let marks: Vec<Instant> =
                std::iter::once(start).chain(within).chain(std::iter::once(end)).collect();
            marks.windows(2).map(|pair| pair[1] - pair[0]).max().unwrap_or_default()
        })
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        self.handle.shutdown();
    }
}

async fn receive(
    State(shared): State<Arc<Shared>>,
    headers: HeaderMap,
    body: String,
) -> StatusCode {
    let manner = shared.manner;
    let (acknowledged, delay) = {
        let mut dice = shared.dice.lock().unwrap();
        (dice.f64() >= manner.refuses, manner.delay.mul_f64(dice.f64()))
    };
    let batch = headers.get("webhook-id").and_then(|id| id.to_str().ok()).unwrap_or_default();
    let batch = batch.to_owned();
    {
        let mut seen = shared.seen.lock().unwrap();
        if acknowledged && let Ok(events) = serde_json::from_str::<Vec<&RawValue>>(&body) {
            seen.events.extend(events.into_iter().filter_map(|event| origin(event.get())));
        }
        seen.times.push(Instant::now());
        seen.receipts.push(Receipt { batch, body, acknowledged });
    }
    tokio::time::sleep(delay).await;
    if acknowledged { StatusCode::OK } else { StatusCode::INTERNAL_SERVER_ERROR }
}
