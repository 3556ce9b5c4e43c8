//! The HTTPS server: limits on what a connection may do, and the graceful stop.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use axum_server::Handle;
use tokio::net::TcpListener;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;
use tower::service_fn;

use super::acceptor::Acceptor;
use super::connection::{LEAVE, OpenRequests};
use super::entrance::{Answers, Entrance};
use super::state::Api;
use super::transport::Transport;
use crate::config::SettingError;
use crate::tls::reload::FreshCertificate;
use crate::tls::server::CertificateFiles;

/// Requests that one HTTP/2 connection may have open at once.
const HTTP2_STREAMS: u32 = 256;
/// The largest header of a request, in bytes.
const HEADER_MAX: u32 = 32 * 1024;
/// A silent HTTP/2 connection is asked for a sign of life in this interval, and closed if none
/// comes within as much again.
const HTTP2_PING: Duration = Duration::from_secs(20);

/// How often is looked whether all clients have left.
const LEAVE_LOOK: Duration = Duration::from_millis(10);

/// What a server answers to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Routes {
    /// The whole API, on `PORT`.
    Api,
    /// `GET /metrics` alone, on `ROUTEMASTER_METRICS_PORT`, for a process without the API.
    Metrics,
    /// Everything, with nothing behind it, on `PORT`: what the web stack itself can do, for
    /// `routemaster bench`.
    Bare,
}

/// A server that is bound to its address.
pub struct Server {
    api: Arc<Api>,
    routes: Routes,
    listener: TcpListener,
    certificate: Option<FreshCertificate>,
    /// Asks for a look at the certificate's files.
    reload: Arc<Notify>,
}

impl Server {
    /// Reads the certificate and binds the address.
    ///
    /// # Errors
    /// If either cannot be had; the error says what to change.
    pub async fn bind(api: Arc<Api>, routes: Routes, reload: Arc<Notify>) -> anyhow::Result<Self> {
        let settings = &api.settings;
        let certificate = match settings.tls {
            true => {
                let files = CertificateFiles::of_api(settings)?;
                let certificate = FreshCertificate::load(files).map_err(|error| {
                    let what = "ROUTEMASTER_TLS_CERT with ROUTEMASTER_TLS_KEY is not allowed";
                    SettingError::Conflict(format!("{what}: {error:#}"))
                });
                Some(certificate?)
            }
            false => None,
        };
        let (port, setting) = match routes {
            Routes::Api | Routes::Bare => (settings.port, "PORT"),
            Routes::Metrics => {
                (settings.metrics_port.unwrap_or_default(), "ROUTEMASTER_METRICS_PORT")
            }
        };
        let address = SocketAddr::new(settings.bind, port);
        let listener = TcpListener::bind(address).await.with_context(|| {
            format!("failed to listen on {address}: choose another {setting} or ROUTEMASTER_BIND")
        })?;
        Ok(Self { api, routes, listener, certificate, reload })
    }

    pub fn local_address(&self) -> std::io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    /// Serves until `stop`, then finishes what was accepted, within the shutdown timeout.
    pub async fn serve(self, stop: CancellationToken) -> anyhow::Result<()> {
        let settings = self.api.settings.clone();
        let tls = self.certificate.as_ref().map(FreshCertificate::config);
        let (places, timeout) = (settings.max_connections, settings.first_request_timeout);
        let acceptor = Acceptor::new(tls, places, timeout, stop.clone());
        let reloading = async {
            match self.certificate {
                Some(certificate) => certificate.keep_fresh(&self.reload).await,
                None => std::future::pending().await,
            }
        };
        let handle = Handle::<SocketAddr>::new();
        let mut server = axum_server::Server::from_listener(self.listener)
            .acceptor(acceptor)
            .handle(handle.clone())
            .first_request_timeout(settings.first_request_timeout)
            .accept_error_handler(|address, error| {
                tracing::debug!(?address, %error, "failed to accept a connection");
            });
        let builder = server.http_builder();
        builder
            .http1()
            .header_read_timeout(settings.idle_timeout)
            .max_buf_size(HEADER_MAX as usize);
        builder
            .http2()
            .max_concurrent_streams(HTTP2_STREAMS)
            .max_header_list_size(HEADER_MAX)
            .keep_alive_interval(HTTP2_PING)
            .keep_alive_timeout(HTTP2_PING);
        let shutdown_timeout = settings.shutdown_timeout;
        let tokens = self.api.tokens.clone();
        let limits = self.api.limits.clone();
        let answers = Arc::new(Answers::of(self.routes, self.api));
        let service = service_fn(async |peer: SocketAddr| {
            let (answers, stop) = (answers.clone(), stop.clone());
            // The acceptor knows better.
            let (transport, open_requests) = (Transport::Plain, OpenRequests::default());
            Ok::<_, Infallible>(Entrance { answers, peer, transport, open_requests, stop })
        });
        tokio::select! {
            served = server.serve(service) => return Ok(served?),
            () = tokens.keep_fresh() => {}
            () = limits.keep_swept() => {}
            () = reloading => {}
            () = async {
                stop.cancelled().await;
                all_leave(&handle, LEAVE.min(shutdown_timeout)).await;
                handle.graceful_shutdown(Some(shutdown_timeout));
                std::future::pending().await
            } => {}
        }
        Ok(())
    }
}

/// Waits until no connection is open, within this time.
async fn all_leave(handle: &Handle<SocketAddr>, limit: Duration) {
    let left = async {
        while handle.connection_count() > 0 {
            tokio::time::sleep(LEAVE_LOOK).await;
        }
    };
    let _ = tokio::time::timeout(limit, left).await;
}
