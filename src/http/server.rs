//! The HTTPS server: limits on what a connection may do, and the graceful stop.

use std::io;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use super::acceptor::Acceptor;
use super::connection::{Connection, LEAVE};
use super::course::{Connections, Entry, Stage};
use super::fronts::Fronts;
use super::places::{Place, Places};
use super::service::{ConnectionService, ConnectionState, Site};
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

/// How often is looked whether all connections have ended.
const END_LOOK: Duration = Duration::from_millis(10);
/// The pause after a connection could not be taken in, where the next one could not either.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// Where a server listens, and what its connections may do.
pub struct ServerOptions {
    pub address: SocketAddr,
    /// For whoever must choose another address: what to change.
    pub advice: &'static str,
    /// `None` where a proxy ends TLS: everything is plain.
    pub certificate: Option<CertificateFiles>,
    /// Servers of one process share them.
    pub places: Arc<Places>,
    /// Where connections are served.
    pub fronts: Arc<Fronts>,
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
        let Self { options, site, listener, certificate, reload } = self;
        let serving = Serving {
            acceptor: Acceptor {
                tls: certificate.as_ref().map(FreshCertificate::config),
                timeout: options.first_request_timeout,
            },
            protocols: Protocols::new(options.idle_timeout),
            site: Arc::new(site),
            places: options.places,
            connections: Arc::default(),
            idle_timeout: options.idle_timeout,
        };
        let serving = Arc::new(serving);
        let reloading = async {
            match certificate {
                Some(certificate) => certificate.keep_fresh(&reload).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = reloading => {}
            () = accept_all(&listener, &serving, &options.fronts) => {}
            () = stop.cancelled() => {}
        }
        let connections = &serving.connections;
        connections.advance(Stage::Leaving);
        // Whoever comes now is not taken in, and goes elsewhere.
        drop(listener);
        let timeout = options.shutdown_timeout;
        all_end(connections, LEAVE.min(timeout)).await;
        connections.advance(Stage::Closing);
        all_end(connections, timeout).await;
        connections.advance(Stage::Over);
        Ok(())
    }
}

/// How HTTP is spoken: as the client asks, or as both have agreed.
struct Protocols {
    any: auto::Builder<TokioExecutor>,
    http1: auto::Builder<TokioExecutor>,
}

impl Protocols {
    fn new(idle_timeout: Duration) -> Self {
        let mut any = auto::Builder::new(TokioExecutor::new());
        any.http1()
            .timer(TokioTimer::new())
            .header_read_timeout(idle_timeout)
            .max_buf_size(HEADER_MAX as usize);
        any.http2()
            .timer(TokioTimer::new())
            .max_concurrent_streams(HTTP2_STREAMS)
            .max_header_list_size(HEADER_MAX)
            .initial_connection_window_size(HTTP2_WINDOW)
            .initial_stream_window_size(HTTP2_WINDOW)
            .keep_alive_interval(HTTP2_PING)
            .keep_alive_timeout(HTTP2_PING);
        let http1 = any.clone().http1_only();
        Self { any, http1 }
    }
}

/// What the connections of a server share.
struct Serving {
    acceptor: Acceptor,
    protocols: Protocols,
    site: Arc<Site>,
    places: Arc<Places>,
    connections: Arc<Connections>,
    idle_timeout: Duration,
}

