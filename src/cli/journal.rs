//! `routemaster journal`: every attempt at a batch, a call or a postback.

use std::time::Duration;

use clap::Args;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::connect::{Bus, BusOptions};
use super::credentials::Capacity;
use super::pages;
use super::table::{Screen, Table, Tone, print, print_json};
use super::words::{age, clean, moment};
use crate::bus::clock::Clock;
use crate::journal::EntryKind;
use crate::note;

/// How many entries are asked for at once.
const PAGE: usize = 500;
/// How often new ones are looked for.
const FOLLOW_INTERVAL: Duration = Duration::from_secs(1);
/// How long an entry may take to get into the journal.
const LATE_MS: u64 = 3_000;

#[derive(Args)]
#[command(after_help = AFTER_HELP)]
pub struct JournalArgs {
    /// Attempts at these.
    #[arg(long, value_parser = EntryKind::ALL.map(EntryKind::as_str))]
    kind: Option<String>,
    /// Batches of this subscriber: its token or its name.
    #[arg(long, value_name = "NAME")]
    subscriber: Option<String>,
    /// Calls to this destination: scheme, host and port.
    #[arg(long, value_name = "ORIGIN")]
    destination: Option<String>,
    /// Attempts at this call or batch.
    #[arg(long)]
    id: Option<String>,
    /// What was answered.
    #[arg(long)]
    status: Option<u16>,
    /// Only those that failed.
    #[arg(long)]
    failed: bool,
    /// What stands in the error, the answer or the URL.
    #[arg(long)]
    text: Option<String>,
    /// Then or later: milliseconds since 1970, or how long ago, such as 30m, 12h or 7d.
    #[arg(long, value_name = "TIME", value_parser = moment)]
    since: Option<u64>,
    /// Before then.
    #[arg(long, value_name = "TIME", value_parser = moment)]
    until: Option<u64>,
    /// How many at most; 0 for all.
    #[arg(long, default_value_t = 50)]
    limit: usize,
    /// Show what comes from now on, until it is stopped.
    #[arg(long, short, conflicts_with_all = ["until", "limit"])]
    follow: bool,
    /// Print a JSON array with the fields of GET /journal; with --follow one object a line.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    bus: BusOptions,
}

const AFTER_HELP: &str = "\
The newest come first; with --follow, last. What stands there, and for how long, the settings
ROUTEMASTER_JOURNAL… say.

Examples:
  routemaster journal --failed
  routemaster journal --subscriber shop --follow
  routemaster journal --text 'connection refused' --json | jq -r '.[].id'";

/// An attempt as the bus tells of it.
#[derive(Clone, Debug, Deserialize, Serialize)]
struct Row {
    /// Milliseconds since the epoch.
    at: u64,
    kind: String,
    id: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    subscriber: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    destination: Option<String>,
    attempt: u32,
    failed: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    status: Option<u16>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    error: Option<String>,
    took: u64,
    #[serde(flatten)]
    more: Map<String, Value>,
}

/// # Errors
/// If the bus cannot be asked, or refuses.
pub async fn run(args: JournalArgs) -> anyhow::Result<()> {
    let bus = args.bus.connect_as(Capacity::Operator)?;
    if args.follow {
        return follow(&bus, args).await;
    }
    let (rows, has_more) = rows(&bus, &args, args.since, args.limit).await?;
    if args.json {
        return print_json(&rows);
    }
    if rows.is_empty() {
        note!("the journal has nothing of it");
        return Ok(());
    }
    print(&table(&rows))?;
    if has_more {
        note!("there are more: see --limit");
    }
    Ok(())
}

/// Shows what comes, until the process is stopped.
async fn follow(bus: &Bus, args: JournalArgs) -> anyhow::Result<()> {
    let started = args.since.unwrap_or_else(|| Clock::system().now_ms());
    let (mut since, mut shown) = (started, Vec::<(u64, String, u32)>::new());
    loop {
        let (mut rows, _) = rows(bus, &args, Some(since), 0).await?;
        rows.reverse();
        rows.retain(|row| !shown.contains(&row.name()));
        if args.json {
            rows.iter().try_for_each(print_json)?;
        } else if !rows.is_empty() {
            let text = table(&rows);
            // The head stands there once.
            let lines = if shown.is_empty() {
                &text
            } else {
                text.split_once('\n').map_or("", |(_, rest)| rest)
            };
            print(lines)?;
        }
        shown.extend(rows.iter().map(Row::name));
        since = since.max(Clock::system().now_ms().saturating_sub(LATE_MS)).max(started);
        shown.retain(|(at, ..)| *at >= since);
        tokio::time::sleep(FOLLOW_INTERVAL).await;
    }
}

impl Row {
    /// What tells it from others.
    fn name(&self) -> (u64, String, u32) {
        (self.at, self.id.clone(), self.attempt)
    }
}

async fn rows(
    bus: &Bus,
    args: &JournalArgs,
    since: Option<u64>,
    limit: usize,
) -> anyhow::Result<(Vec<Row>, bool)> {
    let path = |more: &pages::More| {
        let own = [
            ("kind", args.kind.clone()),
            ("subscriber", args.subscriber.clone()),
            ("destination", args.destination.clone()),
            ("id", args.id.clone()),
            ("status", args.status.map(|status| status.to_string())),
            ("failed", args.failed.then(|| "true".into())),
            ("text", args.text.clone()),
            ("since", since.map(|since| since.to_string())),
            ("until", args.until.map(|until| until.to_string())),
        ];
        format!("/journal?{}", pages::query(own, more))
    };
    pages::rows(bus, limit, PAGE, path).await
}

fn table(rows: &[Row]) -> String {
    let columns = ["WHEN", "KIND", "ID", "TO", "TRY", "STATUS", "TOOK", "ERROR"];
    let mut table = Table::new(Screen::stdout(), &columns, &[0, 4, 5, 6]);
    let now_ms = Clock::system().now_ms();
    for row in rows {
        let to = row.subscriber.as_deref().or(row.destination.as_deref()).unwrap_or("-");
        let tone = if row.failed { Tone::Bad } else { Tone::Plain };
        let plain = |text: String| (text, Tone::Plain);
        table.coloured_row([
            plain(format!("{} ago", age(now_ms.saturating_sub(row.at) as i64))),
            plain(row.kind.clone()),
            plain(clean(&row.id)),
            plain(clean(to)),
            plain(row.attempt.to_string()),
            (row.status.map_or("-".into(), |status| status.to_string()), tone),
            plain(format!("{} ms", row.took)),
            (clean(row.error.as_deref().unwrap_or("-")), tone),
        ]);
    }
    table.text()
}
