//! The benchmark's own subscribers, and the destinations of its calls: one lean server with a path
//! for each of them.

use std::io;
use std::net::Ipv4Addr;
use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::Context;
use hdrhistogram::Histogram;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;
use tokio_util::task::AbortOnDropHandle;

use super::connection::content_length;
use super::latency;
use super::mark::{Clock, Mark, Marks};
use super::tally::{Faults, Tally};
use routemaster::tls::development::Identity;
use routemaster::tls::server;

/// The largest delivery that is taken, in bytes.
const BODY_MAX: usize = 64 * 1024 * 1024;
/// The largest header, in bytes.
const HEAD_MAX: usize = 32 * 1024;
const HEADERS_MAX: usize = 64;
/// How long a TLS handshake may take.
const HANDSHAKE: Duration = Duration::from_secs(10);
/// A connection waits that long for its next delivery.
const IDLE: Duration = Duration::from_secs(300);
/// Read at once, in bytes.
const CHUNK: usize = 64 * 1024;

const CONTINUE: &[u8] = b"HTTP/1.1 100 Continue\r\n\r\n";
const TAKEN: &[u8] = b"HTTP/1.1 204 No Content\r\n\r\n";
const UNKNOWN: &[u8] = b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n";

/// Times from publish to receipt, of a group of subscribers.
pub struct Times {
    histogram: Mutex<Histogram<u64>>,
    /// What is taken off each time, in microseconds: the subscribers' `timeout` where it is only
    /// asked how late a delivery is.
    allowed: u64,
}

impl Times {
    pub fn new(allowed: Duration) -> anyhow::Result<Arc<Self>> {
        let histogram = Mutex::new(latency::histogram()?);
        Ok(Arc::new(Self { histogram, allowed: allowed.as_micros() as u64 }))
    }

