//! `routemaster calls retry` and `routemaster calls purge`: something is done to all calls that match.

use clap::Args;
use reqwest::StatusCode;
use serde::Deserialize;
use serde_json::json;

use super::filter::Filter;
use super::one::Which;
use crate::cli::bar::bar;
use crate::cli::confirm::confirm;
use crate::cli::connect::{Bus, BusOptions};
use crate::cli::credentials::Capacity;
use crate::cli::outcome::UsageError;
use crate::cli::refusals::refusal;
use crate::cli::table::{print, print_json};
use crate::cli::words::counted;

#[derive(Args)]
#[command(after_help = RETRY_HELP)]
pub struct RetryArgs {
    /// The call; left out, all that match.
    id: Option<String>,
    #[command(flatten)]
    filter: Filter,
    /// Do not ask.
    #[arg(long, short)]
    yes: bool,
    /// Print one JSON object: {"changed"}.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    bus: BusOptions,
}

const RETRY_HELP: &str = "\
Examples:
  routemaster calls retry order:17
  routemaster calls retry --state dead --destination https://example.com:443";

#[derive(Args)]
#[command(after_help = PURGE_HELP)]
pub struct PurgeArgs {
    #[command(flatten)]
    filter: Filter,
    /// Do not ask.
    #[arg(long, short)]
    yes: bool,
    /// Print one JSON object: {"changed"}.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    bus: BusOptions,
}

const PURGE_HELP: &str = "\
At least one filter says which; those that are on their way are not repeated.

Examples:
  routemaster calls purge --state dead
  routemaster calls purge --destination https://example.com:443 --until 7d --yes";

#[derive(Clone, Copy)]
enum Act {
    Retry,
    Purge,
}

#[derive(Deserialize)]
struct Count {
    count: u64,
    until: u64,
}

#[derive(Deserialize)]
struct Changed {
    changed: u64,
    next: Option<String>,
}

/// # Errors
/// Why it was not done, and what to do.
pub async fn retry(args: RetryArgs) -> anyhow::Result<()> {
    let bus = args.bus.connect_as(Capacity::Operator)?;
    if let Some(id) = args.id {
        let which = Which::new(id, args.filter.of.client.clone());
        let answer = bus.post(&which.path("/retry"), bytes::Bytes::new()).await?;
        if !answer.status.is_success() {
            return Err(which.refusal(&bus, &answer));
        }
        return tell(Act::Retry, 1, args.json);
    }
    act(Act::Retry, &bus, args.filter, args.yes, args.json).await
}

/// # Errors
/// Why it was not done, and what to do.
pub async fn purge(args: PurgeArgs) -> anyhow::Result<()> {
    let bus = args.bus.connect_as(Capacity::Operator)?;
    act(Act::Purge, &bus, args.filter, args.yes, args.json).await
}

async fn act(act: Act, bus: &Bus, filter: Filter, yes: bool, json: bool) -> anyhow::Result<()> {
    if filter.is_any() {
        let reason = "say which calls: --state, --destination, --client, --since or --until";
        return Err(UsageError::new(reason).into());
    }
    let mut filter = filter;
    let Count { count: matching, until } = count(bus, &filter, None).await?;
    // What comes later is not meant.
    filter.of.until = Some(until);
    let what = match act {
        Act::Retry => "makes due at once",
        Act::Purge => "ends for good",
    };
    if matching > 0 {
        confirm(&format!("This {what} {}.", counted(matching, "call", "calls")), yes)?;
    }
    let bar = bar(matching, "calls");
    let (mut changed, mut after, mut left) = (0, None::<String>, matching);
    while left > 0 {
        let mut more = vec![("confirm", left.to_string())];
        more.extend(after.clone().map(|after| ("after", after)));
        let query = filter.query(&more);
        let answer = match act {
            Act::Retry => bus.post(&format!("/calls/retry?{query}"), bytes::Bytes::new()).await?,
            Act::Purge => bus.delete(&format!("/calls?{query}")).await?,
        };
        if answer.status == StatusCode::CONFLICT {
            // Some have ended meanwhile by themselves.
            left = count(bus, &filter, after.as_deref()).await?.count;
            continue;
        }
        if !answer.status.is_success() {
            return Err(refusal(bus, &answer, None));
        }
        let done: Changed = answer.json()?;
        changed += done.changed;
        bar.set_position(changed);
        after = done.next;
        left = match &after {
            Some(next) => count(bus, &filter, Some(next)).await?.count,
            None => 0,
        };
    }
    bar.finish_and_clear();
    tell(act, changed, json)
}

async fn count(bus: &Bus, filter: &Filter, after: Option<&str>) -> anyhow::Result<Count> {
    let mut more = vec![("count", "true".to_owned())];
    more.extend(after.map(|after| ("after", after.to_owned())));
    let answer = bus.get(&format!("/calls?{}", filter.query(&more))).await?;
    if !answer.status.is_success() {
        return Err(refusal(bus, &answer, None));
    }
    Ok(answer.json()?)
}

fn tell(act: Act, changed: u64, json: bool) -> anyhow::Result<()> {
    if json {
        return print_json(&json!({ "changed": changed }));
    }
    let calls = counted(changed, "call", "calls");
    Ok(print(&match act {
        Act::Retry => format!("{calls} made due at once\n"),
        Act::Purge => format!("{calls} ended\n"),
    })?)
}
