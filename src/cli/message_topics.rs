//! `routemaster message-topics`: Postoffice's topics.

use clap::{Args, Subcommand};
use serde_json::{Value, json};

use super::confirm::confirm;
use super::connect::{Answer, Bus, BusOptions};
use super::credentials::Capacity;
use super::pages;
use super::refusals::refusal;
use super::table::{Screen, Table, print, print_json};
use super::words::clean;
use crate::note;

/// How many are asked for at once.
const PAGE: usize = 1000;

#[derive(Args)]
#[command(after_help = AFTER_HELP, args_conflicts_with_subcommands = true)]
pub struct MessageTopicsArgs {
    #[command(subcommand)]
    action: Option<Action>,
    #[command(flatten)]
    list: ListArgs,
}

const AFTER_HELP: &str = "\
Examples:
  routemaster message-topics
  routemaster message-topics add orders --recovery \\
      --origin https://shop.example/messages/
  routemaster message-topics remove 3 --cascade";

#[derive(Subcommand)]
enum Action {
    /// List the topics
    List(ListArgs),
    /// Make a topic
    Add(AddArgs),
    /// Remove a topic
    Remove(RemoveArgs),
}

#[derive(Args)]
struct ListArgs {
    /// Print a JSON array with the fields of GET /api/topics.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    bus: BusOptions,
}

#[derive(Args)]
struct AddArgs {
    name: String,
    /// Where its messages come from.
    #[arg(long, value_name = "URL")]
    origin: String,
    /// Fetch what got lost on its way here from there.
    #[arg(long)]
    recovery: bool,
    /// Print one JSON object: {"id", "name"}.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    bus: BusOptions,
}

#[derive(Args)]
struct RemoveArgs {
    id: u64,
    /// Remove its publishers too; what waits for them is discarded.
    #[arg(long)]
    cascade: bool,
    /// Do not ask.
    #[arg(long, short)]
    yes: bool,
    #[command(flatten)]
    bus: BusOptions,
}

/// # Errors
/// Why it was not done, and what to do.
pub async fn run(args: MessageTopicsArgs) -> anyhow::Result<()> {
    match args.action {
        None => list(args.list).await,
        Some(Action::List(args)) => list(args).await,
        Some(Action::Add(args)) => add(args).await,
        Some(Action::Remove(args)) => remove(args).await,
    }
}

/// All of a list that the bus gives out in pages.
///
/// # Errors
/// If the bus cannot be asked, or refuses.
pub async fn all(bus: &Bus, path: &str) -> anyhow::Result<Vec<Value>> {
    let path = |more: &pages::More| format!("{path}?{}", pages::query([], more));
    Ok(pages::rows(bus, 0, PAGE, path).await?.0)
}

/// Prints what was made: its id, or all that was answered.
///
/// # Errors
/// If the bus has refused, or it cannot be printed.
pub fn tell_made(bus: &Bus, answer: &Answer, json: bool) -> anyhow::Result<()> {
    if !answer.status.is_success() {
        return Err(refusal(bus, answer, None));
    }
    let made = answer.json::<Value>()?["data"].clone();
    match json {
        true => print_json(&made),
        false => Ok(print(&format!("{}\n", made["id"]))?),
    }
}

async fn list(args: ListArgs) -> anyhow::Result<()> {
    let bus = args.bus.connect_as(Capacity::Operator)?;
    let topics = all(&bus, "/api/topics").await?;
    if args.json {
        return print_json(&topics);
    }
    if topics.is_empty() {
        note!("there is no message topic");
        return Ok(());
    }
    let mut table = Table::new(Screen::stdout(), &["ID", "NAME", "ORIGIN", "RECOVERY"], &[0]);
    for topic in topics {
        table.row([
            topic["id"].to_string(),
            clean(topic["name"].as_str().unwrap_or_default()),
            clean(topic["origin_host"].as_str().unwrap_or_default()),
            if topic["recovery_enabled"] == true { "yes" } else { "no" }.into(),
        ]);
    }
    Ok(print(&table.text())?)
}

async fn add(args: AddArgs) -> anyhow::Result<()> {
    let bus = args.bus.connect()?;
    let body = json!({
        "name": args.name, "origin_host": args.origin, "recovery_enabled": args.recovery,
    });
    let answer = bus.post("/api/topics", body.to_string().into()).await?;
    tell_made(&bus, &answer, args.json)
}

async fn remove(args: RemoveArgs) -> anyhow::Result<()> {
    let bus = args.bus.connect_as(Capacity::Operator)?;
    let with = if args.cascade { ", with its publishers and what waits for them" } else { "" };
    confirm(&format!("This removes the message topic {}{with}.", args.id), args.yes)?;
    let query = if args.cascade { "?cascade=true" } else { "" };
    let answer = bus.delete(&format!("/api/topics/{}{query}", args.id)).await?;
    if !answer.status.is_success() {
        return Err(refusal(&bus, &answer, None));
    }
    Ok(print(&format!("removed the message topic {}\n", args.id))?)
}
