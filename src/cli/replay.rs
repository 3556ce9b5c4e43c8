//! `routemaster replay`: what topics have kept, once more.

use anyhow::anyhow;
use clap::Args;
use reqwest::StatusCode;
use serde_json::{Value, json};

use super::connect::BusOptions;
use super::refusals::refusal;
use super::table::{print, print_json};
use super::words::{counted, moment};

#[derive(Args)]
#[command(after_help = AFTER_HELP)]
pub struct ReplayArgs {
    /// Of these topics [default: all that the client subscribes to].
    #[arg(value_name = "TOPIC")]
    topics: Vec<String>,
    /// What was stored then or later: milliseconds since 1970, or how long ago, such as 30m, 12h or 7d.
    #[arg(long, value_name = "TIME", value_parser = moment)]
    since: u64,
    /// What was stored before then [default: until now].
    #[arg(long, value_name = "TIME", value_parser = moment)]
    until: Option<u64>,
    /// Print one JSON object: {"replayed"}.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    bus: BusOptions,
}

const AFTER_HELP: &str = "\
What its topics have kept comes to the end of the client's queue, in order, in batches that are marked with
Routemaster-Replay. What a topic keeps is said by `routemaster topics keep`.

Examples:
  routemaster replay --since 2h
  routemaster replay widgets --since 7d --until 6d";

/// # Errors
/// Why it was not done, and what to do.
pub async fn run(args: ReplayArgs) -> anyhow::Result<()> {
    let bus = args.bus.connect()?;
    let mut body = json!({ "since": args.since });
    if !args.topics.is_empty() {
        body["topics"] = json!(args.topics);
    }
    if let Some(until) = args.until {
        body["until"] = json!(until);
    }
    let answer = bus.post("/subscription/replay", serde_json::to_vec(&body)?.into()).await?;
    match answer.status {
        StatusCode::OK => {}
        StatusCode::NOT_FOUND => {
            return Err(anyhow!("{}: see `routemaster subscribe`", answer.reason()));
        }
        _ => return Err(refusal(&bus, &answer, None)),
    }
    let answer: Value = answer.json()?;
    if args.json {
        return print_json(&answer);
    }
    let replayed = answer["replayed"].as_u64().unwrap_or(0);
    let hint =
        if replayed == 0 { ": `routemaster topics` shows what keeps its events" } else { "" };
    Ok(print(&format!(
        "{} put into the queue once more{hint}\n",
        counted(replayed, "event", "events")
    ))?)
}
