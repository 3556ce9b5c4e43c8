//! The HTTPS receiver: takes deliveries, shows them, answers.

use std::fmt;
use std::net::{Ipv4Addr, TcpListener};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::Context;
use axum::Router;
use axum::extract::{DefaultBodyLimit, State};
use axum_server::Handle;
use axum_server::tls_rustls::RustlsConfig;
use bytes::Bytes;
use reqwest::header::{AUTHORIZATION, HeaderMap};
use reqwest::{Method, StatusCode};
use serde_json::value::RawValue;
use subtle::ConstantTimeEq;
use tokio_util::sync::CancellationToken;

use crate::bus::basic;
use crate::bus::clock::Clock;
use crate::cli::listen::render::{Delivered, Output};
use crate::cli::words::counted;
use crate::note;
use crate::tls::development::Identity;
use crate::tls::server;

/// The largest delivery that is taken, in bytes.
const BODY_MAX: usize = 64 * 1024 * 1024;
/// How long answers in the making may take once the receiver ends.
const GRACE: Duration = Duration::from_secs(1);

/// How the receiver misbehaves on request.
pub struct Trial {
    /// The share of deliveries that are answered with 500.
    pub fail_percent: u8,
    /// The pause before an answer.
    pub delay: Duration,
}

impl Trial {
    /// Whether to fail the delivery with this number, from 1. The failures are spread evenly, so
    /// that a short trial shows the share that was asked for.
    fn fails(&self, number: u64) -> bool {
        let failures = |deliveries: u64| deliveries * u64::from(self.fail_percent) / 100;
        failures(number) > failures(number - 1)
    }
}

/// What came in since the start.
#[derive(Default)]
struct Totals {
    deliveries: AtomicU64,
    batches: AtomicU64,
    events: AtomicU64,
    failed: AtomicU64,
}

struct Shared {
    /// The only `Authorization` that is let in.
    authorization: String,
    trial: Trial,
    /// Locked while a batch is written, so that two never mix.
    output: Mutex<Output>,
    totals: Totals,
    clock: Clock,
    stop: CancellationToken,
}

/// A receiver that runs until it is ended.
pub struct Receiver {
    port: u16,
    shared: Arc<Shared>,
    handle: Handle<std::net::SocketAddr>,
    server: tokio::task::JoinHandle<std::io::Result<()>>,
}

impl Receiver {
    /// Listens on a port of 127.0.0.1; 0 takes a free one. `uuid` is what deliveries must carry.
    /// `stop` is cancelled when nobody reads the output any more.
    ///
    /// # Errors
    /// If the port is taken or the identity cannot be used.
    pub fn start(
        port: u16,
        identity: &Identity,
        uuid: &str,
        trial: Trial,
        output: Output,
        stop: CancellationToken,
    ) -> anyhow::Result<Self> {
        let tls = RustlsConfig::from_config(server::from_identity(identity)?);
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port)).with_context(|| {
            format!("failed to listen on port {port}: choose another one with --port")
        })?;
        listener.set_nonblocking(true)?;
        let port = listener.local_addr()?.port();
        let shared = Arc::new(Shared {
            authorization: authorization(uuid),
            trial,
            output: Mutex::new(output),
            totals: Totals::default(),
            clock: Clock::system(),
            stop,
        });
        // Every path, because a tunnel or a proxy may put something before its own.
        let app = Router::new()
            .fallback(receive)
            .layer(DefaultBodyLimit::max(BODY_MAX))
            .with_state(Arc::clone(&shared));
        let handle = Handle::new();
        let server = axum_server::from_tcp_rustls(listener, tls)?
            .handle(handle.clone())
            .serve(app.into_make_service());
        Ok(Self { port, shared, handle, server: tokio::spawn(server) })
    }

    /// The port it listens on.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Lets answers in the making finish. Returns what came in, in words.
    pub async fn end(self) -> String {
        self.handle.graceful_shutdown(Some(GRACE));
        if let Ok(Err(error)) = self.server.await {
            note!("the receiver failed: {error}");
        }
        self.shared.totals.to_string()
    }
}

