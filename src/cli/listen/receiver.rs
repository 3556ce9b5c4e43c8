//! The HTTPS receiver: takes deliveries, shows them, answers.

use std::net::{Ipv4Addr, TcpListener};
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use axum::Router;
use axum::extract::{DefaultBodyLimit, State};
use axum_server::Handle;
use axum_server::tls_rustls::RustlsConfig;
use bytes::Bytes;
use reqwest::header::{AUTHORIZATION, HeaderMap};
use reqwest::{Method, StatusCode};
use subtle::ConstantTimeEq;

use crate::bus::basic;
use crate::cli::listen::inbox::{Inbox, Reply};
use crate::note;
use crate::tls::development::Identity;
use crate::tls::server;

/// The largest delivery that is taken, in bytes.
const BODY_MAX: usize = 64 * 1024 * 1024;
/// How long answers in the making may take once the receiver ends.
const GRACE: Duration = Duration::from_secs(1);

struct Shared {
    /// The only `Authorization` that is let in.
    authorization: String,
    inbox: Arc<Inbox>,
}

/// A receiver that runs until it is ended.
pub struct Receiver {
    port: u16,
    handle: Handle<std::net::SocketAddr>,
    server: tokio::task::JoinHandle<std::io::Result<()>>,
}

impl Receiver {
    /// Listens on a port of 127.0.0.1; 0 takes a free one. `uuid` is what deliveries must carry.
    ///
    /// # Errors
    /// If the port is taken or the identity cannot be used.
    pub fn start(
        port: u16,
        identity: &Identity,
        uuid: &str,
        inbox: Arc<Inbox>,
    ) -> anyhow::Result<Self> {
        let tls = RustlsConfig::from_config(server::from_identity(identity)?);
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port)).with_context(|| {
            format!("failed to listen on port {port}: choose another one with --port")
        })?;
        listener.set_nonblocking(true)?;
        let port = listener.local_addr()?.port();
        let shared = Arc::new(Shared { authorization: authorization(uuid), inbox });
        // Every path, because a tunnel or a proxy may put something before its own.
        let app = Router::new()
            .fallback(receive)
            .layer(DefaultBodyLimit::max(BODY_MAX))
            .with_state(shared);
        let handle = Handle::new();
        let server = axum_server::from_tcp_rustls(listener, tls)?
            .handle(handle.clone())
            .serve(app.into_make_service());
        Ok(Self { port, handle, server: tokio::spawn(server) })
    }

    /// The port it listens on.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Lets answers in the making finish.
    pub async fn end(self) {
        self.handle.graceful_shutdown(Some(GRACE));
        if let Ok(Err(error)) = self.server.await {
            note!("the receiver failed: {error}");
        }
    }
}

/// The uuid is both user name and password.
fn authorization(uuid: &str) -> String {
    basic::authorization(uuid.as_bytes(), uuid.as_bytes())
}

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
    let inbox = shared.inbox.clone();
    let delay = inbox.trial.delay;
    // Writing waits for whoever reads the output, which must not hold up anything else.
    let shown = tokio::task::spawn_blocking(move || inbox.show(&headers, &body)).await;
    tokio::time::sleep(delay).await;
    shown.unwrap_or((StatusCode::INTERNAL_SERVER_ERROR, "the receiver failed\n"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_uuid_is_user_name_and_password() {
        assert_eq!(authorization("u"), "Basic dTp1");
    }
}
