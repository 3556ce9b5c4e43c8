//! `routemaster dead-letters`: what was given up, and what to do about events among it.

use anyhow::bail;
use bytes::Bytes;
use clap::{Args, Subcommand};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use reqwest::StatusCode;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use super::bar::bar;
use super::confirm::confirm;
use super::connect::{Bus, BusOptions};
use super::credentials::Capacity;
use super::pages;
use super::refusals::refusal;
use super::table::{Screen, Table, Tone, print, print_json};
use super::words::{age, clean, counted};
use crate::bus::clock::Clock;
use crate::note;

/// How many are asked for at once.
const PAGE: usize = 500;

#[derive(Args)]
#[command(after_help = AFTER_HELP, args_conflicts_with_subcommands = true)]
pub struct DeadLettersArgs {
    #[command(subcommand)]
    action: Option<Action>,
    #[command(flatten)]
    list: ListArgs,
}

#[derive(Args)]
struct ListArgs {
    /// Events or calls only.
    #[arg(long, value_name = "event|call")]
    kind: Option<String>,
    /// Whose: a token; needs the root key.
    #[arg(long, value_name = "TOKEN")]
    client: Option<String>,
    /// Calls to this destination: scheme, host and port.
    #[arg(long, value_name = "ORIGIN")]
    destination: Option<String>,
    /// How many at most; 0 for all.
    #[arg(long, default_value_t = 50)]
    limit: usize,
    /// Print a JSON array with the fields of GET /dead_letters.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    bus: BusOptions,
}

#[derive(Subcommand)]
enum Action {
    /// Put an event, or all, at the end of its subscriber's queue
    Retry(OneArgs),
    /// Forget an event, or all
    Delete(OneArgs),
}

#[derive(Args)]
#[command(after_help = ONE_HELP)]
struct OneArgs {
    /// Which: as `routemaster dead-letters` shows it.
    #[arg(required_unless_present = "all")]
    id: Option<String>,
    /// All events that were given up, in the order in which they were published.
    #[arg(long, conflicts_with = "id")]
    all: bool,
    /// Do not ask.
    #[arg(long, short)]
    yes: bool,
    /// Whose: the subscriber's token; the root key needs it.
    #[arg(long, value_name = "TOKEN")]
    client: Option<String>,
    /// Print one JSON object: {"id", "done"}; done is `retried` or `deleted`. With --all {"events", "done"}.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    bus: BusOptions,
}

const AFTER_HELP: &str = "\
Events come first, then calls, of either the newest first. Messages are at `routemaster messages --state dead`.

Examples:
  routemaster dead-letters
  routemaster dead-letters retry 1764349212345678
  routemaster calls retry --state dead            once their receiver is well
  routemaster calls purge --state dead            nobody needs them any more";

const ONE_HELP: &str = "\
Examples:
  routemaster dead-letters retry 1764349212345678
  routemaster dead-letters retry --all            once the receiver is well
  routemaster dead-letters delete 1764349212345678";

#[derive(Deserialize, Serialize)]
struct Row {
    id: String,
    kind: String,
    client: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    error: Option<String>,
    #[serde(flatten)]
    more: Map<String, Value>,
}

/// # Errors
/// Why it was not done, and what to do.
pub async fn run(args: DeadLettersArgs) -> anyhow::Result<()> {
    match args.action {
        None => list(args.list).await,
        Some(Action::Retry(args)) => act(args, true).await,
        Some(Action::Delete(args)) => act(args, false).await,
    }
}

