//! `routemaster queue`: what waits for a subscriber, in its order.

use clap::Args;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::connect::BusOptions;
use super::credentials::Capacity;
use super::pages;
use super::subscriber::WhichSubscriber;
use super::table::{Screen, Table, Tone, print, print_json};
use super::words::{age, clean};
use crate::bus::clock::Clock;
use crate::note;

/// How many are asked for at once.
const PAGE: usize = 500;

#[derive(Args)]
#[command(after_help = AFTER_HELP)]
pub struct QueueArgs {
    #[command(flatten)]
    which: WhichSubscriber,
    /// Those behind this position.
    #[arg(long, value_name = "POSITION")]
    after: Option<u64>,
    /// How many at most; 0 for all.
    #[arg(long, default_value_t = 20)]
    limit: usize,
    /// Print a JSON array with the fields of GET /subscriptions/:subscriber/queue.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    bus: BusOptions,
}

const AFTER_HELP: &str = "\
Nothing is touched. POSITION names an event: `routemaster skip --through` takes one. Those marked with *
are in the batch that was given out and is not acknowledged.

Examples:
  routemaster queue
  routemaster queue shop --limit 100
  routemaster queue shop --json | jq -r '.[].event.url'";

#[derive(Deserialize, Serialize)]
struct Row {
    position: u64,
    /// Milliseconds since the epoch.
    since: u64,
    in_batch: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    replay_of: Option<u64>,
    event: Value,
}

/// # Errors
/// If the bus cannot be asked, or refuses.
pub async fn run(args: QueueArgs) -> anyhow::Result<()> {
    let bus = args.bus.connect_as(Capacity::Operator)?;
    let subscriber = args.which.of(&bus)?;
    // An answer of its own tells of a subscriber that is not there, or not to be looked into.
    let path = |more: &pages::More| {
        let has_after = more.iter().any(|(name, _)| *name == "after");
        let first = args.after.filter(|_| !has_after).map(|after| after.to_string());
        subscriber.path(&format!("/queue?{}", pages::query([("after", first)], more)))
    };
    let (rows, has_more) = pages::rows::<Row>(&bus, args.limit, PAGE, path).await?;
    if args.json {
        return print_json(&rows);
    }
    if rows.is_empty() {
        note!("nothing waits for {}", subscriber.name());
        return Ok(());
    }
    let columns = ["", "POSITION", "WAITS", "TOPIC", "TYPE", "URL"];
    let mut table = Table::new(Screen::stdout(), &columns, &[1, 2]);
    let now_ms = Clock::system().now_ms();
    for row in &rows {
        let plain = |text: String| (text, Tone::Plain);
        let field = |name: &str| plain(clean(row.event[name].as_str().unwrap_or("-")));
        table.coloured_row([
            plain(if row.in_batch { "*".into() } else { String::new() }),
            plain(row.position.to_string()),
            plain(age(now_ms.saturating_sub(row.since) as i64)),
            field("topic"),
            field("type"),
            field("url"),
        ]);
    }
    print(&table.text())?;
    if has_more {
        note!("there are more: see --limit and --after");
    }
    Ok(())
}
