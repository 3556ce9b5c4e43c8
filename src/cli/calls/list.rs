//! `routemaster calls list`.

use clap::Args;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::filter::Filter;
use crate::bus::clock::Clock;
use crate::cli::connect::BusOptions;
use crate::cli::credentials::Capacity;
use crate::cli::pages;
use crate::cli::table::{Screen, Table, Tone, print, print_json};
use crate::cli::words::{age, clean};
use crate::note;

/// How many are asked for at once.
const PAGE: usize = 500;

#[derive(Args)]
#[command(after_help = AFTER_HELP)]
pub struct ListArgs {
    #[command(flatten)]
    filter: Filter,
    /// How many at most; 0 for all.
    #[arg(long, default_value_t = 50)]
    limit: usize,
    /// Print a JSON array with the fields of GET /calls.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    bus: BusOptions,
}

const AFTER_HELP: &str = "\
STATE is waiting, sending, failing (it is made again), dead (given up) or done; TRIES how often it was
made, NEXT when it is made next.

Examples:
  routemaster calls list --state failing
  routemaster calls list --json --limit 0 | jq '.[] | select(.attempts > 3)'";

/// A call as the bus tells of it.
#[derive(Debug, Deserialize, Serialize)]
pub struct Row {
    pub id: String,
    pub client: String,
    pub method: String,
    pub url: String,
    pub state: String,
    pub attempts: u32,
    /// Milliseconds since the epoch.
    pub accepted: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub due: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    #[serde(flatten)]
    pub more: Map<String, Value>,
}

/// # Errors
/// If the bus cannot be asked, or refuses.
pub async fn run(args: ListArgs) -> anyhow::Result<()> {
    let bus = args.bus.connect_as(Capacity::Operator)?;
    let path = |more: &pages::More| format!("/calls?{}", args.filter.query(more));
    let (rows, has_more) = pages::rows::<Row>(&bus, args.limit, PAGE, path).await?;
    if args.json {
        return print_json(&rows);
    }
    if rows.is_empty() {
        note!("there is no such call");
        return Ok(());
    }
    let columns = ["ID", "STATE", "TRIES", "AGE", "NEXT", "CLIENT", "CALL", "ERROR"];
    let mut table = Table::new(Screen::stdout(), &columns, &[2, 3, 4]);
    let now_ms = Clock::system().now_ms();
    for row in &rows {
        table.coloured_row(cells(row, now_ms));
    }
    print(&table.text())?;
    if has_more {
        note!("there are more: see --limit");
    }
    Ok(())
}

fn cells(row: &Row, now_ms: u64) -> [(String, Tone); 8] {
    let tone = match row.state.as_str() {
        "done" => Tone::Good,
        "failing" => Tone::Doubtful,
        "dead" => Tone::Bad,
        _ => Tone::Plain,
    };
    let plain = |text: String| (text, Tone::Plain);
    let next = row.due.map_or_else(
        || "-".into(),
        |due| match due > now_ms {
            true => age((due - now_ms) as i64),
            false => "now".into(),
        },
    );
    [
        plain(clean(&row.id)),
        (clean(&row.state), tone),
        plain(row.attempts.to_string()),
        plain(age(now_ms.saturating_sub(row.accepted) as i64)),
        plain(next),
        plain(clean(&row.client)),
        plain(clean(&format!("{} {}", row.method, row.url))),
        plain(clean(row.error.as_deref().unwrap_or("-"))),
    ]
}