/// Takes connections and hands them to fronts, without end.
async fn accept_all(listener: &TcpListener, serving: &Arc<Serving>, fronts: &Fronts) {
    loop {
        match accept(listener, serving).await {
            Ok((stream, peer, place)) => fronts.spawn(|front, seat| {
                let serving = serving.clone();
                // What is begun is waited for from now on.
                let entry = serving.connections.enter();
                async move {
                    if let Err(error) = serving.serve(stream, peer, front, entry).await {
                        tell_refused(Some(peer), &error);
                    }
                    drop((place, seat));
                }
            }),
            Err((peer, error)) => {
                tell_refused(peer, &error);
                if is_lasting(&error) {
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }
}

type Arrived = (std::net::TcpStream, SocketAddr, Place);

async fn accept(
    listener: &TcpListener,
    serving: &Serving,
) -> Result<Arrived, (Option<SocketAddr>, io::Error)> {
    let (stream, peer) = listener.accept().await.map_err(|error| (None, error))?;
    let refused = |error| (Some(peer), error);
    let place = serving.places.take(peer.ip()).map_err(|full| refused(io::Error::other(full)))?;
    // It becomes a part of another runtime.
    Ok((stream.into_std().map_err(refused)?, peer, place))
}

/// Whether it would fail again at once: the process has no file left, or the system no memory. Else it is the
/// connection that is gone.
fn is_lasting(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset, Other};
    !matches!(error.kind(), ConnectionAborted | ConnectionRefused | ConnectionReset | Other)
}

impl Serving {
    async fn serve(
        &self,
        stream: std::net::TcpStream,
        peer: SocketAddr,
        front: usize,
        entry: Entry,
    ) -> io::Result<()> {
        let course = &entry.course;
        let stream = tokio::select! {
            biased;
            () = course.reached(Stage::Leaving) => return Ok(()),
            stream = self.acceptor.open(TcpStream::from_std(stream)?) => stream?,
        };
        let connection = Connection::new(stream, self.idle_timeout, course.clone());
        let open_requests = connection.open_requests();
        let service = ConnectionService::new(ConnectionState {
            site: self.site.clone(),
            front,
            peer,
            transport: connection.transport(),
            open_requests: open_requests.clone(),
            course: course.clone(),
        });
        let protocol = match connection.agreed_protocol() {
            Some(b"http/1.1") => &self.protocols.http1,
            _ => &self.protocols.any,
        };
        let mut served = pin!(protocol.serve_connection(TokioIo::new(connection), service));
        // Until hyper knows which version it is, it waits without a limit of its own.
        let first_request_is_late = async {
            tokio::time::sleep(self.acceptor.timeout).await;
            if !open_requests.were_none() {
                std::future::pending().await
            }
        };
        tokio::select! {
            _ = &mut served => return Ok(()),
            () = first_request_is_late => return Ok(()),
            () = course.reached(Stage::Closing) => {}
        }
        served.as_mut().graceful_shutdown();
        tokio::select! {
            _ = served => {}
            () = course.reached(Stage::Over) => {}
        }
        Ok(())
    }
}

/// A connection that was not taken in: the client's business, unless the process has no file left.
fn tell_refused(peer: Option<SocketAddr>, error: &io::Error) {
    if files::are_used_up_by(error) {
        if let Some(untold) = NO_FILES.is_due() {
            tracing::error!(%error, untold, "no new connection can be taken: raise the limit of open files");
        }
    } else {
        tracing::debug!(?peer, %error, "failed to accept a connection");
    }
}

static NO_FILES: SparingLine = SparingLine::new();

/// Waits until no connection is open, within this time.
async fn all_end(connections: &Connections, limit: Duration) {
    let ended = async {
        while connections.count() > 0 {
            tokio::time::sleep(END_LOOK).await;
        }
    };
    let _ = tokio::time::timeout(limit, ended).await;
}

#[cfg(test)]
mod tests {
    use axum::Router;
    use axum::http::{Method, Request, StatusCode};
    use axum::response::{IntoResponse, Response};
    use axum::routing::get;
    use futures_util::future::BoxFuture;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::time::Instant;

    use super::*;
    use crate::http::places::PlaceLimits;
    use crate::http::{RequestBody, ShortWay, TransportRules};

    struct Short;

    impl ShortWay for Short {
        fn is_for(&self, _: &Method, path: &str) -> bool {
            path == "/short"
        }

        fn answer(&self, _: Request<RequestBody>, _: SocketAddr) -> BoxFuture<'static, Response> {
            Box::pin(async { StatusCode::NO_CONTENT.into_response() })
        }
    }

    /// How long the slow handler holds its thread up.
    const SLOW: Duration = Duration::from_secs(2);

    async fn ask(connection: &mut TcpStream, path: &str) {
        let request = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n");
        connection.write_all(request.as_bytes()).await.unwrap();
    }

    async fn hear(connection: &mut TcpStream) -> String {
        let mut answer = [0; 1024];
        let read = connection.read(&mut answer).await.unwrap();
        String::from_utf8_lossy(&answer[..read]).into_owned()
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 16)]
    async fn a_handler_that_holds_its_thread_up_holds_no_short_request_up() {
        let slow = async || {
            std::thread::sleep(SLOW);
            StatusCode::OK
        };
        let fronts = Arc::new(Fronts::start().unwrap());
        let short_ways = fronts.each(|| Ok(Arc::new(Short) as Arc<dyn ShortWay>)).unwrap();
        let count = short_ways.len();
        let site = Site {
            router: Router::new().route("/slow", get(slow)),
            runtime: tokio::runtime::Handle::current(),
            is_quick: false,
            short_ways,
            transport: TransportRules {
                trust_proxy: false,
                binds_browsers: false,
                is_answered_plain: |_| true,
                ignores_slash: |_| false,
            },
            in_flight: Arc::default(),
        };
        let limits = PlaceLimits { total: 100, per_address: None, trusted: vec![] };
        let options = ServerOptions {
            address: ([127, 0, 0, 1], 0).into(),
            advice: "",
            certificate: None,
            places: Places::new(limits),
            fronts: fronts.clone(),
            first_request_timeout: Duration::from_secs(10),
            idle_timeout: Duration::from_secs(10),
            shutdown_timeout: Duration::from_secs(10),
        };
        let server = Server::bind(options, site, Arc::default()).await.unwrap();
        let address = server.local_address().unwrap();
        let stop = CancellationToken::new();
        let served = tokio::spawn(server.serve(stop.clone()));
        // One of each on every front.
        let (mut held_up, mut others) = (Vec::new(), Vec::new());
        for connections in [&mut held_up, &mut others] {
            for _ in 0..count {
                connections.push(TcpStream::connect(address).await.unwrap());
                ask(connections.last_mut().unwrap(), "/short").await;
                assert!(hear(connections.last_mut().unwrap()).await.contains(" 204 "));
            }
        }
        let started = Instant::now();
        for connection in &mut held_up {
            ask(connection, "/slow").await;
        }
        for connection in &mut others {
            for _ in 0..20 {
                ask(connection, "/short").await;
                assert!(hear(connection).await.contains(" 204 "));
            }
        }
        assert!(started.elapsed() < SLOW, "{:?}", started.elapsed());
        for connection in &mut held_up {
            assert!(hear(connection).await.contains(" 200 "));
        }
        assert!(started.elapsed() >= SLOW);
        stop.cancel();
        drop((held_up, others));
        served.await.unwrap().unwrap();
    }
}
