//! An open connection: TLS or plain, and how it ends at a stop.
//!
//! A client that is idle on HTTP/2 may read nothing until it has the next request (libcurl does so), and
//! then never hears that the process is stopping. It is not waited for: the server sees the end of a
//! connection on which no request is open and nothing has moved for a while.
//!
//! A client that does not do its part loses its place at any time: one that reads no answers, and one that
//! makes no request though it answers every ping.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::{Sleep, sleep};
use tokio_rustls::server::TlsStream;

use super::course::{Course, Stage};
use super::transport::Transport;

/// How long a stop waits for open connections to be used once more. Whoever closes an idle connection
/// at once meets requests that are just being sent, and their clients cannot know what became of them;
/// a client that hears `Connection: close` with an answer goes elsewhere by itself.
pub const LEAVE: Duration = Duration::from_millis(500);
/// How often a connection is looked at during a stop. One on which nothing has moved for so long, and
/// no earlier than after [`LEAVE`], is over.
const LOOK: Duration = Duration::from_millis(250);

/// What is read and written.
pub enum Stream {
    Tls(Box<TlsStream<TcpStream>>),
    Plain(TcpStream),
}

/// An open connection.
pub struct Connection {
    stream: Stream,
    open_requests: OpenRequests,
    leaving: Leaving,
    patience: Patience,
}

/// The requests of a connection whose answers have not been handed over whole.
#[derive(Clone, Default)]
pub struct OpenRequests(Arc<Counts>);

#[derive(Default)]
struct Counts {
    open: AtomicUsize,
    /// Those of them whose answer is there, and waits for the client to read it.
    answered: AtomicUsize,
    /// How often anything happened to any of them.
    steps: AtomicUsize,
}

/// One of them, as long as it is kept.
pub struct OpenRequest {
    counts: Arc<Counts>,
    is_answered: bool,
}

impl OpenRequests {
    pub fn begin(&self) -> OpenRequest {
        self.0.open.fetch_add(1, Ordering::Relaxed);
        self.0.steps.fetch_add(1, Ordering::Relaxed);
        OpenRequest { counts: self.0.clone(), is_answered: false }
    }

    fn are_none(&self) -> bool {
        self.0.open.load(Ordering::Relaxed) == 0
    }

    /// Whether it is the client whom everything waits for.
    fn wait_for_client(&self) -> bool {
        self.0.open.load(Ordering::Relaxed) == self.0.answered.load(Ordering::Relaxed)
    }

    fn steps(&self) -> usize {
        self.0.steps.load(Ordering::Relaxed)
    }

    /// Whether there was never one.
    pub fn were_none(&self) -> bool {
        self.steps() == 0
    }
}

impl OpenRequest {
    /// Its answer is there.
    pub fn answered(&mut self) {
        self.counts.answered.fetch_add(usize::from(!self.is_answered), Ordering::Relaxed);
        self.is_answered = true;
    }

    /// A part of its answer is handed over.
    pub fn step(&self) {
        self.counts.steps.fetch_add(1, Ordering::Relaxed);
    }
}

impl Drop for OpenRequest {
    fn drop(&mut self) {
        self.counts.answered.fetch_sub(usize::from(self.is_answered), Ordering::Relaxed);
        self.counts.open.fetch_sub(1, Ordering::Relaxed);
        self.step();
    }
}

/// How long a client may do nothing.
struct Patience {
    limit: Duration,
    /// Since when it takes no bytes, until then it may.
    unread: Option<Pin<Box<Sleep>>>,
    /// Since when it makes no request and reads no answer, and the steps until then.
    idle: Option<(Pin<Box<Sleep>>, usize)>,
}

impl Patience {
    fn new(limit: Duration) -> Self {
        Self { limit, unread: None, idle: None }
    }

    /// What became of writing; an error once the client has taken nothing for too long.
    fn with_written<T>(
        &mut self,
        cx: &mut Context<'_>,
        written: Poll<io::Result<T>>,
    ) -> Poll<io::Result<T>> {
        if written.is_ready() {
            self.unread = None;
            return written;
        }
        let limit = self.limit;
        let unread = self.unread.get_or_insert_with(|| Box::pin(sleep(limit)));
        ready!(unread.as_mut().poll(cx));
        Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, "the client reads no answers")))
    }

    /// Ready once all has waited for the client for too long.
    fn poll_idle(&mut self, cx: &mut Context<'_>, open: &OpenRequests) -> Poll<()> {
        loop {
            let limit = self.limit;
            let (idle, steps) =
                self.idle.get_or_insert_with(|| (Box::pin(sleep(limit)), open.steps()));
            ready!(idle.as_mut().poll(cx));
            if *steps == open.steps() && open.wait_for_client() {
                return Poll::Ready(());
            }
            self.idle = None;
        }
    }
}

/// Watches for the time when a connection is over because the process stops.
struct Leaving {
    course: Arc<Course>,
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
            ready!(self.course.poll_reached(Stage::Leaving, cx));
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
    /// A client that does not do its part within `patience` loses it.
    pub fn new(stream: Stream, patience: Duration, course: Arc<Course>) -> Self {
        let leaving = Leaving { course, look: None, looks: 0, has_moved: false, is_blocked: false };
        let (open_requests, patience) = (OpenRequests::default(), Patience::new(patience));
        Self { stream, open_requests, leaving, patience }
    }

    pub fn transport(&self) -> Transport {
        match &self.stream {
            Stream::Tls(_) => Transport::Tls,
            Stream::Plain(_) => Transport::Plain,
        }
    }

    /// The version of HTTP that client and server have agreed upon, if they have.
    pub fn agreed_protocol(&self) -> Option<&[u8]> {
        match &self.stream {
            Stream::Tls(stream) => stream.get_ref().1.alpn_protocol(),
            Stream::Plain(_) => None,
        }
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
        if this.patience.poll_idle(cx, &this.open_requests).is_ready() {
            return Poll::Ready(Ok(()));
        }
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
        this.patience.with_written(cx, written)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let flushed = on_stream!(this, poll_flush, cx);
        this.patience.with_written(cx, flushed)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let shut = on_stream!(this, poll_shutdown, cx);
        this.patience.with_written(cx, shut)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let written = on_stream!(this, poll_write_vectored, cx, slices);
        this.leaving.note(&written);
        this.patience.with_written(cx, written)
    }

    fn is_write_vectored(&self) -> bool {
        match &self.stream {
            Stream::Tls(stream) => stream.is_write_vectored(),
            Stream::Plain(stream) => stream.is_write_vectored(),
        }
    }
}
