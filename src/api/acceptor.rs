//! New connections: how many, TLS or plain, and how long they may take to say which.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::http::header::CONNECTION;
use axum::http::{HeaderValue, Request, Response, Version};
use axum_server::accept::Accept;
use axum_server::tls_rustls::RustlsConfig;
use futures_util::FutureExt;
use futures_util::future::{BoxFuture, Map};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tokio_util::sync::CancellationToken;
use tower::Service;

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

impl<S: Send + 'static> Accept<TcpStream, S> for Acceptor {
    type Stream = Connection;
    type Service = Marked<S>;
    type Future = BoxFuture<'static, io::Result<(Connection, Marked<S>)>>;

    fn accept(&self, stream: TcpStream, service: S) -> Self::Future {
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
            let transport = match &stream {
                Stream::Tls(_) => Transport::Tls,
                Stream::Plain(_) => Transport::Plain,
            };
            let connection = Connection { stream, _place: place };
            Ok((connection, Marked { service, transport, stop: acceptor.stop }))
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

/// Marks each request with the transport of its connection, and tells clients when to leave.
#[derive(Clone)]
pub struct Marked<S> {
    service: S,
    transport: Transport,
    stop: CancellationToken,
}

type Answer<C, E> = Result<Response<C>, E>;

impl<S, B, C> Service<Request<B>> for Marked<S>
where
    S: Service<Request<B>, Response = Response<C>>,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = Map<S::Future, fn(Answer<C, S::Error>) -> Answer<C, S::Error>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.service.poll_ready(cx)
    }

    fn call(&mut self, mut request: Request<B>) -> Self::Future {
        request.extensions_mut().insert(self.transport);
        // HTTP/2 has a way of its own to say so.
        let last = request.version() <= Version::HTTP_11 && self.stop.is_cancelled();
        self.service.call(request).map(if last { closing } else { std::convert::identity })
    }
}

fn closing<C, E>(answer: Answer<C, E>) -> Answer<C, E> {
    answer.map(|mut response| {
        response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
        response
    })
}
