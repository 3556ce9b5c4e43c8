//! `routemaster pulse`: whether the bus works, as a health check: the exit code says it.

use std::time::{Duration, Instant};

use clap::Args;
use reqwest::StatusCode;
use serde::Serialize;

use super::connect::{Bus, BusOptions};
use super::credentials::Capacity;
use super::outcome::AlreadyTold;
use super::refusals::refusal;
use super::table::{print, print_json};

#[derive(Args)]
#[command(after_help = AFTER_HELP)]
pub struct PulseArgs {
    /// Ask as well whether more workers are needed: whether more batches are due than
    /// ROUTEMASTER_SCALING_THRESHOLD.
    #[arg(long)]
    scaling: bool,
    /// Print one JSON object: {"ok", "ms", "workers", "more_workers", "error"}.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    bus: BusOptions,
}

const AFTER_HELP: &str = "\
A bus works if it answers, knows the token, and can write to its store. The exit code is 0 then, 1 if
it does not, 2 if the command line is wrong. Whether more workers are needed does not change it.

Examples:
  routemaster pulse
  routemaster pulse --scaling --json | jq .more_workers
  HEALTHCHECK CMD [\"routemaster\", \"pulse\"]          in a Dockerfile";

/// A bus that needs more workers takes this long to say so.
const SCALING_DELAY: Duration = Duration::from_secs(1);

/// What is printed with `--json`.
#[derive(Serialize)]
struct Report {
    ok: bool,
    /// How long the answer took.
    ms: u64,
    /// How many processes deliver; null if the bus does not tell.
    workers: Option<u64>,
    /// Null if it was not asked for.
    more_workers: Option<bool>,
    error: Option<String>,
}

/// # Errors
/// Why the bus does not work, as far as can be seen from here.
pub async fn run(args: PulseArgs) -> anyhow::Result<()> {
    let bus = args.bus.connect_as(Capacity::Operator)?;
    let started = Instant::now();
    let asked = ask(&bus, "/pulse").await;
    let ms = started.elapsed().as_millis() as u64;
    let asked = match asked {
        Ok(workers) if args.scaling => needs_workers(&bus).await.map(|more| (workers, Some(more))),
        other => other.map(|workers| (workers, None)),
    };
    if args.json {
        let (workers, more_workers, error) = match &asked {
            Ok((workers, more_workers)) => (*workers, *more_workers, None),
            Err(error) => (None, None, Some(format!("{error:#}"))),
        };
        print_json(&Report { ok: asked.is_ok(), ms, workers, more_workers, error })?;
        return asked.map(drop).map_err(|_| AlreadyTold.into());
    }
    let (workers, more_workers) = asked?;
    let none = if workers == Some(0) { "; no worker runs: nothing is delivered" } else { "" };
    let more = match more_workers {
        None => "",
        Some(true) => "; more workers are needed",
        Some(false) => "; there are enough workers",
    };
    Ok(print(&format!("{} works: it answered in {ms} ms{none}{more}\n", bus.url()))?)
}

async fn needs_workers(bus: &Bus) -> anyhow::Result<bool> {
    let started = Instant::now();
    ask(bus, "/pulse/scaling").await?;
    Ok(started.elapsed() >= SCALING_DELAY)
}

/// How many processes deliver, if the bus tells.
async fn ask(bus: &Bus, path: &str) -> anyhow::Result<Option<u64>> {
    let answer = bus.get(path).await?;
    match answer.status {
        StatusCode::NO_CONTENT => {
            let workers = answer.headers.get("routemaster-workers");
            Ok(workers.and_then(|workers| workers.to_str().ok()?.parse().ok()))
        }
        StatusCode::INTERNAL_SERVER_ERROR => anyhow::bail!(
            "{} runs, and cannot write to its store: `routemaster doctor` looks why",
            bus.url()
        ),
        _ => Err(refusal(bus, &answer, None)),
    }
}
