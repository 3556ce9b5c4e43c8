//! `routemaster messages send`.

use std::io::Read;

use anyhow::Context;
use clap::Args;
use serde_json::{Map, Value, json};

use crate::cli::connect::BusOptions;
use crate::cli::outcome::UsageError;
use crate::cli::refusals::refusal;
use crate::cli::table::{print, print_json};

#[derive(Args)]
#[command(after_help = AFTER_HELP)]
pub struct SendArgs {
    topic: String,
    /// The payload, a JSON object or array; what begins with @ is a file, and @- standard input.
    #[arg(short = 'd', long = "data", value_name = "JSON", default_value = "{}")]
    payload: String,
    /// An attribute. May be given again.
    #[arg(short = 'a', long = "attribute", value_name = "NAME=TEXT")]
    attributes: Vec<String>,
    /// Not before then: a time with its offset, such as 2026-12-01T08:30:00Z.
    #[arg(long, value_name = "TIME")]
    at: Option<String>,
    /// Print the JSON object of the answer.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    bus: BusOptions,
}

const AFTER_HELP: &str = "\
The number of the message is printed; `routemaster messages show` tells what became of it.

Examples:
  routemaster messages send orders -d '{\"order\": 17}' -a kind=created
  routemaster messages send orders -d @order.json --at 2026-12-01T08:30:00Z";

/// # Errors
/// Why it was not taken, and what to do.
pub async fn run(args: SendArgs) -> anyhow::Result<()> {
    let payload = read(&args.payload)?;
    let payload: Value = serde_json::from_str(&payload)
        .map_err(|error| UsageError::new(format!("--data is no JSON: {error}")))?;
    let mut attributes = Map::new();
    for attribute in &args.attributes {
        let Some((name, text)) = attribute.split_once('=') else {
            return Err(UsageError::new("--attribute must be NAME=TEXT").into());
        };
        attributes.insert(name.to_owned(), text.into());
    }
    let mut body = json!({"topic": args.topic, "payload": payload, "attributes": attributes});
    let path = match &args.at {
        Some(at) => {
            body["schedule_at"] = at.as_str().into();
            "/api/schedule_messages"
        }
        None => "/api/messages",
    };
    let bus = args.bus.connect()?;
    let answer = bus.post(path, body.to_string().into()).await?;
    if !answer.status.is_success() {
        return Err(refusal(&bus, &answer, None));
    }
    let taken: Value = answer.json()?;
    match args.json {
        true => print_json(&taken),
        false => Ok(print(&format!("{}\n", taken["message"]))?),
    }
}

fn read(text: &str) -> anyhow::Result<String> {
    match text.strip_prefix('@') {
        None => Ok(text.to_owned()),
        Some("-") => {
            let mut payload = String::new();
            std::io::stdin().read_to_string(&mut payload).context("failed to read the payload")?;
            Ok(payload)
        }
        Some(path) => {
            std::fs::read_to_string(path).with_context(|| format!("failed to read {path}"))
        }
    }
}