async fn list(args: ListArgs) -> anyhow::Result<()> {
    let bus = args.bus.connect_as(Capacity::Operator)?;
    let path = |more: &pages::More| {
        let own = [
            ("kind", args.kind.clone()),
            ("client", args.client.clone()),
            ("destination", args.destination.clone()),
        ];
        format!("/dead_letters?{}", pages::query(own, more))
    };
    let (rows, has_more) = pages::rows::<Row>(&bus, args.limit, PAGE, path).await?;
    if args.json {
        return print_json(&rows);
    }
    if rows.is_empty() {
        note!("nothing was given up");
        return Ok(());
    }
    let columns = ["ID", "KIND", "AGE", "CLIENT", "WHAT", "WHY"];
    let mut table = Table::new(Screen::stdout(), &columns, &[2]);
    let now_ms = Clock::system().now_ms();
    for row in &rows {
        let text = |field: &Value| field.as_str().unwrap_or_default().to_owned();
        let event = row.more.get("event");
        let (since, what) = match event {
            Some(event) => {
                (&row.more["since"], format!("{} {}", text(&event["topic"]), text(&event["url"])))
            }
            None => {
                let of = |name: &str| row.more.get(name).map(text).unwrap_or_default();
                (&row.more["accepted"], format!("{} {}", of("method"), of("url")))
            }
        };
        let cause = row.more.get("cause").map(text).unwrap_or_default();
        let why = match (cause.as_str(), row.error.as_deref().unwrap_or_default()) {
            (cause, "") => cause.to_owned(),
            ("", error) => error.to_owned(),
            (cause, error) => format!("{cause}; {error}"),
        };
        let plain = |text: String| (clean(&text), Tone::Plain);
        table.coloured_row([
            plain(row.id.clone()),
            plain(row.kind.clone()),
            plain(
                since.as_u64().map_or("-".into(), |since| age(now_ms.saturating_sub(since) as i64)),
            ),
            plain(row.client.clone()),
            plain(what),
            plain(why),
        ]);
    }
    print(&table.text())?;
    if has_more {
        note!("there are more: see --limit");
    }
    Ok(())
}

async fn act(args: OneArgs, is_retry: bool) -> anyhow::Result<()> {
    let bus = args.bus.connect_as(Capacity::Operator)?;
    let done = if is_retry { "retried" } else { "deleted" };
    let Some(id) = &args.id else {
        let events = all(&bus, &args, is_retry).await?;
        if args.json {
            return print_json(&json!({ "events": events, "done": done }));
        }
        return Ok(print(&format!("{done} {}\n", counted(events, "event", "events")))?);
    };
    if !one(&bus, id, args.client.as_deref(), is_retry).await? {
        bail!(
            "{id} is no event that was given up, or its subscriber is gone; a call is retried by \
             `routemaster calls retry`"
        );
    }
    if args.json {
        return print_json(&json!({ "id": id, "done": done }));
    }
    Ok(print(&match is_retry {
        true => format!("{id} is at the end of the queue\n"),
        false => format!("{id} is gone\n"),
    })?)
}

/// Does it to all events; how many those were. One that is gone meanwhile does not count.
async fn all(bus: &Bus, args: &OneArgs, is_retry: bool) -> anyhow::Result<u64> {
    let path = |more: &pages::More| {
        let own = [("kind", Some("event".to_owned())), ("client", args.client.clone())];
        format!("/dead_letters?{}", pages::query(own, more))
    };
    let (mut rows, _) = pages::rows::<Row>(bus, 0, PAGE, path).await?;
    if rows.is_empty() {
        return Ok(0);
    }
    let events = counted(rows.len() as u64, "event", "events");
    confirm(
        &match is_retry {
            true => format!("{events} will stand at the end of their queues once more."),
            false => format!("{events} will be gone for ever."),
        },
        args.yes,
    )?;
    rows.sort_by_key(|row| row.id.parse::<u64>().unwrap_or(u64::MAX));
    let bar = bar(rows.len() as u64, "events");
    let mut changed = 0;
    for row in &rows {
        changed += u64::from(one(bus, &row.id, Some(&row.client), is_retry).await?);
        bar.inc(1);
    }
    bar.finish_and_clear();
    Ok(changed)
}

/// Does it to one event; `false` if there is none such.
async fn one(bus: &Bus, id: &str, client: Option<&str>, is_retry: bool) -> anyhow::Result<bool> {
    let encode = |text: &str| utf8_percent_encode(text, NON_ALPHANUMERIC).to_string();
    let client = client.map(|client| format!("?client={}", encode(client)));
    let (id, client) = (encode(id), client.unwrap_or_default());
    let answer = match is_retry {
        true => bus.post(&format!("/dead_letters/{id}/retry{client}"), Bytes::new()).await?,
        false => bus.delete(&format!("/dead_letters/{id}{client}")).await?,
    };
    match answer.status {
        status if status.is_success() => Ok(true),
        StatusCode::NOT_FOUND => Ok(false),
        _ => Err(refusal(bus, &answer, None)),
    }
}
