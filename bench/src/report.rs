//! What was measured, for programs: one JSON document. Times are in milliseconds, if their name does
//! not say otherwise.

use serde::Serialize;

use super::cost::Cost;
use super::latency::Quantiles;
use super::publishers::Published;
use super::receivers::Receivers;
use super::stage::Stage;
use super::tally::Faults;

/// One measurement. What it does not have is null.
#[derive(Default, Serialize)]
pub struct Run {
    pub scenario: &'static str,
    pub subscribers: usize,
    pub topics: usize,
    /// Where calls go; 0 if none is made.
    pub destinations: usize,
    pub connections: usize,
    /// Events, calls or postbacks in a request.
    pub array: usize,
    /// What subscribers ask for.
    pub max: u32,
    pub timeout_ms: u64,
    pub published: Option<PublishedFigures>,
    pub received: Option<ReceivedFigures>,
    pub ceiling: Option<CeilingFigures>,
    pub fan_out: Option<FanOutFigures>,
    pub backlog: Option<BacklogFigures>,
    pub noisy: Option<NoisyFigures>,
    pub console: Option<ConsoleFigures>,
    pub cost: Option<Cost>,
}

#[derive(Serialize)]
pub struct PublishedFigures {
    /// Requests and accepted events, calls or postbacks, those included that were published before the measuring began.
    pub requests: u64,
    pub events: u64,
    /// Requests that were sent again because they were refused for the moment or not answered.
    pub sent_again: u64,
    /// How long it was measured.
    pub seconds: f64,
    pub requests_per_s: f64,
    pub events_per_s: f64,
    /// From sending a request, or from when it should have been sent, to its answer.
    pub latency: Option<Quantiles>,
}

#[derive(Serialize)]
pub struct ReceivedFigures {
    /// Each event counts once for each subscriber, each call once.
    pub events: u64,
    pub batches: u64,
    /// From the first publish to the last receipt.
    pub events_per_s: f64,
    /// From sending the publish, or from when it should have been sent, to receipt.
    pub latency: Option<Quantiles>,
    /// The same without the subscriber's `timeout`, where there is one to wait for.
    pub lateness: Option<Quantiles>,
    /// From the last publish's answer to the last receipt.
    pub empty_after_s: f64,
    pub missing: u64,
    pub duplicated: u64,
    /// None for calls and messages, which have no order.
    pub out_of_order: Option<u64>,
    /// Delivered to somebody who has not subscribed to them.
    pub strange: u64,
}

/// What the web stack does with the same requests and nothing behind it, in requests a second.
#[derive(Serialize)]
pub struct CeilingFigures {
    pub before: f64,
    pub after: f64,
    pub mean: f64,
    pub share: f64,
}

#[derive(Serialize)]
pub struct FanOutFigures {
    /// An event is appended to the queue of each subscriber.
    pub appends_per_s: f64,
    /// Whether deliveries waited until everything was published.
    pub appends_alone: bool,
}

#[derive(Serialize)]
pub struct BacklogFigures {
    pub events: u64,
    /// From the first delivery to the last.
    pub drained_per_s: f64,
    /// Of the first and of the last tenth.
    pub first_tenth_per_s: f64,
    pub last_tenth_per_s: f64,
    /// From when deliveries were let go to the first one.
    pub first_delivery_after_s: f64,
    pub stored: Option<StoredFigures>,
}

/// What the store holds, in bytes: pages of SQLite that are in use, or Redis's memory.
#[derive(Serialize)]
pub struct StoredFigures {
    pub before: u64,
    pub full: u64,
    pub drained: u64,
    /// What was added for one queued event, or one waiting call.
    pub per_event: f64,
    /// How long SQLite's file is 5 s later, or when it gets no shorter.
    pub file_after: Option<u64>,
}

#[derive(Serialize)]
pub struct NoisyFigures {
    /// From publish, or from handing in a call, to receipt of all others, while one answers like them, and while it hangs.
    pub without: Option<Quantiles>,
    pub with: Option<Quantiles>,
    pub p50_ratio: Option<f64>,
    pub p99_ratio: Option<f64>,
}

