//! The scenarios: what is published, who receives it, and what is looked at.

mod backlog;
mod calls;
mod console;
mod fan_out;
mod many;
mod messages;
mod noisy;
mod throughput;

use std::time::Duration;

use super::publishers::{Pace, Published, Script, Until};
use super::report::Run;
use super::stage::Crew;
use super::target::Terms;

/// What can be measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Scenario {
    /// One event a request: with no subscriber, with one, with five
    Publish,
    /// Few events a second, delivered at once: how long one takes
    Latency,
    /// Arrays of 100 events to one subscriber
    Bulk,
    /// One topic with 1,000 subscribers
    FanOut,
    /// 2,000 subscriptions with one event a second each: how late deliveries are
    Many,
    /// A long queue, filled and then drained
    Backlog,
    /// 100 subscribers, of which one hangs: what the others notice
    Noisy,
    /// Calls and postbacks: taken and made, few and many, and what a hanging destination does
    Calls,
    /// Messages: taken alone, and forwarded by one publisher and by three
    Messages,
    /// The console's pages with 10,000 subscribers, 1,000,000 messages and as many attempts; not in all
    Console,
    /// The web stack alone, with nothing behind it
    Ceiling,
    /// All but the console
    All,
}

impl Scenario {
    const EACH: [Self; 10] = [
        Self::Ceiling,
        Self::Publish,
        Self::Bulk,
        Self::Latency,
        Self::FanOut,
        Self::Many,
        Self::Backlog,
        Self::Noisy,
        Self::Calls,
        Self::Messages,
    ];

    /// Those that are meant, each once.
    pub fn chosen(given: &[Self]) -> Vec<Self> {
        if given.contains(&Self::All) {
            return Self::EACH.to_vec();
        }
        let mut chosen = Vec::new();
        for scenario in given {
            if !chosen.contains(scenario) {
                chosen.push(*scenario);
            }
        }
        chosen
    }
}

/// The events of a backlog.
const EVENTS: u64 = 1_000_000;
/// Before a steady rate is measured.
const WARM_UP: Duration = Duration::from_secs(2);

/// What was asked for on the command line.
pub struct Wishes {
    pub seconds: Duration,
    pub connections: usize,
    /// Requests a second.
    pub rate: Option<f64>,
    /// Events, calls or postbacks of a backlog.
    pub events: Option<u64>,
    pub max: Option<u32>,
    pub timeout: Option<Duration>,
    /// How many subscribers, where a scenario has many.
    pub subscribers: Option<usize>,
}

impl Wishes {
    fn terms(&self, max: u32, timeout_ms: u64) -> Terms {
        Terms {
            max: self.max.unwrap_or(max),
            timeout: self.timeout.unwrap_or(Duration::from_millis(timeout_ms)),
        }
    }

    /// One event a request for the given time, from all connections as fast as they go, or at the
    /// rate that was asked for.
    fn script(&self) -> Script {
        Script {
            array: 1,
            connections: self.connections,
            pace: self.rate.map_or(Pace::Closed, Pace::Rate),
            warm_up: Duration::ZERO,
            until: Until::after(self.seconds),
            first_stream: 0,
        }
    }

    /// As [`Wishes::script`], at this rate if none was asked for, and in full swing before anything
    /// is measured: each subscriber's connection is made with its first delivery.
    fn steady(&self, rate: f64) -> Script {
        Script {
            pace: Pace::Rate(self.rate.unwrap_or(rate)),
            warm_up: WARM_UP.min(self.seconds),
            ..self.script()
        }
    }
}

impl Script {
    /// A run with events that is about to be played like this.
    fn run(&self, scenario: &'static str, subscribers: usize, terms: Terms) -> Run {
        Run {
            scenario,
            subscribers,
            topics: 1,
            connections: self.connections,
            array: self.array,
            max: terms.max,
            timeout_ms: terms.timeout.as_millis() as u64,
            ..Run::default()
        }
    }
}

/// What all subscribers of one topic are to receive.
fn due(published: &Published, subscribers: usize) -> u64 {
    published.items() * subscribers as u64
}

/// Plays one scenario; some are more than one measurement.
///
/// # Errors
/// Why it could not be played to its end.
pub async fn play(
    scenario: Scenario,
    crew: &Crew,
    wishes: &Wishes,
    runs: &mut Vec<Run>,
) -> anyhow::Result<()> {
    match scenario {
        Scenario::Publish => throughput::publish(crew, wishes, runs).await?,
        Scenario::Bulk => throughput::bulk(crew, wishes, runs).await?,
        Scenario::Latency => runs.push(throughput::latency(crew, wishes).await?),
        Scenario::FanOut => runs.push(fan_out::play(crew, wishes).await?),
        Scenario::Many => runs.push(many::play(crew, wishes).await?),
        Scenario::Backlog => runs.push(backlog::play(crew, wishes).await?),
        Scenario::Noisy => runs.push(noisy::play(crew, wishes).await?),
        Scenario::Calls => calls::play(crew, wishes, runs).await?,
        Scenario::Messages => messages::play(crew, wishes, runs).await?,
        Scenario::Console => console::play(crew, wishes, runs).await?,
        Scenario::Ceiling => runs.push(throughput::ceiling(crew, wishes).await?),
        Scenario::All => {}
    }
    Ok(())
}
