//! The bus itself: whether it answers, lets us in, and can write to its store.

use std::time::Instant;

use reqwest::StatusCode;
use serde::Deserialize;

use super::calls::Unwell;
use super::clock::Pong;
use super::finding::Finding;
use super::messages::UnwellMessages;
use crate::bus::clock::Clock;
use crate::bus::process::Process;
use crate::cli::connect::{Answer, Bus};
use crate::cli::monitoring::{self, Subscription};
use crate::cli::trouble::Trouble;
use crate::cli::words::counted;

const CHECK: &str = "bus";

/// What asking the bus came to.
#[derive(Default)]
pub struct Visit {
    pub findings: Vec<Finding>,
    /// What its clock showed.
    pub pong: Option<Pong>,
    pub subscriptions: Option<Vec<Subscription>>,
    pub processes: Option<Vec<Process>>,
    pub calls: Option<Unwell>,
    pub messages: Option<UnwellMessages>,
}

#[derive(Deserialize)]
struct PongBody {
    pong: u64,
}

impl Visit {
    /// Asks a bus; without one there is nothing to find.
    pub async fn to(bus: Option<&Bus>) -> Self {
        let mut visit = Self::default();
        let Some(bus) = bus else { return visit };
        if let Err(finding) = visit.ask(bus).await {
            visit.findings.push(finding);
        }
        visit
    }

    async fn ask(&mut self, bus: &Bus) -> Result<(), Finding> {
        self.pong = Some(ping(bus).await?);
        let started = Instant::now();
        let answer = bus.get("/pulse").await.map_err(|trouble| unanswered(bus, &trouble))?;
        let ms = started.elapsed().as_millis();
        if answer.status != StatusCode::NO_CONTENT {
            return Err(no_pulse(bus, &answer));
        }
        let failed = |error: anyhow::Error| {
            Finding::problem(CHECK, format!("{error:#}"), "the log of the bus says more")
        };
        let topics = monitoring::topics(bus).await.map_err(failed)?.len() as u64;
        let subscriptions = monitoring::subscriptions(bus).await.map_err(failed)?;
        let topics = counted(topics, "topic", "topics");
        let subscribers = counted(subscriptions.len() as u64, "subscriber", "subscribers");
        let found = format!("{} works: {topics}, {subscribers}; pulse in {ms} ms", bus.url());
        self.findings.push(Finding::ok(CHECK, found));
        self.subscriptions = Some(subscriptions);
        self.processes = Some(monitoring::processes(bus).await.map_err(failed)?);
        self.calls = Some(Unwell::at(bus).await.map_err(failed)?);
        self.messages = Some(UnwellMessages::at(bus).await.map_err(failed)?);
        Ok(())
    }
}

async fn ping(bus: &Bus) -> Result<Pong, Finding> {
    let (asked_ms, started) = (Clock::system().now_ms(), Instant::now());
    let answer = bus.get("/health/ping").await.map_err(|trouble| unanswered(bus, &trouble))?;
    let round_trip = started.elapsed();
    match answer.json::<PongBody>() {
        Ok(body) if answer.status.is_success() => {
            Ok(Pong { bus_ms: body.pong, asked_ms, round_trip, received: Instant::now() })
        }
        _ => Err(Finding::problem(
            CHECK,
            format!("{} answers {}, and not as a bus does", bus.url(), answer.status.as_u16()),
            "say with --url where the bus listens",
        )),
    }
}

fn unanswered(bus: &Bus, trouble: &Trouble) -> Finding {
    let url = bus.url();
    match trouble {
        Trouble::NoBus { .. } => Finding::problem(
            CHECK,
            format!("no bus answers at {url}: connection refused"),
            "start it, with `routemaster` or by its supervisor, and see its log if it ends; or say \
             with --url where it listens",
        ),
        Trouble::NoHost { reason, .. } => Finding::problem(
            CHECK,
            format!("the host of {url} is not found ({reason})"),
            "say with --url where the bus listens",
        ),
        Trouble::Untrusted { .. } => Finding::skipped(
            CHECK,
            "not asked, so that nobody else gets the token: its certificate is not trusted",
        ),
        Trouble::NotTls { .. } => Finding::problem(
            CHECK,
            format!("what answers at {url} does not speak TLS"),
            "say with --url where the bus listens, or the proxy before it",
        ),
        Trouble::TimedOut { after, .. } => Finding::problem(
            CHECK,
            format!("the bus at {url} did not answer within {} s", after.as_secs()),
            "look whether its process, its machine or its store hangs",
        ),
        Trouble::Lost { reason, .. } => Finding::problem(
            CHECK,
            format!("the connection to {url} failed: {reason}"),
            "look whether a firewall or a proxy is in between, and at the log of the bus",
        ),
    }
}

fn no_pulse(bus: &Bus, answer: &Answer) -> Finding {
    let url = bus.url();
    match answer.status {
        StatusCode::UNAUTHORIZED => Finding::problem(
            CHECK,
            format!("{url} does not know the token {} (from {})", bus.user(), bus.token_from()),
            "give one that it knows with --token or ROUTEMASTER_TOKEN; if it is the one of these \
             settings, the bus runs with other settings",
        ),
        StatusCode::INTERNAL_SERVER_ERROR | StatusCode::SERVICE_UNAVAILABLE => Finding::problem(
            CHECK,
            format!("{url} answers, and cannot write to its store: publishes get 503"),
            "mend the store; the bus goes on by itself as soon as it is back",
        ),
        status => Finding::problem(
            CHECK,
            format!("{url} answers {} to /pulse: {}", status.as_u16(), answer.reason()),
            "the log of the bus says more",
        ),
    }
}
