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

/// How much of an id is shown: enough to tell processes apart.
const ID_SHOWN: usize = 8;

#[derive(Args)]
#[command(after_help = AFTER_HELP)]
pub struct PsArgs {
    /// Print a JSON array of {"id", "role", "host", "pid", "version", "since", "deliveries", "calls",
    /// "draining"}.
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
    let columns = ["ID", "ROLE", "HOST", "PID", "VERSION", "UP", "BUSY", "CALLS"];
    let mut table = Table::new(Screen::stdout(), &columns, &[3, 5, 6, 7]);
    let now_ms = Clock::system().now_ms();
    for process in &processes {
        let Process { id, role, host, pid, version, since, deliveries, calls, draining } = process;
        let busy = |places: &Option<PlacesInUse>| {
            places.map_or("-".into(), |places| format!("{} of {}", places.used, places.max))
        };
        let (deliveries, calls) = (busy(deliveries), busy(calls));
        let up = age(now_ms.saturating_sub(*since) as i64);
        table.row([
            id.chars().take(ID_SHOWN).collect(),
            if *draining { format!("{role}, draining") } else { role.clone() },
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
