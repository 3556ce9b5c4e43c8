//! `routemaster autodrop`: makes room in the store now, or tells what would go (contract §6). It
//! opens the store itself, with the settings of the bus, so that it works when no bus runs.

use std::io::Write;
use std::time::Duration;

use anyhow::{Context, anyhow, bail};
use clap::Args;
use indicatif::{DecimalBytes, HumanCount};
use serde::Serialize;

use crate::config::Settings;
use crate::roles::{Access, open_store};
use crate::signals;
use crate::store::sqlite::SqliteStore;
use crate::store::{Dropped, Lane};
use crate::upkeep::autodrop::{Autodrop, Cause, Run};

#[derive(Args)]
pub struct AutodropArgs {
    /// Tell what would be dropped, and drop nothing
    #[arg(long)]
    pub dry_run: bool,
    /// Print one JSON object for each lane of the store, which is one, but in a Cluster
    #[arg(long)]
    pub json: bool,
}

/// What is printed with `--json`. Sizes are in bytes.
#[derive(Serialize)]
struct Report {
    dry_run: bool,
    /// From 0.
    lane: usize,
    used: u64,
    /// With `dry_run`, about.
    used_after: u64,
    max: u64,
    high_mark: u64,
    low_mark: u64,
    events: u64,
    bytes: u64,
    /// Whether this makes, or would make, enough room.
    enough: bool,
    subscribers: Vec<Row>,
}

#[derive(Serialize)]
struct Row {
    subscriber: String,
    events: u64,
    bytes: u64,
}

/// # Errors
/// If the store cannot be used, or nothing is left to drop and there is still too little room.
pub async fn run(args: AutodropArgs, settings: &Settings) -> anyhow::Result<()> {
    if settings.redis_url.is_none() && !SqliteStore::exists_in(&settings.data_dir) {
        let directory = settings.data_dir.display();
        bail!(
            "there is no store in {directory}: set ROUTEMASTER_DATA_DIR or ROUTEMASTER_REDIS_URL"
        );
    }
    if args.dry_run && settings.redis_url.is_none() {
        let current = SqliteStore::is_current_in(&settings.data_dir).context(FAILED)?;
        if !current {
            bail!("the store is of another version: a dry run would change it; start the bus once");
        }
    }
    let access = if args.dry_run { Access::Look } else { Access::Use };
    let store = open_store(settings, access)?;
    let stop = signals::stop_on_signal(Duration::ZERO)?;
    let autodrops = Autodrop::of_all_lanes(&store, settings.budget(), &stop).await;
    let autodrops = autodrops.context(FAILED)?;
    if !args.json {
        writeln!(std::io::stdout(), "{}", store.describe())?;
    }
    let mut enough = true;
    for autodrop in &autodrops {
        if !args.json && autodrops.len() > 1 {
            writeln!(std::io::stdout(), "\nLane {}", autodrop.lane().index())?;
        }
        // Where several lanes share a server, what one cannot give the next one may.
        enough = run_one(&args, autodrop).await?;
    }
    if !enough {
        bail!("nothing more can be dropped, and the store still holds more than it should");
    }
    Ok(())
}

/// Returns whether there was enough to drop.
async fn run_one(args: &AutodropArgs, autodrop: &Autodrop) -> anyhow::Result<bool> {
    let (run, failure) = if args.dry_run {
        (Some(autodrop.preview().await.context(FAILED)?), None)
    } else {
        let mut run = None;
        let failure = autodrop.run(Cause::Command, &mut run).await.context(FAILED).err();
        (run, failure)
    };
    let Some(run) = run else {
        return Err(failure.unwrap_or_else(|| anyhow!("another process makes room just now")));
    };
    // What was dropped is told, whatever happened then.
    let mut out = std::io::stdout().lock();
    if args.json {
        serde_json::to_writer(&mut out, &Report::of(&run, autodrop.lane(), args.dry_run))?;
        writeln!(out)?;
    } else {
        print(&mut out, &run, args.dry_run)?;
    }
    failure.map_or(Ok(run.enough), Err)
}

const FAILED: &str = "failed to look at the store";

impl Report {
    fn of(run: &Run, lane: Lane, dry_run: bool) -> Self {
        let total = run.drops.total();
        let row = |(subscriber, dropped): (String, Dropped)| Row {
            subscriber,
            events: dropped.items,
            bytes: dropped.bytes,
        };
        Self {
            dry_run,
            lane: lane.index(),
            used: run.before.used,
            used_after: run.after.used,
            max: run.budget.max,
            high_mark: run.budget.high_mark(),
            low_mark: run.budget.low_mark(),
            events: total.items,
            bytes: total.bytes,
            enough: run.enough,
            subscribers: run.drops.by_label().into_iter().map(row).collect(),
        }
    }
}

fn print(out: &mut impl Write, run: &Run, dry_run: bool) -> anyhow::Result<()> {
    let budget = &run.budget;
    writeln!(out, "  used      {} of {}", DecimalBytes(run.before.used), DecimalBytes(budget.max))?;
    let (high, low) = (DecimalBytes(budget.high_mark()), DecimalBytes(budget.low_mark()));
    writeln!(out, "  autodrop  begins over {high}, ends at {low}")?;
    let total = run.drops.total();
    if total.items == 0 && run.enough {
        writeln!(out, "\nNothing has to go.")?;
        return Ok(());
    }
    let verb = if dry_run { "Would drop" } else { "Dropped" };
    let (events, bytes) = (HumanCount(total.items), DecimalBytes(total.bytes));
    writeln!(out, "\n{verb} the oldest events: {events}, about {bytes}")?;
    let subscribers = run.drops.by_label();
    let width = subscribers.keys().map(|label| label.chars().count()).max().unwrap_or(0);
    for (subscriber, dropped) in subscribers {
        let events = HumanCount(dropped.items).to_string();
        writeln!(out, "  {subscriber:width$}  {events:>12}")?;
    }
    Ok(())
}
