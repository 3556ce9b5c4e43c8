//! `routemaster ps`: which processes the bus is made of.

use clap::Args;

use super::connect::BusOptions;
use super::credentials::Capacity;
use super::monitoring;
use super::table::{Screen, Table, print, print_json};
use super::words::age;
use crate::bus::clock::Clock;
use crate::bus::process::{PlacesInUse, Process};
use crate::note;

#[derive(Args)]
#[command(after_help = AFTER_HELP)]
pub struct PsArgs {
    /// Print a JSON array of {"id", "role", "host", "pid", "version", "since", "deliveries", "calls"}.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    bus: BusOptions,
}

const AFTER_HELP: &str = "\
BUSY is how many deliveries a worker makes just now, of how many at most, CALLS how many calls. A
process that was killed is listed for 15 s more.

Examples:
  routemaster ps
  routemaster ps --json | jq -r '.[] | select(.role == \"worker\") | .host'";

/// # Errors
/// If the bus cannot be asked.
pub async fn run(args: PsArgs) -> anyhow::Result<()> {
    let bus = args.bus.connect_as(Capacity::Operator)?;
    let processes = monitoring::processes(&bus).await?;
    if args.json {
        return print_json(&processes);
    }
    let columns = ["ROLE", "HOST", "PID", "VERSION", "UP", "BUSY", "CALLS"];
    let mut table = Table::new(Screen::stdout(), &columns, &[2, 4, 5, 6]);
    let now_ms = Clock::system().now_ms();
    for process in &processes {
        let Process { role, host, pid, version, since, deliveries, calls, .. } = process;
        let busy = |places: &Option<PlacesInUse>| {
            places.map_or("-".into(), |places| format!("{} of {}", places.used, places.max))
        };
        let (deliveries, calls) = (busy(deliveries), busy(calls));
        let up = age(now_ms.saturating_sub(*since) as i64);
        table.row([
            role.clone(),
            host.clone(),
            pid.to_string(),
            version.clone(),
            up,
            deliveries,
            calls,
        ]);
    }
    print(&table.text())?;
    if !processes.iter().any(Process::is_worker) {
        note!("no worker runs: nothing is delivered; start `routemaster worker`");
    }
    Ok(())
}
