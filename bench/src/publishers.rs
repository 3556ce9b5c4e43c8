//! The load generator: keep-alive connections that publish events, or hand in calls, each one
//! request at a time.
//!
//! Without a rate, the next request follows the answer (a closed loop). With one, requests have
//! their times, whether or not the bus keeps up: one that had to wait for the answer before it
//! counts from when it should have been sent, so that a bus that stalls does not look fast
//! (coordinated omission). Where nothing had to be waited for, it counts from when it was sent,
//! because the timer's own delay is not the bus's.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use hdrhistogram::Histogram;
use tokio::task::JoinSet;

use super::connection::{Answer, Connection, Endpoint};
use super::latency;
use super::mark::{Clock, Mark};
use super::request::{Kind, Request};
use routemaster::bus::token::ClientToken;

/// How long one request may take.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(30);
/// How long the bus may refuse what it may take later, or be away.
const PATIENCE: Duration = Duration::from_secs(15);
/// The pause before a request is sent again.
const PAUSE: Duration = Duration::from_millis(50);

/// When requests are sent.
#[derive(Clone, Copy, Debug)]
pub enum Pace {
    /// The next one when the one before is answered.
    Closed,
    /// That many requests a second in all.
    Rate(f64),
}

/// When publishing ends: whichever comes first.
#[derive(Clone, Copy, Debug)]
pub struct Until {
    pub after: Duration,
    /// That many events, calls or postbacks are accepted.
    pub items: u64,
}

impl Until {
    pub fn after(after: Duration) -> Self {
        Self { after, items: u64::MAX }
    }
}

/// How to publish.
#[derive(Clone, Copy)]
pub struct Script {
    /// Events, calls or postbacks in one request.
    pub array: usize,
    pub connections: usize,
    pub pace: Pace,
    /// What is published so long is not measured: connections are made meanwhile.
    pub warm_up: Duration,
    /// When publishing ends; its time counts from the end of the warm-up.
    pub until: Until,
    /// The number of the first stream. A connection is a stream where all share a target; else each
    /// target is one.
    pub first_stream: u32,
}

/// What is to be sent, and where it goes.
#[derive(Clone)]
pub struct Load {
    pub token: ClientToken,
    pub kind: Kind,
    /// Topics or URLs: one for all connections, or more that are shared out among them.
    pub targets: Vec<String>,
    pub script: Script,
}

/// What became of it.
pub struct Published {
    /// Requests after the warm-up.
    pub requests: u64,
    /// Items in one request: events, calls or postbacks.
    pub array: u64,
    /// Accepted items by stream, from stream 0, those of the warm-up included.
    pub accepted: Vec<u64>,
    /// Requests that were sent again because they were refused for the moment or not answered.
    pub again: u64,
    pub latency: Histogram<u64>,
    /// From the end of the warm-up to the last answer.
    pub took: Duration,
    /// When the first request was sent.
    pub first_micros: u64,
    /// When the last answer came.
    pub last_micros: u64,
}

impl Published {
    pub fn items(&self) -> u64 {
        self.accepted.iter().sum()
    }

    pub fn requests_per_s(&self) -> f64 {
        let seconds = self.took.as_secs_f64();
        if seconds > 0.0 { self.requests as f64 / seconds } else { 0.0 }
    }

    pub fn items_per_s(&self) -> f64 {
        self.requests_per_s() * self.array as f64
    }

    /// Adds what was published after it on other streams.
    pub fn add(&mut self, other: &Self) -> anyhow::Result<()> {
        self.requests += other.requests;
        self.again += other.again;
        self.accepted.resize(self.accepted.len().max(other.accepted.len()), 0);
        for (sum, more) in self.accepted.iter_mut().zip(&other.accepted) {
            *sum += more;
        }
        self.latency.add(&other.latency)?;
        self.took += other.took;
        self.last_micros = other.last_micros;
        Ok(())
    }
}

/// A target as one connection sends to it.
struct Stream {
    target: String,
    number: u32,
    accepted: u64,
}

struct Publisher {
    endpoint: Arc<Endpoint>,
    connection: Connection,
    request: Request,
    streams: Vec<Stream>,
    clock: Clock,
    latency: Histogram<u64>,
    requests: u64,
    again: u64,
    /// When the last answer came.
    last: Instant,
}

/// What the connections of one load share.
struct Shared {
    start: Instant,
    /// When what is measured begins.
    measured: Instant,
    interval: Option<Duration>,
    until: Until,
    /// Items that somebody has set out to send.
    begun: AtomicU64,
    /// Items that were accepted, for who shows progress.
    progress: Arc<AtomicU64>,
}

