//! `routemaster pause`, `resume`, `retry` and `skip`: what can be done about a queue.

use clap::Args;
use serde_json::{Value, json};

use super::confirm::confirm;
use super::connect::BusOptions;
use super::credentials::Capacity;
use super::outcome::UsageError;
use super::subscriber::WhichSubscriber;
use super::table::{print, print_json};
use super::words::counted;

#[derive(Args)]
#[command(after_help = PAUSE_HELP)]
pub struct PauseArgs {
    #[command(flatten)]
    which: WhichSubscriber,
    /// Print one JSON object: {"subscriber", "paused"}.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    bus: BusOptions,
}

const PAUSE_HELP: &str = "\
Nothing is sent from now on, and everything is kept; a delivery that is on its way is finished.

Examples:
  routemaster pause                           the client's own subscription
  routemaster pause shop                      somebody's, with the root key
  routemaster resume shop";

#[derive(Args)]
#[command(after_help = RESUME_HELP)]
pub struct ResumeArgs {
    #[command(flatten)]
    which: WhichSubscriber,
    /// Print one JSON object: {"subscriber", "paused"}.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    bus: BusOptions,
}

const RESUME_HELP: &str = "\
It ends any pause, also that of a callback which answered 410 Gone. What waits goes out at once.

Examples:
  routemaster resume
  routemaster resume shop";

#[derive(Args)]
#[command(after_help = RETRY_HELP)]
pub struct RetryArgs {
    #[command(flatten)]
    which: WhichSubscriber,
    /// Print one JSON object: {"subscriber"}.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    bus: BusOptions,
}

const RETRY_HELP: &str = "\
What waits is delivered now, and not when its pause is over: for when a receiver is mended.
A call is retried by `routemaster calls retry`, a message by `routemaster messages retry`.

Examples:
  routemaster retry
  routemaster retry shop";

#[derive(Args)]
#[command(after_help = SKIP_HELP)]
pub struct SkipArgs {
    #[command(flatten)]
    which: WhichSubscriber,
    /// Skip the batch that was given out and is not acknowledged.
    #[arg(long, conflicts_with = "through")]
    batch: bool,
    /// Skip all that wait up to this event, as `routemaster queue` shows its position.
    #[arg(long, value_name = "POSITION")]
    through: Option<u64>,
    /// Do not ask.
    #[arg(long, short)]
    yes: bool,
    /// Print one JSON object: {"subscriber", "skipped"}.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    bus: BusOptions,
}

const SKIP_HELP: &str = "\
What is skipped is not delivered. It is kept as dead letters: `routemaster dead-letters` shows them, and
puts one back with `routemaster dead-letters retry`.

Examples:
  routemaster skip shop --batch               what its receiver refuses
  routemaster skip shop --through 1764349212345678";

/// # Errors
/// Why it was not done, and what to do.
pub async fn pause(PauseArgs { which, json, bus }: PauseArgs) -> anyhow::Result<()> {
    hold(&which, json, &bus, true).await
}

/// # Errors
/// Why it was not done, and what to do.
pub async fn resume(ResumeArgs { which, json, bus }: ResumeArgs) -> anyhow::Result<()> {
    hold(&which, json, &bus, false).await
}

async fn hold(
    which: &WhichSubscriber,
    json: bool,
    bus: &BusOptions,
    paused: bool,
) -> anyhow::Result<()> {
    let bus = bus.connect_as(Capacity::Operator)?;
    let subscriber = which.of(&bus)?;
    subscriber.post(&bus, if paused { "/pause" } else { "/resume" }, None).await?;
    let name = subscriber.name();
    if json {
        return print_json(&json!({ "subscriber": name, "paused": paused }));
    }
    Ok(print(&match paused {
        true => format!("{name} is paused: nothing is sent to it, and everything is kept\n"),
        false => format!("{name} is not paused: what waits goes out\n"),
    })?)
}

/// # Errors
/// Why it was not done, and what to do.
pub async fn retry(args: RetryArgs) -> anyhow::Result<()> {
    let bus = args.bus.connect_as(Capacity::Operator)?;
    let subscriber = args.which.of(&bus)?;
    subscriber.post(&bus, "/retry", None).await?;
    let name = subscriber.name();
    if args.json {
        return print_json(&json!({ "subscriber": name }));
    }
    Ok(print(&format!("what waits for {name} is delivered now\n"))?)
}

/// # Errors
/// Why it was not done, and what to do.
pub async fn skip(args: SkipArgs) -> anyhow::Result<()> {
    if !args.batch && args.through.is_none() {
        return Err(UsageError::new("say up to where: --batch, or --through POSITION").into());
    }
    let bus = args.bus.connect_as(Capacity::Operator)?;
    let subscriber = args.which.of(&bus)?;
    let status = subscriber.get(&bus, "").await?;
    let (body, what) = match args.through {
        Some(position) => {
            let queued = status["events"]["queued"].as_u64().unwrap_or(0);
            let waiting = counted(queued, "event that waits", "events that wait");
            (json!({ "through": position }), format!("those up to {position}, of {waiting}"))
        }
        None => {
            let Some(id) = status["batch"]["id"].as_str() else {
                anyhow::bail!("{} has no batch that was given out and waits", subscriber.name());
            };
            let events = status["batch"]["events"].as_u64().unwrap_or(0);
            (json!({ "batch": id }), counted(events, "event", "events"))
        }
    };
    let name = subscriber.name();
    confirm(&format!("This skips {what}: {name} does not receive them."), args.yes)?;
    let answer = subscriber.post(&bus, "/skip", Some(&body)).await?;
    let answer: Value = answer.json()?;
    let skipped = answer["skipped"].as_u64().unwrap_or(0);
    if args.json {
        return print_json(&json!({ "subscriber": name, "skipped": skipped }));
    }
    let events = counted(skipped, "event", "events");
    Ok(print(&format!("skipped {events} of {name}: see `routemaster dead-letters`\n"))?)
}
