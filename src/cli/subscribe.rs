//! `routemaster subscribe`: makes a subscription as a service does it, and says what it changes.

use std::path::PathBuf;

use anyhow::anyhow;
use clap::Args;
use reqwest::StatusCode;
use routemaster_client::{Error, OnRefusal};

use super::confirm::confirm;
use super::connect::{Bus, BusOptions};
use super::monitoring::{self, Subscription, veil};
use super::outcome::UsageError;
use super::refusals::failure;
use super::secret;
use super::table::{print, print_json};
use super::words::moment;
use crate::bus::subscription::{SubscriptionRequest as Wish, Target};
use crate::bus::topic::TopicName;

#[derive(Args)]
#[command(after_help = AFTER_HELP)]
pub struct SubscribeArgs {
    /// The topics: all that the subscription is to have.
    #[arg(required = true, value_name = "TOPIC")]
    topics: Vec<String>,
    /// Where the bus delivers to: https://…, without query and fragment.
    #[arg(long, value_name = "URL", required_unless_present = "pull")]
    callback: Option<String>,
    /// Nowhere: the subscriber asks for its batches, at GET /subscription/batch.
    #[arg(long, conflicts_with_all = ["callback", "uuid", "uuid_file", "timeout"])]
    pull: bool,
    /// What deliveries carry as user name and password of HTTP Basic. It is a secret, and what
    /// stands here is seen by everybody on this machine: better use --uuid-file.
    #[arg(long, value_name = "UUID", conflicts_with = "uuid_file")]
    uuid: Option<String>,
    /// Take the uuid from the first line of a file, or of standard input (-).
    #[arg(long, value_name = "FILE")]
    uuid_file: Option<PathBuf>,
    /// How long an event may wait for others to share its batch, in milliseconds
    /// [0..3600000, default: 500].
    #[arg(long, value_name = "MS")]
    timeout: Option<u64>,
    /// Events in a batch, at most [1..10000, default: 100].
    #[arg(long, value_name = "N")]
    max: Option<u32>,
    /// Drop events that have waited longer than this, in milliseconds; 0: never [default: as it is].
    #[arg(long, value_name = "MS")]
    retention: Option<u64>,
    /// Drop the oldest events while more than this many wait; 0: never [default: as it is].
    #[arg(long, value_name = "N")]
    max_queued: Option<u64>,
    /// Sign deliveries with the secret in the first line of a file, or of standard input (-): whsec_ and the
    /// base64 of 24 to 64 bytes. A second line is the secret whose place it takes; an empty file: no more
    /// signatures [default: as it is].
    #[arg(long, value_name = "FILE")]
    secret_file: Option<PathBuf>,
    /// How the events of batches are written: routemaster or cloudevents [default: as it is].
    #[arg(long, value_name = "FORMAT")]
    format: Option<String>,
    /// Make a dead letter of an event that was refused so often; 0: try for ever [default: as it is].
    #[arg(long, value_name = "ATTEMPTS")]
    on_refusal: Option<u32>,
    /// Whose order is kept: queue, one batch after the other, or entity, that of the events of each URL, with several
    /// batches on their way at once [default: as it is].
    #[arg(long, value_name = "ORDER")]
    order: Option<String>,
    /// With --order entity: how many batches are on their way at once, at most [1..32, default: 8].
    #[arg(long, value_name = "N", requires = "order")]
    parallel: Option<u32>,
    /// Begin then, with what the topics have kept, if the subscription is new: milliseconds since 1970, or how
    /// long ago, such as 30m, 12h or 7d.
    #[arg(long, value_name = "TIME", value_parser = moment)]
    since: Option<u64>,
    /// Do not ask.
    #[arg(long, short)]
    yes: bool,
    /// Print the subscription as one JSON object, with the fields of GET /subscriptions and
    /// without the uuid.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    bus: BusOptions,
}

const AFTER_HELP: &str = "\
A token has one subscription: the topics that are given are all of it, and what is left out has its
default; --retention, --max-queued, --secret-file, --format, --on-refusal and --order stay as they are.
If one that exists would lose something by it, this says so, and asks.

Examples:
  routemaster subscribe widgets orders --callback https://search.example/events
  routemaster subscribe widgets --callback https://search.example/events \\
      --uuid-file uuid.txt --max 1000 --timeout 2000 --secret-file secret.txt
  routemaster subscribe widgets --pull --since 12h
  routemaster subscribe orders --callback https://search.example/events \\
      --order entity --parallel 16
  pass search/uuid | routemaster subscribe widgets --uuid-file - --yes \\
      --callback https://search.example/events

To try a topic out without a callback of your own: routemaster listen --help";

