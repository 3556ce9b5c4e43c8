//! `routemaster publish`: one event from the command line, or many from standard input.

mod chunk;
mod lines;
mod progress;
mod stream;

use std::time::Duration;

use anyhow::Context;
use clap::Args;
use routemaster_client::{Event, EventKind, Position};
use serde_json::value::RawValue;

use crate::bus::json::check_https_url;
use crate::bus::topic::TopicName;
use crate::cli::connect::BusOptions;
use crate::cli::outcome::UsageError;
use crate::cli::refusals::failure;
use crate::cli::table::print;

/// Publish one event, or many from standard input.
#[derive(Args)]
#[command(after_help = AFTER_HELP)]
pub struct PublishArgs {
    /// The topic: lower-case letters and underscores. The first publish to a topic creates it,
    /// and from then on only the same token may publish to it.
    topic: String,
    /// What happened: create, update, delete or noop. Left out, or -, events are read from
    /// standard input.
    #[arg(value_name = "TYPE")]
    kind: Option<String>,
    /// The address of what it happened to: https://…, up to 1024 characters.
    #[arg(value_name = "URL")]
    thing: Option<String>,
    /// When it happened, in milliseconds since 1970 [default: when the bus receives it].
    #[arg(long, value_name = "MS")]
    timestamp: Option<u64>,
    /// What else subscribers should know: any JSON.
    #[arg(long, value_name = "JSON")]
    data: Option<String>,
    /// Events from standard input: how long to keep trying when the bus cannot be reached or
    /// cannot take them, in seconds.
    #[arg(long, value_name = "S", default_value_t = 60)]
    retry_for: u64,
    #[command(flatten)]
    bus: BusOptions,
}

const AFTER_HELP: &str = "\
Examples:
  routemaster publish widgets create https://shop.example/widgets/1
  routemaster publish widgets update https://shop.example/widgets/1 \\
      --data '{\"price\": 12.50}'
  routemaster publish widgets < events.ndjson

Events on standard input are JSON objects, one a line, with the fields of the API:
  {\"type\": \"create\", \"url\": \"https://shop.example/widgets/1\"}
  {\"type\": \"update\", \"url\": \"https://shop.example/2\", \"data\": {\"price\": 9}}
They may have a `timestamp` as well. They are published in their order. The first line that is
refused ends it: all lines before it are published, nothing from it on. A request whose answer is
lost is sent again, so that after trouble with the connection some events may arrive twice; none is
left out.";

/// Publishes what the arguments say.
///
/// # Errors
/// Why not everything was published, how much was, and what to do.
pub async fn run(args: PublishArgs) -> anyhow::Result<()> {
    let topic = TopicName::parse(&args.topic, TopicName::MAX).map_err(UsageError::from)?;
    match (args.kind.as_deref(), args.thing.as_deref()) {
        (None | Some("-"), None) => {
            if args.timestamp.is_some() || args.data.is_some() {
                let reason =
                    "--timestamp and --data go with one event: give its type and its URL too";
                return Err(UsageError::new(reason).into());
            }
            let bus = args.bus.connect()?;
            stream::publish(&bus, &topic, Duration::from_secs(args.retry_for)).await
        }
        (Some(kind), Some(url)) => publish_one(&args, &topic, kind, url).await,
        (Some(kind), None) => {
            let example = format!("routemaster publish {topic} {kind} https://…");
            Err(UsageError(format!("the URL is missing: {example}")).into())
        }
        (None, Some(_)) => Err(UsageError::new("the type is missing").into()),
    }
}

/// Says what was published.
fn report(published: &str) -> anyhow::Result<()> {
    let written = print(&format!("{published}\n"));
    written.with_context(|| format!("{published}, but standard output cannot be written"))
}

async fn publish_one(
    args: &PublishArgs,
    topic: &TopicName,
    kind: &str,
    url: &str,
) -> anyhow::Result<()> {
    let Ok(known) = kind.parse::<EventKind>() else {
        let reason = "is not a type of event: it must be create, update, delete or noop";
        return Err(UsageError(format!("`{kind}` {reason}")).into());
    };
    check_https_url(url).map_err(|reason| UsageError(format!("`{url}` {reason}")))?;
    let data = args.data.as_deref().map(serde_json::from_str::<&RawValue>);
    let data =
        data.transpose().map_err(|error| UsageError(format!("--data is not JSON: {error}")))?;
    let mut event = Event::new(known, url);
    if let Some(timestamp) = args.timestamp {
        event = event.at(timestamp);
    }
    if let Some(data) = data {
        event = event.with_data(data);
    }
    let bus = args.bus.connect()?;
    let published = bus.api().publish(topic.as_str(), &event).await;
    let position = published.map_err(|error| failure(&bus, error, Some(topic.as_str())))?;
    let named = position.map(|Position(position)| format!(" as event {position}"));
    report(&format!("published {kind} {url} to `{topic}`{}", named.unwrap_or_default()))?;
    Ok(())
}

fn path(topic: &TopicName) -> String {
    format!("/topics/{topic}")
}