    /// What was recorded since the last call.
    pub fn take(&self) -> anyhow::Result<Histogram<u64>> {
        let fresh = latency::histogram()?;
        Ok(std::mem::replace(&mut self.lock(), fresh))
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Histogram<u64>> {
        self.histogram.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// How a subscriber treats deliveries.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Conduct {
    /// Takes and acknowledges them.
    Takes,
    /// Reads them and leaves them unanswered.
    Hangs,
}

/// One subscriber: what it may receive, and what it has.
pub struct Subscriber {
    tally: Mutex<Tally>,
    times: Arc<Times>,
    conduct: watch::Sender<Conduct>,
}

impl Subscriber {
    pub fn new(streams: &Range<u32>, times: &Arc<Times>) -> Arc<Self> {
        Arc::new(Self {
            tally: Mutex::new(Tally::of(streams)),
            times: Arc::clone(times),
            conduct: watch::Sender::new(Conduct::Takes),
        })
    }

    pub fn set_conduct(&self, conduct: Conduct) {
        self.conduct.send_replace(conduct);
    }

    fn tally(&self) -> std::sync::MutexGuard<'_, Tally> {
        self.tally.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What all subscribers together have received.
#[derive(Default)]
pub struct Totals {
    /// Events, each one counted once for each subscriber, or calls.
    items: AtomicU64,
    requests: AtomicU64,
    last_micros: AtomicU64,
    curve: Mutex<Curve>,
}

/// When how much had arrived, noted every so many items.
#[derive(Default)]
struct Curve {
    every: u64,
    points: Vec<(u64, u64)>,
}

impl Totals {
    pub fn items(&self) -> u64 {
        self.items.load(Ordering::Acquire)
    }

    pub fn requests(&self) -> u64 {
        self.requests.load(Ordering::Relaxed)
    }

    /// When the last delivery was there.
    pub fn last_micros(&self) -> u64 {
        self.last_micros.load(Ordering::Relaxed)
    }

    /// Asks for a [`Totals::curve`] with a point every so many items.
    pub fn note_every(&self, items: u64) {
        let mut curve = self.curve.lock().unwrap_or_else(PoisonError::into_inner);
        *curve = Curve { every: items.max(1), points: Vec::new() };
    }

    /// How many items there were, and when, in microseconds.
    pub fn curve(&self) -> Vec<(u64, u64)> {
        self.curve.lock().unwrap_or_else(PoisonError::into_inner).points.clone()
    }

    fn add(&self, fresh: u64, micros: u64) {
        self.requests.fetch_add(1, Ordering::Relaxed);
        self.last_micros.fetch_max(micros, Ordering::Relaxed);
        let before = self.items.fetch_add(fresh, Ordering::Release);
        let mut curve = self.curve.lock().unwrap_or_else(PoisonError::into_inner);
        let steps = |items: u64| items.checked_div(curve.every).unwrap_or(0);
        if curve.points.is_empty() || steps(before + fresh) > steps(before) {
            curve.points.push((before + fresh, micros));
        }
    }
}

struct Shared {
    /// What the path of every callback begins with; nobody else knows it.
    prefix: String,
    /// None for plain HTTP.
    tls: Option<TlsAcceptor>,
    subscribers: Vec<Arc<Subscriber>>,
    totals: Totals,
    clock: Clock,
}

/// How receivers are reached.
pub enum Doors<'a> {
    /// All by HTTPS, at one port; 0 is a free one.
    Https { port: u16, identity: &'a Identity },
    /// Each by plain HTTP at a free port of its own, which makes it a destination of its own.
    PlainEach,
}

/// Receivers that run until they are dropped.
pub struct Receivers {
    /// Where they are reached, without a path: all of them, or each.
    origins: Vec<String>,
    shared: Arc<Shared>,
    _servers: Vec<AbortOnDropHandle<()>>,
}

impl Receivers {
    /// Listens on 127.0.0.1.
    ///
    /// # Errors
    /// If the port is taken or the identity cannot be used.
    pub async fn start(
        doors: Doors<'_>,
        secret: &str,
        subscribers: Vec<Arc<Subscriber>>,
        clock: Clock,
    ) -> anyhow::Result<Self> {
        let (port, tls, listeners) = match doors {
            Doors::Https { port, identity } => {
                let mut tls = (*server::from_identity(identity)?).clone();
                tls.alpn_protocols = vec![b"http/1.1".to_vec()];
                (port, Some(TlsAcceptor::from(Arc::new(tls))), 1)
            }
            Doors::PlainEach => (0, None, subscribers.len()),
        };
        let scheme = if tls.is_some() { "https" } else { "http" };
        let totals = Totals::default();
        let prefix = format!("/{secret}/");
        let shared = Arc::new(Shared { prefix, tls, subscribers, totals, clock });
        let (mut origins, mut servers) = (Vec::new(), Vec::new());
        for _ in 0..listeners {
            let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port)).await;
            let listener = listener.with_context(|| {
                format!("failed to listen on port {port}: choose another one with --port")
            })?;
            origins.push(format!("{scheme}://localhost:{}", listener.local_addr()?.port()));
            servers.push(AbortOnDropHandle::new(tokio::spawn(accept(listener, shared.clone()))));
        }
        Ok(Self { origins, shared, _servers: servers })
    }

    /// Where what a subscriber receives goes, below `base` if they are reached there.
    pub fn callback(&self, base: Option<&str>, index: usize) -> String {
        let own = self.origins.get(index).or(self.origins.first()).map_or("", String::as_str);
        let base = base.map_or(own, |base| base.trim_end_matches('/'));
        // All are equally long.
        format!("{base}{}{index:05}", self.shared.prefix)
    }

    pub fn subscribers(&self) -> &[Arc<Subscriber>] {
        &self.shared.subscribers
    }

    pub fn totals(&self) -> &Totals {
        &self.shared.totals
    }

    /// Compares what arrived with what was accepted, by stream.
    pub fn faults(&self, accepted: &[u64]) -> Faults {
        let mut sum = Faults::default();
        for subscriber in &self.shared.subscribers {
            sum += subscriber.tally().faults(accepted);
        }
        sum
    }
}

async fn accept(listener: TcpListener, shared: Arc<Shared>) {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => {
                    connections.spawn(serve(stream, Arc::clone(&shared)));
                }
                // Out of file descriptors, for one: others may be closed in a moment.
                Err(_) => tokio::time::sleep(Duration::from_millis(10)).await,
            },
            Some(_) = connections.join_next() => {}
        }
    }
}

/// Serves one connection. Whatever goes wrong ends it: the bus sends again.
async fn serve(stream: TcpStream, shared: Arc<Shared>) -> io::Result<()> {
    stream.set_nodelay(true)?;
    match &shared.tls {
        Some(tls) => {
            let stream = tokio::time::timeout(HANDSHAKE, tls.accept(stream)).await??;
            exchange(stream, &shared).await
        }
        None => exchange(stream, &shared).await,
    }
}