/// The console, with so much to show.
#[derive(Serialize)]
pub struct ConsoleFigures {
    pub messages: u64,
    pub journal_entries: u64,
    pub pages: Vec<PageFigures>,
    pub watched: Option<WatchedFigures>,
}

#[derive(Serialize)]
pub struct PageFigures {
    pub page: &'static str,
    /// Of one answer.
    pub bytes: usize,
    /// From asking for it to its last byte.
    pub latency: Option<Quantiles>,
}

/// Processors that a bus uses while nothing happens.
#[derive(Serialize)]
pub struct WatchedFigures {
    pub cores_unwatched: f64,
    /// While somebody has the overview open.
    pub cores_watched: f64,
}

impl PublishedFigures {
    pub fn of(published: &Published) -> Self {
        Self {
            requests: published.items() / published.array,
            events: published.items(),
            sent_again: published.again,
            seconds: published.took.as_secs_f64(),
            requests_per_s: published.requests_per_s(),
            events_per_s: published.items_per_s(),
            latency: Quantiles::of(&published.latency),
        }
    }
}

impl ReceivedFigures {
    /// What arrived, against what was published. Times are for the caller to add.
    pub fn of(receivers: &Receivers, published: &Published, ordered: bool) -> Self {
        let totals = receivers.totals();
        let seconds = |from: u64, to: u64| to.saturating_sub(from) as f64 / 1e6;
        let took = seconds(published.first_micros, totals.last_micros());
        let Faults { missing, duplicated, out_of_order, strange } =
            receivers.faults(&published.accepted);
        Self {
            events: totals.items(),
            batches: totals.requests(),
            events_per_s: if took > 0.0 { totals.items() as f64 / took } else { 0.0 },
            latency: None,
            lateness: None,
            empty_after_s: seconds(published.last_micros, totals.last_micros()),
            missing,
            duplicated,
            out_of_order: ordered.then_some(out_of_order),
            strange,
        }
    }
}

impl NoisyFigures {
    pub fn of(without: Option<Quantiles>, with: Option<Quantiles>) -> Self {
        let ratio = |of: fn(Quantiles) -> f64| Some(of(with?) / of(without?));
        let (p50_ratio, p99_ratio) =
            (ratio(|quantiles| quantiles.p50), ratio(|quantiles| quantiles.p99));
        Self { without, with, p50_ratio, p99_ratio }
    }
}

impl CeilingFigures {
    pub fn of(before: f64, after: f64, requests_per_s: f64) -> Self {
        let mean = (before + after) / 2.0;
        Self { before, after, mean, share: requests_per_s / mean }
    }
}

impl Run {
    /// What was published and received, and at which cost.
    pub fn measured(mut self, stage: &Stage<'_>, published: &Published) -> Self {
        self.published = Some(PublishedFigures::of(published));
        if self.subscribers + self.destinations > 0 {
            let ordered = self.destinations == 0;
            self.received = Some(ReceivedFigures::of(stage.receivers(), published, ordered));
        }
        self.cost = Some(stage.cost());
        self
    }

    /// Whether the bus has kept what it promises.
    pub fn is_good(&self) -> bool {
        let good = |received: &ReceivedFigures| {
            received.missing == 0
                && received.out_of_order.unwrap_or(0) == 0
                && received.strange == 0
        };
        self.received.as_ref().is_none_or(good)
    }
}

/// All measurements.
#[derive(Serialize)]
pub struct Report {
    /// The version of this command, and of a bus that it has started.
    pub version: &'static str,
    /// `sqlite`, `redis`, or null for a bus that was running.
    pub store: Option<&'static str>,
    pub redis_aof: Option<&'static str>,
    pub url: Option<String>,
    /// Processors of this machine.
    pub processors: usize,
    pub runs: Vec<Run>,
    /// Whether nothing was missing or out of order.
    pub good: bool,
}
