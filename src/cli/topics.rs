//! `routemaster topics`: which topics there are, whose they are, what they keep, and away with one.

use anyhow::bail;
use clap::{Args, Subcommand};
use reqwest::StatusCode;
use serde_json::json;

use super::confirm::confirm;
use super::connect::BusOptions;
use super::credentials::Capacity;
use super::monitoring::{self, Topic, TopicKeep};
use super::outcome::UsageError;
use super::refusals::refusal;
use super::table::{Screen, Table, print, print_json};
use super::words::span_ms;
use crate::bus::topic::{Keep, TopicName};
use crate::config::parse;
use crate::note;

#[derive(Args)]
#[command(after_help = AFTER_HELP, args_conflicts_with_subcommands = true)]
pub struct TopicsArgs {
    #[command(subcommand)]
    action: Option<Action>,
    #[command(flatten)]
    list: ListArgs,
}

const AFTER_HELP: &str = "\
Examples:
  routemaster topics
  routemaster topics --json | jq -r '.[] | select(.publisher == null) | .name'
  routemaster topics keep widgets --for 7d --room 1GiB
  routemaster topics delete widgets";

const KEEP_HELP: &str = "\
Subscribers may have what is kept once more (`routemaster replay`), and new ones may begin in the past
(`routemaster subscribe --since`). It begins with what is published from now on. Needs the token of the
topic's publisher, or the root key, which is taken from ROUTEMASTER_ROOT_KEY if that is set and
ROUTEMASTER_TOKEN is not.

Examples:
  routemaster topics keep widgets --for 7d --room 1GiB
  routemaster topics keep widgets --nothing     what was kept is forgotten";

const DELETE_HELP: &str = "\
The topic's subscribers are unsubscribed from it; events that wait in their queues stay. The next
publish to it creates it anew, for whoever sends it. Needs the token of the topic's publisher, or the
root key, which is taken from ROUTEMASTER_ROOT_KEY if that is set and ROUTEMASTER_TOKEN is not.

Examples:
  routemaster topics delete widgets
  routemaster topics delete widgets --yes          where nobody can be asked";

#[derive(Subcommand)]
enum Action {
    /// Say how much a topic keeps of its events
    Keep(KeepArgs),
    /// Delete a topic
    Delete(DeleteArgs),
}

#[derive(Args)]
struct ListArgs {
    /// Show the publishers' tokens whole, as far as the bus tells them: to the root key all of
    /// them.
    #[arg(long)]
    show: bool,
    /// Print a JSON array of {"name", "publisher", "events"}, and "keep" of one that keeps its events.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    bus: BusOptions,
}

#[derive(Args)]
#[command(after_help = KEEP_HELP)]
struct KeepArgs {
    /// The topic.
    name: String,
    /// For how long: a time such as 90s, 30m, 12h or 7d, up to 365d.
    #[arg(long = "for", value_name = "TIME", value_parser = span_ms, required_unless_present = "nothing")]
    time: Option<u64>,
    /// How much: bytes, or a number with KB, MB, GB (1000s) or KiB, MiB, GiB (1024s).
    #[arg(long, value_name = "BYTES", value_parser = room, required_unless_present = "nothing")]
    room: Option<u64>,
    /// Keep nothing, and forget what was kept.
    #[arg(long, conflicts_with_all = ["time", "room"])]
    nothing: bool,
    /// Print one JSON object: {"name", "keep"}.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    bus: BusOptions,
}

#[derive(Args)]
#[command(after_help = DELETE_HELP)]
struct DeleteArgs {
    /// The topic.
    name: String,
    /// Do not ask.
    #[arg(long, short)]
    yes: bool,
    /// Print one JSON object: {"name", "deleted"}.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    bus: BusOptions,
}

/// # Errors
/// Why it was not done, and what to do.
pub async fn run(args: TopicsArgs) -> anyhow::Result<()> {
    match args.action {
        None => list(args.list).await,
        Some(Action::Keep(args)) => keep(args).await,
        Some(Action::Delete(args)) => delete(args).await,
    }
}

async fn list(args: ListArgs) -> anyhow::Result<()> {
    let bus = args.bus.connect_as(Capacity::Operator)?;
    let topics = monitoring::topics(&bus).await?.into_iter();
    let topics: Vec<_> = topics.map(|t| if args.show { t } else { t.veiled() }).collect();
    if args.json {
        return print_json(&topics);
    }
    if topics.is_empty() {
        note!("there is no topic: the first publish to one creates it");
        return Ok(());
    }
    let mut table = Table::new(Screen::stdout(), &["TOPIC", "PUBLISHER", "EVENTS", "KEEPS"], &[2]);
    for Topic { name, publisher, events, keep, .. } in topics {
        let keeps = keep.map_or_else(|| "-".into(), |keep| keep.in_words());
        table.row([name, publisher.unwrap_or_else(|| "-".into()), events.to_string(), keeps]);
    }
    Ok(print(&table.text())?)
}

fn room(text: &str) -> Result<u64, String> {
    parse::bytes(text)
        .ok_or_else(|| "give bytes, or a number with KB, MB, GB, KiB, MiB or GiB".into())
}

fn named(name: &str) -> Result<TopicName, UsageError> {
    Ok(TopicName::parse(name, TopicName::MAX)?)
}

async fn keep(args: KeepArgs) -> anyhow::Result<()> {
    let name = named(&args.name)?;
    let (ms, bytes) = (args.time.unwrap_or(0), args.room.unwrap_or(0));
    Keep::new(ms, bytes).map_err(|error| UsageError::new(error.to_string()))?;
    let bus = args.bus.connect_as(Capacity::Operator)?;
    let keep = TopicKeep { ms, bytes };
    let answer =
        bus.put(&format!("/topics/{name}/keep"), serde_json::to_vec(&keep)?.into()).await?;
    match answer.status {
        StatusCode::NO_CONTENT => {}
        StatusCode::NOT_FOUND => bail!("there is no topic `{name}`: see `routemaster topics`"),
        _ => return Err(refusal(&bus, &answer, None)),
    }
    if args.json {
        return print_json(&json!({ "name": name.as_str(), "keep": keep }));
    }
    Ok(print(&match args.nothing {
        true => format!("`{name}` keeps nothing\n"),
        false => format!("`{name}` keeps what comes from now on: {}\n", keep.in_words()),
    })?)
}

async fn delete(args: DeleteArgs) -> anyhow::Result<()> {
    let name = named(&args.name)?;
    let bus = args.bus.connect_as(Capacity::Operator)?;
    confirm(&format!("This deletes the topic `{name}` for all of its subscribers."), args.yes)?;
    let answer = bus.delete(&format!("/topics/{name}")).await?;
    match answer.status {
        StatusCode::NO_CONTENT => {}
        StatusCode::NOT_FOUND => bail!("there is no topic `{name}`: see `routemaster topics`"),
        StatusCode::FORBIDDEN => bail!(
            "`{name}` belongs to another client, not to the token {} (from {}): delete it with its \
             publisher's token or with the root key",
            bus.user(),
            bus.token_from()
        ),
        _ => return Err(refusal(&bus, &answer, None)),
    }
    if args.json {
        return print_json(&json!({ "name": name.as_str(), "deleted": true }));
    }
    Ok(print(&format!("deleted the topic `{name}`\n"))?)
}
