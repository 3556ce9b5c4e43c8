//! `routemaster profile`: where a bus spends its processor time, as a flame graph.

use std::path::PathBuf;

use anyhow::Context;
use clap::Args;

use super::connect::BusOptions;
use super::credentials::Capacity;
use super::refusals::refusal_of_root;
use crate::note;
use crate::telemetry::profile::SECONDS_MAX;

#[derive(Args)]
#[command(after_help = AFTER_HELP)]
pub struct ProfileArgs {
    /// How long to look.
    #[arg(long, value_name = "N", default_value_t = 5,
        value_parser = clap::value_parser!(u64).range(1..=SECONDS_MAX))]
    seconds: u64,
    /// Where to write it.
    #[arg(long, short, value_name = "FILE", default_value = "profile.svg")]
    output: PathBuf,
    #[command(flatten)]
    bus: BusOptions,
}

const AFTER_HELP: &str = "\
The flame graph shows the process that answers, which is a web process or one that does both; wider means
more processor time. A browser opens it, and a click on a box shows that alone. It needs the root key, and
costs the bus a few percent of a core meanwhile. A process that waits has nothing to show.

Examples:
  routemaster profile
  routemaster profile --seconds 20 -o night.svg";

/// # Errors
/// If the bus does not make one, or it cannot be written.
pub async fn run(args: ProfileArgs) -> anyhow::Result<()> {
    let bus = args.bus.connect_as(Capacity::Operator)?;
    note!("looking for {} s where {} spends its processor time", args.seconds, bus.url());
    let answer = bus.get(&format!("/profile?seconds={}", args.seconds)).await?;
    if !answer.status.is_success() {
        return Err(refusal_of_root(&bus, &answer));
    }
    let path = args.output.display();
    std::fs::write(&args.output, &answer.body)
        .with_context(|| format!("failed to write {path}"))?;
    note!("wrote {path}: open it in a browser");
    Ok(())
}
