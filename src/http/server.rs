//! The HTTPS server: limits on what a connection may do, and the graceful stop.

use std::convert::Infallible;
use std::io;
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
use super::places::Places;
use super::service::{ConnectionService, Site};
use super::transport::Transport;
use crate::files;
use crate::telemetry::sparing::SparingLine;
use crate::tls::CertificateFiles;
use crate::tls::reload::FreshCertificate;

/// Requests that one HTTP/2 connection may have open at once.
const HTTP2_STREAMS: u32 = 256;
/// The largest header of a request, in bytes.
const HEADER_MAX: u32 = 32 * 1024;
/// Bytes that a client may send on one HTTP/2 connection before they are taken.
const HTTP2_WINDOW: u32 = 256 * 1024;
/// A silent HTTP/2 connection is asked for a sign of life in this interval, and closed if none
/// comes within as much again.
const HTTP2_PING: Duration = Duration::from_secs(20);

/// How often is looked whether all clients have left.
const LEAVE_LOOK: Duration = Duration::from_millis(10);

/// Where a server listens, and what its connections may do.
pub struct ServerOptions {
    pub address: SocketAddr,
    /// For whoever must choose another address: what to change.
    pub advice: &'static str,
    /// `None` where a proxy ends TLS: everything is plain.
    pub certificate: Option<CertificateFiles>,
    /// Servers of one process share them.
    pub places: Arc<Places>,
    pub first_request_timeout: Duration,
    pub idle_timeout: Duration,
    pub shutdown_timeout: Duration,
}

/// A certificate, or its key, that cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("{0:#}")]
pub struct UnusableCertificate(anyhow::Error);

/// A server that is bound to its address.
pub struct Server {
    options: ServerOptions,
    site: Site,
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
    pub async fn bind(
        options: ServerOptions,
        site: Site,
        reload: Arc<Notify>,
    ) -> anyhow::Result<Self> {
        let load = |files| FreshCertificate::load(files).map_err(UnusableCertificate);
        let certificate = options.certificate.clone().map(load).transpose()?;
        let (address, advice) = (options.address, options.advice);
        let listener = TcpListener::bind(address)
            .await
            .with_context(|| format!("failed to listen on {address}: {advice}"))?;
        Ok(Self { options, site, listener, certificate, reload })
    }

    pub fn local_address(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    /// Serves until `stop`, then finishes what was accepted, within the shutdown timeout.
    pub async fn serve(self, stop: CancellationToken) -> anyhow::Result<()> {
        let options = self.options;
        let tls = self.certificate.as_ref().map(FreshCertificate::config);
        let (first_request, idle) = (options.first_request_timeout, options.idle_timeout);
        let acceptor = Acceptor::new(tls, options.places, first_request, idle, stop.clone());
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
            .first_request_timeout(options.first_request_timeout)
            .accept_error_handler(|address, error| tell_refused(address.copied(), error));
        let builder = server.http_builder();
        builder.http1().header_read_timeout(options.idle_timeout).max_buf_size(HEADER_MAX as usize);
        builder
            .http2()
            .max_concurrent_streams(HTTP2_STREAMS)
            .max_header_list_size(HEADER_MAX)
            .initial_connection_window_size(HTTP2_WINDOW)
            .initial_stream_window_size(HTTP2_WINDOW)
            .keep_alive_interval(HTTP2_PING)
            .keep_alive_timeout(HTTP2_PING);
        let shutdown_timeout = options.shutdown_timeout;
        let site = Arc::new(self.site);
        let service = service_fn(async |peer: SocketAddr| {
            let (site, stop) = (site.clone(), stop.clone());
            // The acceptor knows better.
            let (transport, open_requests) = (Transport::Plain, OpenRequests::default());
            Ok::<_, Infallible>(ConnectionService { site, peer, transport, open_requests, stop })
        });
        tokio::select! {
            served = server.serve(service) => return Ok(served?),
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

/// A connection that was not taken in: the client's business, unless the process has no file left.
fn tell_refused(address: Option<SocketAddr>, error: &io::Error) {
    if files::are_used_up_by(error) {
        if let Some(untold) = NO_FILES.is_due() {
            tracing::error!(%error, untold, "no new connection can be taken: raise the limit of open files");
        }
    } else {
        tracing::debug!(?address, %error, "failed to accept a connection");
    }
}

static NO_FILES: SparingLine = SparingLine::new();

/// Waits until no connection is open, within this time.
async fn all_leave(handle: &Handle<SocketAddr>, limit: Duration) {
    let left = async {
        while handle.connection_count() > 0 {
            tokio::time::sleep(LEAVE_LOOK).await;
        }
    };
    let _ = tokio::time::timeout(limit, left).await;
}
