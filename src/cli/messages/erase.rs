//! `routemaster messages erase`.

use clap::Args;
use serde_json::{Value, json};

use super::list::Filter;
use crate::cli::confirm::confirm;
use crate::cli::connect::BusOptions;
use crate::cli::credentials::Capacity;
use crate::cli::outcome::UsageError;
use crate::cli::refusals::refusal;
use crate::cli::table::{print, print_json};
use crate::cli::words::counted;

#[derive(Args)]
#[command(after_help = AFTER_HELP)]
pub struct EraseArgs {
    /// The message, by its number; left out, all that match.
    id: Option<u64>,
    #[command(flatten)]
    filter: Filter,
    /// Do not ask.
    #[arg(long, short)]
    yes: bool,
    /// Print one JSON object: {"erased"}.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    bus: BusOptions,
}

const AFTER_HELP: &str = "\
Payload, attributes and attempts are erased; what waits is not forwarded any more. Without a number, at
least one filter says which.

Examples:
  routemaster messages erase 1764322800000123
  routemaster messages erase --text alice@example.com --yes";

/// # Errors
/// Why it was not done, and what to do.
pub async fn run(args: EraseArgs) -> anyhow::Result<()> {
    let bus = args.bus.connect_as(Capacity::Operator)?;
    if let Some(id) = args.id {
        confirm(&format!("This erases the message {id}."), args.yes)?;
        let answer = bus.delete(&format!("/api/messages/{id}")).await?;
        if !answer.status.is_success() {
            return Err(refusal(&bus, &answer, None));
        }
        return tell(1, args.json);
    }
    if args.filter.is_empty() {
        return Err(UsageError::new("name a message, or say by a filter which are meant").into());
    }
    let query = args.filter.query(&[("count", "true".into())]);
    let answer = bus.get(&format!("/api/messages?{query}")).await?;
    if !answer.status.is_success() {
        return Err(refusal(&bus, &answer, None));
    }
    let counted_now: Value = answer.json()?;
    let count = counted_now["count"].as_u64().unwrap_or_default();
    if count == 0 {
        return tell(0, args.json);
    }
    confirm(&format!("This erases {}.", counted(count, "message", "messages")), args.yes)?;
    let mut more = vec![("confirm", count.to_string())];
    if args.filter.until().is_none() {
        more.push(("until", counted_now["until"].to_string()));
    }
    let (mut erased, mut left) = (0, count);
    loop {
        more[0].1 = left.to_string();
        let answer = bus.delete(&format!("/api/messages?{}", args.filter.query(&more))).await?;
        if !answer.status.is_success() {
            return Err(refusal(&bus, &answer, None));
        }
        let done: Value = answer.json()?;
        let now = done["erased"].as_u64().unwrap_or_default();
        erased += now;
        left = left.saturating_sub(now);
        if done["next"].is_null() || now == 0 {
            return tell(erased, args.json);
        }
    }
}

fn tell(erased: u64, json: bool) -> anyhow::Result<()> {
    match json {
        true => print_json(&json!({ "erased": erased })),
        false => Ok(print(&format!("erased {}\n", counted(erased, "message", "messages")))?),
    }
}
