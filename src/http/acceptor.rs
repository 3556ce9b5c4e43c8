//! New connections: how many, TLS or plain, and how long they may take to say which.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use axum_server::accept::Accept;
use axum_server::tls_rustls::RustlsConfig;
use futures_util::future::BoxFuture;
use tokio::net::TcpStream;
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;

use super::connection::{Connection, Stream};
use super::places::Places;
use super::service::ConnectionService;
use super::transport::Transport;

/// The first byte of a TLS connection: a handshake record. No HTTP request begins with it.
const TLS_HANDSHAKE: u8 = 0x16;

/// Takes a connection if there is room for it, and tells TLS from plain HTTP by its first byte.
#[derive(Clone)]
pub struct Acceptor {
    /// `None` where a proxy ends TLS: everything is plain.
    tls: Option<RustlsConfig>,
    places: Arc<Places>,
    /// For the handshake.
    timeout: Duration,
    /// How long a connection may lie still.
    idle_timeout: Duration,
    stop: CancellationToken,
}

impl Acceptor {
    /// From `stop` on, no connection is taken, and every answer ends the one it is sent on.
    pub fn new(
        tls: Option<RustlsConfig>,
        places: Arc<Places>,
        timeout: Duration,
        idle_timeout: Duration,
        stop: CancellationToken,
    ) -> Self {
        Self { tls, places, timeout, idle_timeout, stop }
    }
}

impl Accept<TcpStream, ConnectionService> for Acceptor {
    type Stream = Connection;
    type Service = ConnectionService;
    type Future = BoxFuture<'static, io::Result<(Connection, ConnectionService)>>;

    fn accept(&self, stream: TcpStream, mut service: ConnectionService) -> Self::Future {
        let acceptor = self.clone();
        Box::pin(async move {
            // Before the handshake: a client knows then that nothing was read, and goes elsewhere.
            if acceptor.stop.is_cancelled() {
                return Err(io::Error::other("the process is stopping"));
            }
            let place = acceptor.places.take(service.peer.ip()).map_err(io::Error::other)?;
            stream.set_nodelay(true)?;
            let open = open(acceptor.tls, stream);
            let stream = tokio::time::timeout(acceptor.timeout, open).await??;
            service.transport = match &stream {
                Stream::Tls(_) => Transport::Tls,
                Stream::Plain(_) => Transport::Plain,
            };
            let connection = Connection::new(stream, place, acceptor.idle_timeout, acceptor.stop);
            service.open_requests = connection.open_requests();
            Ok((connection, service))
        })
    }
}

async fn open(tls: Option<RustlsConfig>, stream: TcpStream) -> io::Result<Stream> {
    let Some(tls) = tls else {
        return Ok(Stream::Plain(stream));
    };
    let mut first = [0];
    if stream.peek(&mut first).await? == 1 && first[0] != TLS_HANDSHAKE {
        return Ok(Stream::Plain(stream));
    }
    let stream = TlsAcceptor::from(tls.get_inner()).accept(stream).await?;
    Ok(Stream::Tls(Box::new(stream)))
}
