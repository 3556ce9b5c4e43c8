//! New connections: how many, TLS or plain, and how long they may take to say which.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use axum_server::accept::Accept;
use axum_server::tls_rustls::RustlsConfig;
use futures_util::future::BoxFuture;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tokio_util::sync::CancellationToken;

use super::entrance::Entrance;
use super::transport::Transport;

/// The first byte of a TLS connection: a handshake record. No HTTP request begins with it.
const TLS_HANDSHAKE: u8 = 0x16;

/// Takes a connection if there is room for it, and tells TLS from plain HTTP by its first byte.
#[derive(Clone)]
pub struct Acceptor {
    /// `None` where a proxy ends TLS: everything is plain.
    tls: Option<RustlsConfig>,
    places: Arc<Semaphore>,
    timeout: Duration,
    stop: CancellationToken,
}

impl Acceptor {
    /// From `stop` on, no connection is taken, and every answer ends the one it is sent on.
    pub fn new(
        tls: Option<RustlsConfig>,
        max_connections: usize,
        timeout: Duration,
        stop: CancellationToken,
    ) -> Self {
        let places = Arc::new(Semaphore::new(max_connections.min(Semaphore::MAX_PERMITS)));
        Self { tls, places, timeout, stop }
    }
}

impl Accept<TcpStream, Entrance> for Acceptor {
    type Stream = Connection;
    type Service = Entrance;
    type Future = BoxFuture<'static, io::Result<(Connection, Entrance)>>;

    fn accept(&self, stream: TcpStream, mut entrance: Entrance) -> Self::Future {
        let acceptor = self.clone();
        Box::pin(async move {
            // Before the handshake: a client knows then that nothing was read, and goes elsewhere.
            if acceptor.stop.is_cancelled() {
                return Err(io::Error::other("the process is stopping"));
            }
            let full = |_| io::Error::other("ROUTEMASTER_MAX_CONNECTIONS are open already");
            let place = acceptor.places.try_acquire_owned().map_err(full)?;
            stream.set_nodelay(true)?;
            let open = open(acceptor.tls, stream);
            let stream = tokio::time::timeout(acceptor.timeout, open).await??;
            entrance.transport = match &stream {
                Stream::Tls(_) => Transport::Tls,
                Stream::Plain(_) => Transport::Plain,
            };
            let connection = Connection { stream, _place: place };
            Ok((connection, entrance))
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

enum Stream {
    Tls(Box<TlsStream<TcpStream>>),
    Plain(TcpStream),
}

/// An open connection; its place is free again when it is dropped.
pub struct Connection {
    stream: Stream,
    _place: OwnedSemaphorePermit,
}

/// Runs the same method on the stream, whichever it is.
macro_rules! on_stream {
    ($connection:expr, $method:ident $(, $argument:expr)*) => {
        match &mut $connection.get_mut().stream {
            Stream::Tls(stream) => Pin::new(stream.as_mut()).$method($($argument),*),
            Stream::Plain(stream) => Pin::new(stream).$method($($argument),*),
        }
    };
}

impl AsyncRead for Connection {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        on_stream!(self, poll_read, cx, buffer)
    }
}

impl AsyncWrite for Connection {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        on_stream!(self, poll_write, cx, bytes)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        on_stream!(self, poll_flush, cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        on_stream!(self, poll_shutdown, cx)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        on_stream!(self, poll_write_vectored, cx, slices)
    }

    fn is_write_vectored(&self) -> bool {
        match &self.stream {
            Stream::Tls(stream) => stream.is_write_vectored(),
            Stream::Plain(stream) => stream.is_write_vectored(),
        }
    }
}
