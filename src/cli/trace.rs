//! `routemaster trace`: what became of one event.

use clap::Args;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::connect::BusOptions;
use super::credentials::Capacity;
use super::refusals::refusal;
use super::table::{Screen, Table, Tone, print, print_json};
use super::words::{age, clean};
use crate::bus::clock::Clock;

#[derive(Args)]
#[command(after_help = AFTER_HELP)]
pub struct TraceArgs {
    /// Where the event stands: as `routemaster publish` told it, and the header Routemaster-Event.
    position: u64,
    /// Print the JSON object of GET /events/:position.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    bus: BusOptions,
}

const AFTER_HELP: &str = "\
For each subscriber: whether the event waits, is being tried in the batch that was given out, was delivered, is a dead
letter or is gone, and the attempts at batches that carried it. The root key sees all of it, the publisher of
its topic each subscriber, a subscriber itself.

Examples:
  routemaster trace 1764349212345678
  routemaster trace 1764349212345678 --json | jq '.subscribers[].fate'";

#[derive(Deserialize, Serialize)]
struct Trace {
    position: u64,
    /// Milliseconds since the epoch.
    at: u64,
    topic: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    event: Option<Value>,
    subscribers: Vec<Subscriber>,
}

#[derive(Deserialize, Serialize)]
struct Subscriber {
    subscriber: String,
    fate: String,
    attempts: Vec<Attempt>,
}

#[derive(Deserialize, Serialize)]
struct Attempt {
    /// Milliseconds since the epoch.
    at: u64,
    batch: String,
    attempt: u32,
    failed: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    status: Option<u16>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    error: Option<String>,
}

/// # Errors
/// If the bus cannot be asked, or refuses.
pub async fn run(args: TraceArgs) -> anyhow::Result<()> {
    let bus = args.bus.connect_as(Capacity::Operator)?;
    let answer = bus.get(&format!("/events/{}", args.position)).await?;
    if !answer.status.is_success() {
        return Err(refusal(&bus, &answer, None));
    }
    let trace: Trace = answer.json()?;
    if args.json {
        return print_json(&trace);
    }
    Ok(print(&shown(&trace, Clock::system().now_ms()))?)
}

fn shown(trace: &Trace, now_ms: u64) -> String {
    let ago = |ms: u64| format!("{} ago", age(now_ms.saturating_sub(ms) as i64));
    let field = |name: &str| trace.event.as_ref().and_then(|event| event[name].as_str());
    let what = [field("type"), field("url")].into_iter().flatten().collect::<Vec<_>>().join(" ");
    let about = if what.is_empty() { String::new() } else { format!(": {}", clean(&what)) };
    let head = format!("published to `{}` {}{about}", clean(&trace.topic), ago(trace.at));
    let columns = ["SUBSCRIBER", "FATE", "TRY", "WHEN", "STATUS", "BATCH", "ERROR"];
    let mut table = Table::new(Screen::stdout(), &columns, &[2, 4]);
    for subscriber in &trace.subscribers {
        let tone = match subscriber.fate.as_str() {
            "delivered" => Tone::Plain,
            "waiting" | "batch" => Tone::Doubtful,
            _ => Tone::Bad,
        };
        let plain = |text: String| (text, Tone::Plain);
        let whose = || [plain(clean(&subscriber.subscriber)), (fate(&subscriber.fate), tone)];
        if subscriber.attempts.is_empty() {
            let nothing = ["-", "-", "-", "-", "-"].map(|none| plain(none.into()));
            table.coloured_row(whose().into_iter().chain(nothing));
        }
        for attempt in &subscriber.attempts {
            let tone = if attempt.failed { Tone::Bad } else { Tone::Plain };
            table.coloured_row(whose().into_iter().chain([
                plain(attempt.attempt.to_string()),
                plain(ago(attempt.at)),
                (attempt.status.map_or("-".into(), |status| status.to_string()), tone),
                plain(clean(&attempt.batch)),
                (clean(attempt.error.as_deref().unwrap_or("-")), tone),
            ]));
        }
    }
    format!("{head}\n{}", table.text())
}

fn fate(fate: &str) -> String {
    match fate {
        "batch" => "being tried".into(),
        fate => clean(&fate.replace('_', " ")),
    }
}
