//! `routemaster autodrop`: makes room in the store now, or tells what would go (contract §6). It
//! opens the store itself, with the settings of the bus, so that it works when no bus runs.

use std::io::Write;

use anyhow::{Context, bail};
use clap::Args;
use indicatif::{DecimalBytes, HumanCount};
use serde::Serialize;

use crate::bus::token::ClientToken;
use crate::config::Settings;
use crate::roles::open_store;
use crate::store::Dropped;
use crate::store::sqlite::SqliteStore;
use crate::upkeep::autodrop::{Autodrop, Run};

#[derive(Args)]
pub struct AutodropArgs {
    /// Tell what would be dropped, and drop nothing
    #[arg(long)]
    pub dry_run: bool,
    /// Print one JSON object
    #[arg(long)]
    pub json: bool,
}

/// What is printed with `--json`. Sizes are in bytes.
#[derive(Serialize)]
struct Report {
    dry_run: bool,
    used: u64,
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
    let store = open_store(settings).await?;
    let autodrop = Autodrop::new(store.clone(), settings.budget());
    let run = if args.dry_run { autodrop.preview().await } else { autodrop.run().await };
    let run = run.context("failed to look at the store")?;
    let mut out = std::io::stdout().lock();
    if args.json {
        serde_json::to_writer(&mut out, &Report::of(&run, args.dry_run))?;
        writeln!(out)?;
    } else {
        writeln!(out, "{}", store.describe())?;
        print(&mut out, &run, args.dry_run)?;
    }
    if !run.enough {
        bail!("nothing more can be dropped, and the store still holds more than it should");
    }
    Ok(())
}

impl Report {
    fn of(run: &Run, dry_run: bool) -> Self {
        let total = run.drops.total();
        let row = |(subscriber, dropped): (&ClientToken, Dropped)| Row {
            subscriber: subscriber.label(),
            events: dropped.items,
            bytes: dropped.bytes,
        };
        Self {
            dry_run,
            used: run.before.used,
            max: run.budget.max,
            high_mark: run.budget.high_mark(),
            low_mark: run.budget.low_mark(),
            events: total.items,
            bytes: total.bytes,
            enough: run.enough,
            subscribers: run.drops.iter().map(row).collect(),
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
    let width = run.drops.iter().map(|(name, _)| name.label().chars().count()).max().unwrap_or(0);
    for (subscriber, dropped) in run.drops.iter() {
        let events = HumanCount(dropped.items).to_string();
        writeln!(out, "  {:width$}  {events:>12}", subscriber.label())?;
    }
    Ok(())
}