/// Sends it; all connections stand before the first request is sent.
///
/// # Errors
/// If the bus refuses a request for good, or for longer than it may.
pub async fn publish(
    endpoint: &Arc<Endpoint>,
    load: &Load,
    clock: Clock,
    progress: &Arc<AtomicU64>,
) -> anyhow::Result<Published> {
    let publishers = connect(endpoint, load, clock).await?;
    let interval = match load.script.pace {
        Pace::Closed => None,
        Pace::Rate(rate) => Some(Duration::from_secs_f64(publishers.len() as f64 / rate)),
    };
    let start = Instant::now();
    let shared = Arc::new(Shared {
        start,
        measured: start + load.script.warm_up,
        interval,
        until: load.script.until,
        begun: AtomicU64::new(0),
        progress: Arc::clone(progress),
    });
    let count = publishers.len() as u32;
    let mut running = JoinSet::new();
    for (index, publisher) in (0..).zip(publishers) {
        // Spread evenly over the first interval.
        let offset = interval.map_or(Duration::ZERO, |interval| interval * index / count);
        running.spawn(publisher.run(Arc::clone(&shared), offset));
    }
    let mut sum = Published {
        requests: 0,
        array: load.script.array as u64,
        accepted: Vec::new(),
        again: 0,
        latency: latency::histogram()?,
        took: Duration::ZERO,
        first_micros: clock.micros_at(shared.start),
        last_micros: 0,
    };
    let mut last = shared.measured;
    while let Some(ended) = running.join_next().await {
        let publisher = ended.context("a publisher panicked")??;
        last = last.max(publisher.last);
        sum.requests += publisher.requests;
        sum.again += publisher.again;
        sum.latency.add(&publisher.latency)?;
        for stream in &publisher.streams {
            let index = stream.number as usize;
            sum.accepted.resize(sum.accepted.len().max(index + 1), 0);
            sum.accepted[index] += stream.accepted;
        }
    }
    sum.took = last - shared.measured;
    sum.last_micros = clock.micros_at(last);
    Ok(sum)
}

async fn connect(
    endpoint: &Arc<Endpoint>,
    load: &Load,
    clock: Clock,
) -> anyhow::Result<Vec<Publisher>> {
    let mut publishers = Vec::new();
    for index in 0..load.script.connections {
        let stream = |number: usize, target: &String| Stream {
            target: target.clone(),
            number: load.script.first_stream + number as u32,
            accepted: 0,
        };
        let streams: Vec<_> = match &load.targets[..] {
            [target] => vec![stream(index, target)],
            targets => {
                let own = targets.iter().enumerate().skip(index).step_by(load.script.connections);
                own.map(|(number, target)| stream(number, target)).collect()
            }
        };
        let Some(first) = streams.first() else { break };
        let connection = Connection::open(endpoint).await;
        publishers.push(Publisher {
            request: Request::new(
                endpoint,
                &load.token,
                load.kind,
                &first.target,
                load.script.array,
            ),
            endpoint: Arc::clone(endpoint),
            connection: connection
                .with_context(|| format!("failed to connect to {}", endpoint.authority()))?,
            streams,
            clock,
            latency: latency::histogram()?,
            requests: 0,
            again: 0,
            last: Instant::now(),
        });
    }
    Ok(publishers)
}

impl Publisher {
    async fn run(mut self, shared: Arc<Shared>, offset: Duration) -> anyhow::Result<Self> {
        let mut due = shared.start + offset;
        let items = self.request.items();
        let many = self.streams.len() > 1;
        let mut turn = 0;
        loop {
            let end = shared.measured.checked_add(shared.until.after);
            let in_time = |begin: Instant| end.is_none_or(|end| begin < end);
            if shared.interval.is_some() && !in_time(due) {
                break;
            }
            let begin = wait(&shared, due).await;
            let late = shared.interval.is_none() && !in_time(begin);
            if late || shared.begun.fetch_add(items, Ordering::Relaxed) >= shared.until.items {
                break;
            }
            let stream = &self.streams[turn];
            if many {
                self.request.set_target(&stream.target);
            }
            let measured = begin >= shared.measured;
            let micros = if measured { self.clock.micros_at(begin) } else { Mark::UNMEASURED };
            self.request.set_marks(stream.number, stream.accepted, micros);
            self.insist().await?;
            self.last = Instant::now();
            if measured {
                let took = self.clock.micros_at(self.last).saturating_sub(micros);
                latency::record(&mut self.latency, took);
                self.requests += 1;
            }
            self.streams[turn].accepted += items;
            turn = (turn + 1) % self.streams.len();
            shared.progress.fetch_add(items, Ordering::Relaxed);
            due += shared.interval.unwrap_or_default();
        }
        Ok(self)
    }

    /// Sends the request until it is accepted.
    async fn insist(&mut self) -> anyhow::Result<()> {
        let mut since = None;
        loop {
            let exchange = self.connection.exchange(self.request.bytes());
            let reason = match tokio::time::timeout(ANSWER_TIMEOUT, exchange).await {
                Ok(Ok(Answer { status: 200..=202 | 204, .. })) => return Ok(()),
                Ok(Ok(Answer { status: status @ (429 | 500..), reason })) => {
                    format!("{status} {reason}")
                }
                Ok(Ok(Answer { status, reason })) => {
                    bail!("the bus refused a request: {status} {reason}")
                }
                Ok(Err(error)) => error.to_string(),
                Err(_) => format!("no answer within {} s", ANSWER_TIMEOUT.as_secs()),
            };
            self.again += 1;
            let since: &mut Instant = since.get_or_insert_with(Instant::now);
            if since.elapsed() > PATIENCE {
                bail!("the bus accepted no request for {} s: {reason}", since.elapsed().as_secs());
            }
            tokio::time::sleep(PAUSE).await;
            // Whatever the connection was about to say belongs to the request before.
            if let Ok(connection) = Connection::open(&self.endpoint).await {
                self.connection = connection;
            }
        }
    }
}

/// Waits until the next request is due. Returns from when on it counts.
async fn wait(shared: &Shared, due: Instant) -> Instant {
    let now = Instant::now();
    if shared.interval.is_none() {
        return now;
    }
    if due <= now {
        return due;
    }
    tokio::time::sleep_until(due.into()).await;
    Instant::now()
}
