//! `routemaster unsubscribe`: some topics of a subscription, or all of it with its queue.

use anyhow::{Context, bail};
use clap::Args;
use reqwest::StatusCode;
use serde_json::json;

use super::confirm::confirm;
use super::connect::{Bus, BusOptions};
use super::credentials::Capacity;
use super::monitoring::{self, Subscription, veil};
use super::outcome::UsageError;
use super::refusals::{refusal, refusal_of_root};
use super::subscribe::own;
use super::table::{print, print_json};
use super::words::counted;
use crate::bus::topic::TopicName;

#[derive(Args)]
#[command(after_help = AFTER_HELP)]
pub struct UnsubscribeArgs {
    /// The topics; none: the whole subscription, with its queue.
    #[arg(value_name = "TOPIC")]
    topics: Vec<String>,
    /// Remove the subscription of another client, by its token, or by its name if one subscriber
    /// alone has it. Needs the root key.
    #[arg(long, value_name = "NAME|TOKEN", conflicts_with = "topics")]
    subscriber: Option<String>,
    /// Do not ask.
    #[arg(long, short)]
    yes: bool,
    /// Print one JSON object: {"subscriber", "topics", "removed", "queued"}. `topics` are those that
    /// are received no more; `removed` says whether the whole subscription is gone, and `queued` how
    /// many events went with it.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    bus: BusOptions,
}

const AFTER_HELP: &str = "\
Events of the topics that wait already are still delivered. Without a topic the whole subscription is
removed, and the events in its queue are lost: this says how many, and asks.

Examples:
  routemaster unsubscribe orders
  routemaster unsubscribe
  routemaster unsubscribe --subscriber search --yes";

/// # Errors
/// Why it was not done, and what to do.
pub async fn run(args: UnsubscribeArgs) -> anyhow::Result<()> {
    if let Some(which) = &args.subscriber {
        return remove_another(&args, which).await;
    }
    let names = args.topics.iter().map(|name| TopicName::parse(name, TopicName::MAX));
    let topics = names.collect::<Result<Vec<_>, _>>();
    let topics = topics.map_err(UsageError::from)?;
    let bus = args.bus.connect()?;
    if topics.is_empty() {
        let Some(subscription) = own(&bus).await? else {
            bail!("{} (from {}) has no subscription", bus.user(), bus.token_from());
        };
        return remove(&bus, subscription, "/subscriber", &args).await;
    }
    for (index, topic) in topics.iter().enumerate() {
        let done = &args.topics[..index];
        unsubscribe(&bus, topic).await.with_context(|| match done {
            [] => "nothing was changed".to_owned(),
            done => format!("unsubscribed from {} only", done.join(", ")),
        })?;
    }
    let subscriber = veil(bus.user().reveal()).to_owned();
    if args.json {
        return print_json(&json!({
            "subscriber": subscriber, "topics": args.topics, "removed": false, "queued": null
        }));
    }
    Ok(print(&format!("{subscriber} is unsubscribed from {}\n", args.topics.join(", ")))?)
}

async fn unsubscribe(bus: &Bus, topic: &TopicName) -> anyhow::Result<()> {
    let answer = bus.delete(&format!("/subscriber/topics/{topic}")).await?;
    match answer.status {
        StatusCode::NO_CONTENT => Ok(()),
        StatusCode::NOT_FOUND => bail!(
            "{} (from {}) is not subscribed to `{topic}`: see `routemaster subscriptions`",
            bus.user(),
            bus.token_from()
        ),
        _ => Err(refusal(bus, &answer, None)),
    }
}

async fn remove_another(args: &UnsubscribeArgs, which: &str) -> anyhow::Result<()> {
    let bus = args.bus.connect_as(Capacity::Root)?;
    let subscription = find(monitoring::subscriptions(&bus).await?, which)?;
    let path = format!("/subscribers/{}", subscription.subscriber);
    remove(&bus, subscription, &path, args).await
}

/// The subscriber that is meant: by its token, else by a name that it has alone.
fn find(all: Vec<Subscription>, which: &str) -> anyhow::Result<Subscription> {
    let is_token = |subscription: &&Subscription| subscription.subscriber == which;
    let named = |subscription: &&Subscription| veil(&subscription.subscriber) == which;
    let subscriber = match all.iter().find(is_token) {
        Some(exact) => exact.subscriber.clone(),
        None => match all.iter().filter(named).collect::<Vec<_>>()[..] {
            [one] => one.subscriber.clone(),
            // It is not repeated: it may be a token with a slip of the pen.
            [] => bail!("there is no such subscriber: see `routemaster subscriptions`"),
            _ => bail!(
                "more than one subscriber is called `{which}`: give the token; `routemaster \
                 subscriptions --show` shows them"
            ),
        },
    };
    let mut all = all.into_iter();
    all.find(|subscription| subscription.subscriber == subscriber).context("it is gone")
}

async fn remove(
    bus: &Bus,
    subscription: Subscription,
    path: &str,
    args: &UnsubscribeArgs,
) -> anyhow::Result<()> {
    let subscription = subscription.veiled();
    let target = subscription.target();
    let Subscription { subscriber, topics, events, .. } = subscription;
    let waiting = counted(events.queued, "event that waits is", "events that wait are");
    let question =
        format!("This removes the subscription of {subscriber} to {target}: {waiting} lost.");
    confirm(&question, args.yes)?;
    let answer = bus.delete(path).await?;
    match answer.status {
        StatusCode::NO_CONTENT => {}
        StatusCode::NOT_FOUND => bail!("{subscriber} has no subscription any more"),
        _ if args.subscriber.is_some() => return Err(refusal_of_root(bus, &answer)),
        _ => return Err(refusal(bus, &answer, None)),
    }
    if args.json {
        return print_json(&json!({
            "subscriber": subscriber, "topics": topics, "removed": true, "queued": events.queued
        }));
    }
    let lost = counted(events.queued, "event", "events");
    Ok(print(&format!("removed the subscription of {subscriber}, and {lost} with it\n"))?)
}