/// # Errors
/// Why it was not done, and what to do.
pub async fn run(args: SubscribeArgs) -> anyhow::Result<()> {
    let uuid = match (&args.uuid, &args.uuid_file) {
        (Some(uuid), _) => Some(uuid.clone()),
        (None, Some(file)) => Some(secret::read(file)?),
        (None, None) => None,
    };
    let subscription = match &args.callback {
        Some(callback) => routemaster_client::Subscription::to(callback, &args.topics),
        None => routemaster_client::Subscription::pull(&args.topics),
    };
    let subscription = routemaster_client::Subscription {
        secret: args.secret_file.as_ref().map(|file| secret::read_lines(file)).transpose()?,
        format: args.format,
        on_refusal: args.on_refusal.map(|attempts| match attempts {
            0 => OnRefusal::Hold,
            attempts => OnRefusal::Attempts(attempts),
        }),
        order: args.order,
        parallel: args.parallel,
        since: args.since,
        uuid,
        timeout: args.timeout,
        max: args.max,
        retention: args.retention,
        max_queued: args.max_queued,
        ..subscription
    };
    let body = serde_json::to_vec(&subscription)?;
    // What no bus would take is a wrong command line.
    let wish = Wish::parse(&body, TopicName::MAX);
    let wish = wish.map_err(|error| UsageError::new(error.to_string()))?;
    let bus = args.bus.connect()?;
    if let Some(existing) = own(&bus).await? {
        let losses = losses(&existing, &wish);
        if !losses.is_empty() {
            let who = bus.user().to_string();
            confirm(
                &format!("{who} has a subscription already: {}.", losses.join(", ")),
                args.yes,
            )?;
        }
    }
    match bus.api().subscribe(&subscription).await {
        Ok(()) => {}
        Err(Error::Refused(answer)) if answer.status == StatusCode::NOT_FOUND => {
            return Err(anyhow!(
                "{}: the first publish to a topic creates it; a bus with \
                 ROUTEMASTER_SUBSCRIBE_CREATES_TOPICS=true creates it here",
                answer.reason()
            ));
        }
        Err(error) => return Err(failure(&bus, error, None)),
    }
    if args.json {
        let made = own(&bus).await?;
        let made = made.ok_or_else(|| anyhow!("the subscription was removed just now"))?;
        return print_json(&made.veiled());
    }
    let topics: Vec<_> = wish.topics.iter().map(TopicName::as_str).collect();
    let who = veil(bus.user().reveal()).to_owned();
    let topics = topics.join(", ");
    Ok(print(&match &wish.terms.target {
        Target::Pull => format!("{who} pulls {topics}\n"),
        target => format!("{who} receives {topics} at {target}\n"),
    })?)
}

/// The subscription that the token has.
pub async fn own(bus: &Bus) -> anyhow::Result<Option<Subscription>> {
    let token = bus.user().reveal();
    let mut all = monitoring::subscriptions(bus).await?.into_iter();
    Ok(all.find(|subscription| subscription.subscriber == token))
}

/// What an existing subscription would not have any more, in words.
fn losses(existing: &Subscription, wish: &Wish) -> Vec<String> {
    let mut losses = Vec::new();
    if existing.target() != wish.terms.target.to_string() {
        losses.push(format!("its callback would no longer be {}", existing.target()));
    }
    let kept = |name: &&String| wish.topics.iter().any(|topic| topic.as_str() == name.as_str());
    let lost: Vec<_> = existing.topics.iter().filter(|name| !kept(name)).cloned().collect();
    if !lost.is_empty() {
        losses.push(format!("it would no longer receive {}", lost.join(", ")));
    }
    if existing.uuid.is_some() && wish.terms.uuid.is_none() {
        losses.push("its deliveries would no longer carry a uuid".into());
    }
    losses
}

#[cfg(test)]
mod tests {
    use super::*;

    fn losses_by(body: &str) -> Vec<String> {
        let existing = r#"{"subscriber":"a","callback":"https://a.example/","uuid":"u",
            "max_events":100,"timeout":500,"topics":["x","y"],
            "events":{"sent":1,"queued":0,"oldest":null}}"#;
        let wish = Wish::parse(body.as_bytes(), TopicName::MAX).unwrap();
        losses(&serde_json::from_str(existing).unwrap(), &wish)
    }

    #[test]
    fn what_an_existing_subscription_loses_is_told() {
        let same = r#"{"topics":["x","y","z"],"callback":"https://a.example","uuid":"v"}"#;
        assert!(losses_by(same).is_empty());
        let other = losses_by(r#"{"topics":["y"],"callback":"https://b.example"}"#);
        assert_eq!(other.len(), 3, "{other:?}");
        assert!(other[1].ends_with("receive x"), "{other:?}");
    }
}
