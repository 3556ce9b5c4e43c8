//! An open connection: TLS or plain, with the place that it takes, and how it ends at a stop.
//!
//! A client that is idle on HTTP/2 may read nothing until it has the next request (libcurl does so), and
//! then never hears that the process is stopping. It is not waited for: the server sees the end of a
//! connection on which no request is open and nothing has moved for a while.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::{Sleep, sleep};
use tokio_rustls::server::TlsStream;
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};

/// How long a stop waits for open connections to be used once more. Whoever closes an idle connection
/// at once meets requests that are just being sent, and their clients cannot know what became of them;
/// a client that hears `Connection: close` with an answer goes elsewhere by itself.
pub const LEAVE: Duration = Duration::from_millis(500);
/// How often a connection is looked at during a stop. One on which nothing has moved for so long, and
/// no earlier than after [`LEAVE`], is over.
const LOOK: Duration = Duration::from_millis(250);

pub enum Stream {
    Tls(Box<TlsStream<TcpStream>>),
    Plain(TcpStream),
}

/// An open connection; its place is free again when it is dropped.
pub struct Connection {
    stream: Stream,
    open_requests: OpenRequests,
    leaving: Leaving,
    _place: OwnedSemaphorePermit,
}

/// The requests of a connection whose answers have not been handed over whole.
#[derive(Clone, Default)]
pub struct OpenRequests(Arc<AtomicUsize>);

/// One of them, as long as it is kept.
pub struct OpenRequest(Arc<AtomicUsize>);

impl OpenRequests {
    pub fn begin(&self) -> OpenRequest {
        self.0.fetch_add(1, Ordering::Relaxed);
        OpenRequest(self.0.clone())
    }

    fn are_none(&self) -> bool {
        self.0.load(Ordering::Relaxed) == 0
    }
}

impl Drop for OpenRequest {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Watches for the time when a connection is over because the process stops.
struct Leaving {
    stop: Pin<Box<WaitForCancellationFutureOwned>>,
    /// From the stop on: until the next look.
    look: Option<Pin<Box<Sleep>>>,
    looks: u32,
    /// Whether bytes came or went since the last look.
    has_moved: bool,
    /// Whether bytes wait for the client to take others first.
    is_blocked: bool,
}

impl Leaving {
    fn poll_over(&mut self, cx: &mut Context<'_>, open: &OpenRequests) -> Poll<()> {
        if self.look.is_none() {
            ready!(self.stop.as_mut().poll(cx));
            self.has_moved = false;
        }
        loop {
            let look = self.look.get_or_insert_with(|| Box::pin(sleep(LOOK)));
            ready!(look.as_mut().poll(cx));
            self.look = None;
            self.looks += 1;
            let is_over = !self.has_moved && !self.is_blocked && open.are_none();
            if is_over && LOOK * self.looks >= LEAVE {
                return Poll::Ready(());
            }
            self.has_moved = false;
        }
    }

    fn note<T>(&mut self, written: &Poll<io::Result<T>>) {
        self.is_blocked = written.is_pending();
        self.has_moved |= written.is_ready();
    }
}

impl Connection {
    pub fn new(stream: Stream, place: OwnedSemaphorePermit, stop: CancellationToken) -> Self {
        let leaving = Leaving {
            stop: Box::pin(stop.cancelled_owned()),
            look: None,
            looks: 0,
            has_moved: false,
            is_blocked: false,
        };
        Self { stream, open_requests: OpenRequests::default(), leaving, _place: place }
    }

    /// Where the requests on it are to be counted.
    pub fn open_requests(&self) -> OpenRequests {
        self.open_requests.clone()
    }
}

/// Runs the same method on the stream, whichever it is.
macro_rules! on_stream {
    ($connection:expr, $method:ident $(, $argument:expr)*) => {
        match &mut $connection.stream {
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
        let this = self.get_mut();
        let read = on_stream!(this, poll_read, cx, buffer);
        if read.is_ready() {
            this.leaving.has_moved = true;
            return read;
        }
        // Nothing read is how a stream says that it has ended.
        this.leaving.poll_over(cx, &this.open_requests).map(Ok)
    }
}

impl AsyncWrite for Connection {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let written = on_stream!(this, poll_write, cx, bytes);
        this.leaving.note(&written);
        written
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        on_stream!(self.get_mut(), poll_flush, cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        on_stream!(self.get_mut(), poll_shutdown, cx)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let written = on_stream!(this, poll_write_vectored, cx, slices);
        this.leaving.note(&written);
        written
    }

    fn is_write_vectored(&self) -> bool {
        match &self.stream {
            Stream::Tls(stream) => stream.is_write_vectored(),
            Stream::Plain(stream) => stream.is_write_vectored(),
        }
    }
}
