//! `routemaster call`: a request that the bus makes until it succeeds.

use std::fs;
use std::io::Read;

use anyhow::Context;
use clap::Args;
use serde_json::{Map, Value, json};
use url::Url;

use super::connect::BusOptions;
use super::outcome::UsageError;
use super::refusals::refusal;
use super::table::{print, print_json};

#[derive(Args)]
#[command(after_help = AFTER_HELP)]
pub struct CallArgs {
    /// Where to: http://… or https://…
    #[arg(value_name = "URL")]
    target: String,
    /// The method [default: GET, or POST with -d].
    #[arg(short = 'X', long, value_name = "METHOD")]
    method: Option<String>,
    /// A header, such as 'Content-Type: application/json'. May be given again.
    #[arg(short = 'H', long = "header", value_name = "NAME: VALUE")]
    headers: Vec<String>,
    /// The body; what begins with @ is a file, and @- standard input.
    #[arg(short = 'd', long = "data", value_name = "BODY")]
    body: Option<String>,
    /// Not before so many milliseconds.
    #[arg(long, value_name = "MS")]
    delay: Option<u64>,
    /// An id of your own: the same call again changes nothing.
    #[arg(long)]
    id: Option<String>,
    /// How long one attempt may take, in milliseconds [default: ROUTEMASTER_CALL_TIMEOUT of the
    /// bus].
    #[arg(long, value_name = "MS")]
    timeout: Option<u64>,
    /// How often it is made at most [default: until it succeeds].
    #[arg(long, value_name = "N")]
    max_attempts: Option<u32>,
    /// Once: if it fails, it is a dead letter.
    #[arg(long, conflicts_with = "max_attempts")]
    once: bool,
    /// Print one JSON object: {"id"}.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    bus: BusOptions,
}

const AFTER_HELP: &str = "\
The id of the call is printed, and nobody waits for the call itself: `routemaster calls show ID` tells
how it stands.

Examples:
  routemaster call https://example.com/hook
  routemaster call https://example.com/hook -d '{\"order\":17}' \\
      -H 'Content-Type: application/json'
  routemaster call https://example.com/hook -X PUT -d @order.json \\
      --id order:17 --delay 60000";

/// # Errors
/// Why it was not accepted, and what to do.
pub async fn run(args: CallArgs) -> anyhow::Result<()> {
    if !Url::parse(&args.target).is_ok_and(|url| matches!(url.scheme(), "http" | "https")) {
        let reason = format!("`{}` is not a URL that starts with http:// or https://", args.target);
        return Err(UsageError(reason).into());
    }
    let bus = args.bus.connect()?;
    let body = args.body.as_deref().map(read).transpose()?;
    let default = if body.is_some() { "POST" } else { "GET" };
    let mut call = json!({
        "url": args.target,
        "method": args.method.as_deref().unwrap_or(default),
        "headers": headers(&args.headers)?,
        "requeue": !args.once,
    });
    for (name, value) in [
        ("body", body.map(Value::from)),
        ("delay", args.delay.map(Value::from)),
        ("id", args.id.map(Value::from)),
        ("timeout", args.timeout.map(Value::from)),
        ("max_attempts", args.max_attempts.map(Value::from)),
    ] {
        if let Some(value) = value {
            call[name] = value;
        }
    }
    let answer = bus.post("/calls", call.to_string().into()).await?;
    if !answer.status.is_success() {
        return Err(refusal(&bus, &answer, None));
    }
    let id = answer.json::<Value>()?["id"].as_str().unwrap_or_default().to_owned();
    if args.json {
        return print_json(&json!({ "id": id }));
    }
    Ok(print(&format!("{id}\n"))?)
}

/// The body that is meant.
fn read(body: &str) -> anyhow::Result<String> {
    match body.strip_prefix('@') {
        None => Ok(body.to_owned()),
        Some("-") => {
            let mut text = String::new();
            std::io::stdin().read_to_string(&mut text).context("failed to read standard input")?;
            Ok(text)
        }
        Some(file) => {
            fs::read_to_string(file).with_context(|| format!("failed to read the body from {file}"))
        }
    }
}

fn headers(lines: &[String]) -> Result<Map<String, Value>, UsageError> {
    let header = |line: &String| {
        let wrong = || UsageError::new(format!("-H {line} must be like 'Name: value'"));
        let (name, value) = line.split_once(':').ok_or_else(wrong)?;
        Ok((name.trim().to_owned(), Value::from(value.trim())))
    };
    lines.iter().map(header).collect()
}