impl fmt::Display for Totals {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let total = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let events = counted(total(&self.events), "event", "events");
        let batches = counted(total(&self.batches), "batch", "batches");
        write!(f, "received {events} in {batches}")?;
        match total(&self.failed) {
            0 => Ok(()),
            failed => write!(f, "; --fail refused {}", counted(failed, "delivery", "deliveries")),
        }
    }
}

/// The uuid is both user name and password.
fn authorization(uuid: &str) -> String {
    basic::authorization(uuid.as_bytes(), uuid.as_bytes())
}

type Reply = (StatusCode, &'static str);

async fn receive(
    State(shared): State<Arc<Shared>>,
    method: Method,
    headers: HeaderMap,
    body: Bytes,
) -> Reply {
    let sent = headers.get(AUTHORIZATION).map_or(&b""[..], |value| value.as_bytes());
    if !bool::from(sent.ct_eq(shared.authorization.as_bytes())) {
        note!("refused a {method} that does not carry this subscription's uuid (401)");
        return (StatusCode::UNAUTHORIZED, "the uuid is not this subscription's\n");
    }
    if method != Method::POST {
        return (StatusCode::METHOD_NOT_ALLOWED, "deliveries are POSTed\n");
    }
    let delay = shared.trial.delay;
    // Writing waits for whoever reads the output, which must not hold up anything else.
    let shown = tokio::task::spawn_blocking(move || shared.show(&headers, &body)).await;
    tokio::time::sleep(delay).await;
    shown.unwrap_or((StatusCode::INTERNAL_SERVER_ERROR, "the receiver failed\n"))
}

impl Shared {
    /// Shows a delivery and decides on its answer.
    fn show(&self, headers: &HeaderMap, body: &[u8]) -> Reply {
        let Ok(events) = serde_json::from_slice::<Vec<&RawValue>>(body) else {
            note!("refused a delivery that is not a JSON array (400)");
            return (StatusCode::BAD_REQUEST, "a JSON array is expected\n");
        };
        let header = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
        let attempt = header("routemaster-attempt").and_then(|attempt| attempt.parse().ok());
        let delivered = Delivered {
            batch: header("webhook-id").unwrap_or("?"),
            attempt: attempt.unwrap_or(1),
            events: &events,
        };
        let output = self.output.lock().unwrap_or_else(PoisonError::into_inner);
        let now_ms = self.clock.now_ms();
        let number = self.totals.deliveries.fetch_add(1, Ordering::Relaxed) + 1;
        let fails = self.trial.fails(number);
        let written = if fails {
            output.failed(&delivered, now_ms)
        } else {
            output.batch(&delivered, now_ms)
        };
        if written.is_err() {
            self.stop.cancel();
            return (StatusCode::SERVICE_UNAVAILABLE, "nobody reads this any more\n");
        }
        if fails {
            self.totals.failed.fetch_add(1, Ordering::Relaxed);
            return (StatusCode::INTERNAL_SERVER_ERROR, "failed on request\n");
        }
        self.totals.batches.fetch_add(1, Ordering::Relaxed);
        self.totals.events.fetch_add(events.len() as u64, Ordering::Relaxed);
        (StatusCode::NO_CONTENT, "")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_share_of_failures_is_exact_and_evenly_spread() {
        for percent in 0..=100 {
            let trial = Trial { fail_percent: percent, delay: Duration::ZERO };
            let failures = (1..=100).filter(|number| trial.fails(*number)).count();
            assert_eq!(failures, usize::from(percent));
        }
        let half = Trial { fail_percent: 50, delay: Duration::ZERO };
        let first = (1..=4).map(|number| half.fails(number)).collect::<Vec<_>>();
        assert_eq!(first, [false, true, false, true]);
    }

    #[test]
    fn the_uuid_is_user_name_and_password() {
        assert_eq!(authorization("u"), "Basic dTp1");
    }
}
