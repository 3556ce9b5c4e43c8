//! Torture: a bus under load is hurt in one way after another, and an oracle says whether what was
//! answered with 204 is lost, reordered, altered or let in wrongly.
//!
//! `./scripts/torture` runs it for as long as it is asked to; `cargo test` runs a short one. What is
//! random comes from the seed, which is printed first. docs/reliability.md tells what it found.

// A harness fails by panicking: that is how it says what went wrong.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod calls;
mod faults;
mod files;
mod load;
mod messages;
mod oracle;
mod receiver;
mod report;
mod rig;
#[path = "../contract/support/mod.rs"]
#[allow(dead_code, unused_imports, unused_macros, reason = "the contract tests use more of it")]
mod support;

use std::process::ExitCode;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use clap::Parser;
use faults::{Fault, Order};
use rig::Row;

/// Hurts a bus under load in one way after another.
#[derive(Parser)]
#[command(name = "torture")]
struct Options {
    /// What decides all that is random; by default another one each time
    #[arg(long)]
    seed: Option<u64>,
    /// How long it may take in all, about
    #[arg(long, default_value_t = 45)]
    seconds: u64,
    /// Only on this store: sqlite or redis
    #[arg(long)]
    store: Option<String>,
    /// Only faults whose name begins so; may be given more than once
    #[arg(long)]
    only: Vec<String>,
    /// How many faults run at the same time, each on a bus of its own
    #[arg(long, default_value_t = 8)]
    jobs: usize,
    /// List the faults
    #[arg(long)]
    list: bool,
}

/// What a fault takes beside the time in which the bus is hurt: to start, to deliver all, to stop.
const AROUND: Duration = Duration::from_secs(7);
/// The shortest and longest time in which a bus is hurt.
const HURT: (Duration, Duration) = (Duration::from_secs(5), Duration::from_secs(600));
/// From this time on, a run is no short one.
const LONG: u64 = 60;
/// What takes so much longer than it should hangs.
const HANG: Duration = Duration::from_secs(150);

fn main() -> ExitCode {
    let Some(options) = options() else { return ExitCode::SUCCESS };
    let chosen = chosen(&options);
    if options.list {
        chosen.iter().for_each(|fault| println!("{} on {}", fault.name, fault.store.name()));
        return ExitCode::SUCCESS;
    }
    if chosen.is_empty() {
        eprintln!("torture: no fault has such a name; --list shows all");
        return ExitCode::from(2);
    }
    let seed = options.seed.unwrap_or_else(|| fastrand::u64(..1_000_000_000));
    println!("torture: seed {seed}, {} faults, about {} s", chosen.len(), options.seconds);
    let _ = routemaster::tls::install_provider();
    let rows = run(&chosen, seed, &options);
    report::print(&rows, seed, options.seconds)
}

/// The command line, or none if this is a run of the tests that asks for other ones.
fn options() -> Option<Options> {
    let names_tests = |word: &String| {
        // What `cargo test` hands to every binary of tests.
        let others = ["--nocapture", "--show-output", "--test-threads", "--exact", "--skip", "-q"];
        !word.starts_with('-') || others.iter().any(|other| word.starts_with(other))
    };
    match std::env::args().nth(1) {
        Some(first) if names_tests(&first) => {
            println!("torture: left out, because some tests only are asked for");
            None
        }
        _ => Some(Options::parse()),
    }
}

fn chosen(options: &Options) -> Vec<Fault> {
    let mut faults = faults::all();
    faults.retain(|fault| {
        let name = options.only.is_empty()
            || options.only.iter().any(|only| fault.name.starts_with(only.as_str()));
        let fits = !fault.long || !options.only.is_empty() || options.seconds >= LONG;
        let name = name && (fits || options.list);
        name && options.store.as_deref().is_none_or(|store| store == fault.store.name())
    });
    faults
}

/// Runs the faults, some at a time, and says of each when it is over.
fn run(chosen: &[Fault], seed: u64, options: &Options) -> Vec<Row> {
    let jobs = options.jobs.clamp(1, chosen.len());
    let rounds = chosen.len().div_ceil(jobs) as u32;
    let each = Duration::from_secs(options.seconds) / rounds;
    let time = each.saturating_sub(AROUND).clamp(HURT.0, HURT.1);
    let next = AtomicUsize::new(0);
    let rows = Mutex::new(vec![]);
    thread::scope(|scope| {
        for _ in 0..jobs {
            scope.spawn(|| {
                while let Some(fault) = chosen.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let row = run_one(*fault, Order { store: fault.store, seed, time });
                    rows.lock().unwrap().push(row);
                }
            });
        }
    });
    let mut rows = rows.into_inner().unwrap();
    let place = |row: &Row| {
        chosen.iter().position(|fault| (fault.name, fault.store.name()) == (row.fault, row.store))
    };
    rows.sort_by_key(place);
    rows
}

/// Runs one fault on a thread of its own, so that a panic is this fault's alone.
fn run_one(fault: Fault, order: Order) -> Row {
    let begun = Instant::now();
    let run = move || {
        let mut builder = tokio::runtime::Builder::new_multi_thread();
        let runtime = builder.worker_threads(2).enable_all().build().unwrap();
        let limit = order.time + HANG;
        let row = runtime.block_on(async { tokio::time::timeout(limit, (fault.run)(order)).await });
        runtime.shutdown_background();
        row.unwrap_or_else(|_| panic!("it hangs: it was not done after {limit:?}"))
    };
    let thread = thread::Builder::new().name(format!("{} on {}", fault.name, fault.store.name()));
    let mut row = thread.spawn(run).unwrap().join().unwrap_or_else(|_| {
        let mut row = Row::default();
        row.violation("it failed; what it said is above");
        row
    });
    (row.fault, row.store) = (fault.name, fault.store.name());
    let took = begun.elapsed().as_secs_f64();
    println!("torture: {} on {} took {took:.0} s", row.fault, row.store);
    row
}
