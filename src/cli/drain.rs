//! `routemaster drain`: lets a worker finish, so that it can be stopped without anything coming twice.

use std::time::Duration;

use anyhow::{anyhow, bail};
use bytes::Bytes;
use clap::Args;
use serde_json::json;

use super::connect::{Bus, BusOptions};
use super::credentials::Capacity;
use super::monitoring;
use super::refusals::refusal_of_root;
use super::table::{print, print_json};
use crate::bus::process::Process;
use crate::note;

/// How often is looked whether it has finished.
const LOOK_INTERVAL: Duration = Duration::from_millis(500);

#[derive(Args)]
#[command(after_help = AFTER_HELP)]
pub struct DrainArgs {
    /// Which: the beginning of its id, as `routemaster ps` shows it.
    #[arg(value_name = "PROCESS")]
    process: String,
    /// Let it deliver again.
    #[arg(long)]
    resume: bool,
    /// How long to wait until it has finished, in seconds; 0 asks it to, and does not wait.
    #[arg(long, value_name = "SECONDS", default_value_t = 60, conflicts_with = "resume")]
    wait: u64,
    /// Print one JSON object: {"id", "draining", "finished"}.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    bus: BusOptions,
}

const AFTER_HELP: &str = "\
It begins nothing more, finishes what is on its way, and goes on running; others deliver meanwhile. It needs
the root key. Stop it then as always: nothing comes twice.

Examples:
  routemaster ps
  routemaster drain 3f9a2c41
  routemaster drain 3f9a2c41 --resume";

/// # Errors
/// If there is no such process, the bus refuses, or it has not finished in time.
pub async fn run(args: DrainArgs) -> anyhow::Result<()> {
    let bus = args.bus.connect_as(Capacity::Root)?;
    let process = find(&bus, &args.process).await?;
    let action = if args.resume { "resume" } else { "drain" };
    let answer = bus.post(&format!("/processes/{}/{action}", process.id), Bytes::new()).await?;
    if !answer.status.is_success() {
        return Err(refusal_of_root(&bus, &answer));
    }
    let is_finished = !args.resume && wait(&bus, &process.id, args.wait).await?;
    if args.json {
        print_json(&json!({"id": process.id, "draining": !args.resume, "finished": is_finished}))?;
    } else {
        let who = format!("{} {} on {}", process.role, process.pid, process.host);
        print(&match (args.resume, is_finished) {
            (true, _) => format!("{who} delivers again within 5 s\n"),
            (false, true) => format!("{who} has finished: it can be stopped\n"),
            (false, false) => format!("{who} is asked to finish\n"),
        })?;
    }
    if !args.resume && args.wait > 0 && !is_finished {
        bail!("it has not finished within {} s; it begins nothing more", args.wait);
    }
    Ok(())
}

async fn find(bus: &Bus, named: &str) -> anyhow::Result<Process> {
    let all = monitoring::processes(bus).await?;
    let mut fit = all.into_iter().filter(|process| process.id.starts_with(named));
    match (fit.next(), fit.next()) {
        (Some(process), None) if !named.is_empty() => Ok(process),
        (Some(_), Some(_)) => {
            Err(anyhow!("several processes begin with `{named}`: give more of it"))
        }
        _ => Err(anyhow!("no process begins with `{named}`: `routemaster ps` lists them")),
    }
}

/// Waits until nothing is on its way from a process any more. `false` if the time is over before.
async fn wait(bus: &Bus, id: &str, seconds: u64) -> anyhow::Result<bool> {
    let until = tokio::time::Instant::now() + Duration::from_secs(seconds);
    let mut told = false;
    while tokio::time::Instant::now() < until {
        let all = monitoring::processes(bus).await?;
        let Some(process) = all.into_iter().find(|process| process.id == id) else {
            bail!("it has gone meanwhile");
        };
        let places = [process.deliveries, process.calls].into_iter().flatten();
        let left: u64 = places.map(|places| places.used).sum();
        if process.draining && left == 0 {
            return Ok(true);
        }
        if !std::mem::replace(&mut told, true) {
            note!("waiting until it has finished…");
        }
        tokio::time::sleep(LOOK_INTERVAL).await;
    }
    Ok(false)
}
