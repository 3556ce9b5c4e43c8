//! `routemaster bench`: measures a bus. It publishes, receives what is delivered, and says how much
//! went through, how long it took, what it cost, and whether anything was missing or out of order.

// They panic if nobody reads: `cli::table::print` and `note!` do not.
#![cfg_attr(not(test), deny(clippy::print_stdout, clippy::print_stderr))]

pub mod bare;
mod ceiling;
mod child;
mod connection;
mod cost;
mod latency;
mod mark;
mod own;
mod progress;
mod publishers;
mod receivers;
mod redis;
mod report;
mod request;
mod scenarios;
mod show;
mod stage;
mod tally;
mod target;
mod usage;

use std::time::Duration;

use anyhow::{Context, bail};
use clap::{Args, ValueEnum};
use serde_json::Value;

use mark::Clock;
use own::{OwnBus, Store};
use progress::Progress;
use redis::Aof;
use report::{Report, Run};
use routemaster::cli::connect::{Bus, BusOptions};
use routemaster::cli::credentials::{Capacity, variable};
use routemaster::cli::outcome::{AlreadyTold, UsageError};
use routemaster::cli::table::{Screen, print, print_json};
use routemaster::config::Role;
use routemaster::note;
use routemaster::signals::{Stops, notify_on_hangup, stops_on_signals};
use routemaster::tls::development::DevelopmentCa;
use scenarios::{Scenario, Wishes};
use stage::{Crew, Running, Site};
use target::Target;

/// Measure a bus: a running one, or one that is started for it.
#[derive(Args)]
#[command(after_help = AFTER_HELP)]
pub struct BenchArgs {
    /// What to measure.
    #[arg(required = true, value_name = "SCENARIO")]
    scenarios: Vec<Scenario>,
    /// Start a bus for it, with this store. Without it, and without --url, this is sqlite.
    #[arg(long, value_name = "STORE", conflicts_with = "url")]
    store: Option<StoreKind>,
    /// For --store redis: a Redis that runs already and holds no bus [default: one is started].
    #[arg(long, value_name = "URL")]
    redis_url: Option<String>,
    /// For --store redis: what the Redis that is started has on disk before it answers.
    #[arg(long, value_name = "WHEN", default_value = "everysec")]
    redis_aof: Aof,
    /// How long to publish.
    #[arg(long, value_name = "N", default_value_t = 10,
        value_parser = clap::value_parser!(u64).range(1..=86_400))]
    seconds: u64,
    /// How many connections publish, each one request at a time.
    #[arg(long, value_name = "N", default_value_t = 32,
        value_parser = clap::value_parser!(u32).range(1..=10_000))]
    connections: u32,
    /// Requests a second in all, instead of as many as go [default: 50 for latency, 10 for noisy,
    /// one for each subscriber of many, 50 and 200 in calls where it is timed].
    #[arg(long, value_name = "N", value_parser = rate)]
    rate: Option<f64>,
    /// The events of a backlog, or the calls of one; the messages and the attempts that the console has to show [default:
    /// 1000000; 200000 calls].
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=1_000_000_000))]
    events: Option<u64>,
    /// Events in a batch, at most, for all subscribers [default: 1000; 100 for latency, many and
    /// noisy].
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=10_000))]
    max: Option<u32>,
    /// How long an event may wait for others to share its batch, in milliseconds [default: 500; 0
    /// for latency, backlog and noisy].
    #[arg(long, value_name = "MS", value_parser = clap::value_parser!(u64).range(0..=3_600_000))]
    timeout: Option<u64>,
    /// How many subscribers there are in fan-out, many, noisy and console [default: 1000, 2000, 100, 10000].
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=17_000))]
    subscribers: Option<u32>,
    /// Print one JSON document.
    #[arg(long)]
    json: bool,
    /// The port of the receivers, on 127.0.0.1 [default: a free one].
    #[arg(long, default_value_t = 0, hide_default_value = true)]
    port: u16,
    /// Where a running bus reaches the receivers, through a tunnel or a proxy
    /// [default: https://localhost:PORT].
    #[arg(long, value_name = "URL")]
    callback: Option<String>,
    /// Be the bare server whose speed is the ceiling.
    #[arg(long = ceiling::OPTION, hide = true)]
    bare_server: bool,
    #[command(flatten)]
    bus: BusOptions,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum StoreKind {
    Sqlite,
    Redis,
}

const AFTER_HELP: &str = "\
Publishers, receivers and, unless --url names another, the bus share this machine: compare figures of
one run with each other, above all with the ceiling, and not with those of another machine.

A bus that is started for this has a directory of its own where the system keeps temporary files
(TMPDIR); on a file system in memory, syncing to disk costs nothing. What is made on a running bus
is removed again. There, the root key makes a token for each subscriber; another token can be one
subscriber only.

Exit code 1 if an event was missing or out of order.

Examples:
  routemaster bench publish latency
  routemaster bench all --store redis --redis-aof always
  routemaster bench publish --rate 2000 --seconds 60 --json
  ROUTEMASTER_ROOT_KEY=… routemaster bench latency --url https://localhost:17890";

/// Signals that come this close together are one.
const SAME_SIGNAL: Duration = Duration::from_millis(200);

impl BenchArgs {
    /// Whether this process is to be the bare server.
    pub fn is_bare_server(&self) -> bool {
        self.bare_server
    }