async fn exchange(stream: impl AsyncRead + AsyncWrite + Unpin, shared: &Shared) -> io::Result<()> {
    let mut exchange = Exchange { stream, buffer: Vec::with_capacity(CHUNK) };
    while let Some(head) = exchange.head(&shared.prefix).await? {
        let body = exchange.body(&head).await?;
        let Some(subscriber) = head.subscriber.and_then(|index| shared.subscribers.get(index))
        else {
            exchange.answer(UNKNOWN, body.end).await?;
            continue;
        };
        exchange.wait_for(subscriber).await?;
        receive(shared, subscriber, &exchange.buffer[body.clone()]);
        exchange.answer(TAKEN, body.end).await?;
    }
    Ok(())
}

/// Takes one delivery.
fn receive(shared: &Shared, subscriber: &Subscriber, body: &[u8]) {
    let now = shared.clock.micros();
    let mut fresh = 0;
    {
        let mut tally = subscriber.tally();
        let mut times = subscriber.times.lock();
        for mark in Marks::of(body) {
            if tally.receive(mark.stream, mark.number) {
                fresh += 1;
                if mark.micros == Mark::UNMEASURED {
                    continue;
                }
                let took = now.saturating_sub(mark.micros);
                latency::record(&mut times, took.saturating_sub(subscriber.times.allowed));
            }
        }
    }
    shared.totals.add(fresh, now);
}

/// The header of a delivery, as far as it matters.
struct Head {
    /// Where the body begins.
    length: usize,
    body: usize,
    subscriber: Option<usize>,
    expects_continue: bool,
}

struct Exchange<S> {
    stream: S,
    /// What was read and not yet answered.
    buffer: Vec<u8>,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Exchange<S> {
    /// Reads the next header; none when the connection has ended.
    async fn head(&mut self, prefix: &str) -> io::Result<Option<Head>> {
        loop {
            if let Some(head) = parse(&self.buffer, prefix)? {
                return Ok(Some(head));
            }
            if self.buffer.len() > HEAD_MAX {
                return Err(io::Error::other("the header is too long"));
            }
            let idle = self.buffer.is_empty();
            if tokio::time::timeout(IDLE, self.read()).await?? == 0 {
                return if idle { Ok(None) } else { Err(io::ErrorKind::UnexpectedEof.into()) };
            }
        }
    }

    /// Reads the body. Where it is in the buffer.
    async fn body(&mut self, head: &Head) -> io::Result<Range<usize>> {
        let end = head.length + head.body;
        if head.expects_continue && self.buffer.len() < end {
            self.stream.write_all(CONTINUE).await?;
            self.stream.flush().await?;
        }
        while self.buffer.len() < end {
            self.buffer.reserve(end - self.buffer.len());
            if tokio::time::timeout(IDLE, self.read()).await?? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
        Ok(head.length..end)
    }

    async fn read(&mut self) -> io::Result<usize> {
        self.buffer.reserve(CHUNK);
        self.stream.read_buf(&mut self.buffer).await
    }

    /// Waits while the subscriber hangs. A delivery that the bus has given up meanwhile was not
    /// received.
    async fn wait_for(&mut self, subscriber: &Subscriber) -> io::Result<()> {
        if *subscriber.conduct.borrow() == Conduct::Takes {
            return Ok(());
        }
        let mut conduct = subscriber.conduct.subscribe();
        tokio::select! {
            _ = conduct.wait_for(|conduct| *conduct == Conduct::Takes) => Ok(()),
            _ = self.stream.read_u8() => Err(io::ErrorKind::ConnectionAborted.into()),
        }
    }

    /// Answers the delivery, which ends there in the buffer.
    async fn answer(&mut self, answer: &[u8], end: usize) -> io::Result<()> {
        self.buffer.drain(..end);
        self.stream.write_all(answer).await?;
        self.stream.flush().await
    }
}

/// Parses a header; none if it is not whole yet.
fn parse(bytes: &[u8], prefix: &str) -> io::Result<Option<Head>> {
    let mut headers = [httparse::EMPTY_HEADER; HEADERS_MAX];
    let mut request = httparse::Request::new(&mut headers);
    let httparse::Status::Complete(length) = request.parse(bytes).map_err(io::Error::other)? else {
        return Ok(None);
    };
    let body = content_length(request.headers)?;
    if body > BODY_MAX {
        return Err(io::Error::other("the body is too long"));
    }
    // A tunnel or a proxy may put something before it.
    let index = |path: &str| path.split_once(prefix)?.1.parse().ok();
    let expects = |header: &httparse::Header<'_>| header.name.eq_ignore_ascii_case("expect");
    Ok(Some(Head {
        length,
        body,
        subscriber: request.path.and_then(index),
        expects_continue: request.headers.iter().any(expects),
    }))
}