    fn store(&self) -> anyhow::Result<Option<Store>> {
        let kind = match self.store {
            None if self.bus.has_url() => return Ok(None),
            kind => kind.unwrap_or(StoreKind::Sqlite),
        };
        match (kind, &self.redis_url) {
            (StoreKind::Sqlite, None) => Ok(Some(Store::Sqlite)),
            (StoreKind::Redis, None) => Ok(Some(Store::Redis(self.redis_aof))),
            (StoreKind::Redis, Some(url)) => Ok(Some(Store::RedisAt(url.clone()))),
            (StoreKind::Sqlite, Some(_)) => {
                Err(UsageError::new("--redis-url needs --store redis").into())
            }
        }
    }

    fn wishes(&self) -> Wishes {
        Wishes {
            seconds: Duration::from_secs(self.seconds),
            connections: self.connections as usize,
            rate: self.rate,
            events: self.events,
            max: self.max,
            timeout: self.timeout.map(Duration::from_millis),
            subscribers: self.subscribers.map(|subscribers| subscribers as usize),
        }
    }
}

fn rate(text: &str) -> Result<f64, String> {
    let rate: Option<f64> = text.parse().ok();
    let allowed = rate.filter(|rate| (0.01..=10_000_000.0).contains(rate));
    allowed.ok_or_else(|| "it must be 0.01 to 10000000".into())
}

/// Measures.
///
/// # Errors
/// If something cannot be measured, or the bus did not keep what it promises.
pub async fn run(args: BenchArgs) -> anyhow::Result<()> {
    // Processes that were started must not outlive this one, whatever ends it.
    let Stops { stop, at_once } = stops_on_signals(SAME_SIGNAL)?;
    let hangup = notify_on_hangup()?;
    let store = args.store()?;
    let crew = Crew {
        site: site(&args, store.as_ref()).await?,
        clock: Clock::start(),
        progress: Progress::start(),
        port: args.port,
        callback: args.callback.clone(),
    };
    let mut runs = Vec::new();
    let played = tokio::select! {
        // First, so that what a signal interrupts is not reported as a failure of its own.
        biased;
        () = stop.cancelled() => Err(interrupted()),
        () = hangup.notified() => Err(interrupted()),
        played = play(&args, &crew, &mut runs) => played,
    };
    let cleaned = match &crew.site {
        Site::Running(running) => tokio::select! {
            cleaned = running.target.clean_up(true) => cleaned,
            () = at_once.cancelled() => Err(running.target.left_behind()),
        },
        Site::Fresh(_) => Ok(()),
    };
    crew.progress.end();
    if let (Err(_), Err(error)) = (&played, &cleaned) {
        note!("note: {error:#}");
    }
    played.and(cleaned)?;
    let report = report(&args, store.as_ref(), runs);
    match args.json {
        true => print_json(&report)?,
        false => print(&show::text(&report, Screen::stdout()))?,
    }
    if report.good { Ok(()) } else { Err(AlreadyTold.into()) }
}

fn interrupted() -> anyhow::Error {
    anyhow::anyhow!("interrupted: nothing is reported")
}

async fn play(args: &BenchArgs, crew: &Crew, runs: &mut Vec<Run>) -> anyhow::Result<()> {
    let wishes = args.wishes();
    for scenario in Scenario::chosen(&args.scenarios) {
        scenarios::play(scenario, crew, &wishes, runs).await?;
    }
    Ok(())
}

fn report(args: &BenchArgs, store: Option<&Store>, runs: Vec<Run>) -> Report {
    Report {
        version: env!("CARGO_PKG_VERSION"),
        store: store.map(|store| match store {
            Store::Sqlite => "sqlite",
            Store::Redis(_) | Store::RedisAt(_) => "redis",
        }),
        redis_aof: match store {
            Some(Store::Redis(aof)) => Some(aof.name()),
            _ => None,
        },
        url: args.bus.url().map(str::to_owned),
        processors: std::thread::available_parallelism().map_or(1, usize::from),
        good: runs.iter().all(Run::is_good),
        runs,
    }
}

async fn site(args: &BenchArgs, store: Option<&Store>) -> anyhow::Result<Site> {
    let running = match store {
        None => {
            let bus = args.bus.connect_as(capacity())?;
            let identity = DevelopmentCa::open_or_create(&args.bus.data_dir())?.issue()?;
            Running { target: Target::open(bus).await?, own: None, identity }
        }
        Some(Store::RedisAt(_)) => on_foreign_redis(store).await?,
        Some(store) => return Ok(Site::Fresh(store.clone())),
    };
    Ok(Site::Running(Box::new(running)))
}

/// With the root key there can be any number of subscribers.
fn capacity() -> Capacity {
    match variable("ROUTEMASTER_ROOT_KEY") {
        Some(_) => Capacity::Root,
        None => Capacity::Client,
    }
}

/// A bus on a Redis that is somebody else's: one for all scenarios, that leaves nothing there.
async fn on_foreign_redis(store: Option<&Store>) -> anyhow::Result<Running> {
    let store = store.context("no store was chosen")?;
    let mut own = OwnBus::prepare(store).await?;
    let bus = own.listen(Role::Web).await?;
    // Before there is a worker, which would deliver what waits there.
    check_empty(&bus).await?;
    own.work().await?;
    let identity = own.identity()?;
    Ok(Running { target: Target::open(bus).await?, own: Some(own), identity })
}

async fn check_empty(bus: &Bus) -> anyhow::Result<()> {
    for path in ["/topics", "/subscriptions", "/api_tokens"] {
        let answer = bus.get(path).await?;
        if answer.status == reqwest::StatusCode::NO_CONTENT {
            continue;
        }
        if !answer.status.is_success() {
            bail!("failed to look whether the Redis is empty: {}", answer.reason());
        }
        if answer.json::<Vec<Value>>()?.is_empty() {
            continue;
        }
        bail!(
            "there is a bus in that Redis already: measure it with --url, or choose another Redis \
             or database with --redis-url"
        );
    }
    Ok(())
}
