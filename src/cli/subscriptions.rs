//! `routemaster subscriptions`: who receives what, and how much waits for whom.

use clap::Args;
use serde_json::Value;

use super::connect::{Bus, BusOptions};
use super::credentials::Capacity;
use super::monitoring::{self, Subscription, veil};
use super::subscriber::WhichSubscriber;
use super::table::{Screen, Table, Tone, print, print_json};
use super::words::{age, age_in_seconds, clean, counted};
use crate::bus::clock::Clock;
use crate::note;

#[derive(Args)]
#[command(after_help = AFTER_HELP)]
pub struct SubscriptionsArgs {
    /// Show how this one does: its name, or its token if several have that name.
    #[arg(value_name = "SUBSCRIBER")]
    subscriber: Option<String>,
    /// Show tokens and uuids whole, as far as the bus tells them: to the root key all of them.
    #[arg(long)]
    show: bool,
    /// Print a JSON array with the fields of GET /subscriptions; uuids are null unless --show is
    /// given. With a SUBSCRIBER the JSON object of GET /subscriptions/:subscriber.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    bus: BusOptions,
}

const AFTER_HELP: &str = "\
QUEUED is how many events wait, OLDEST for how long the first of them has; SENT is how many were ever
acknowledged. DROPPED is how many never will be: because the store ran out of room (autodrop), or
because the subscriber asked for it (retention, max_queued).

Examples:
  routemaster subscriptions
  routemaster subscriptions shop              how it does, and what is wrong
  routemaster subscriptions | grep widgets
  routemaster subscriptions --json | jq '.[] | select(.events.queued > 1000)'";

/// # Errors
/// If the bus cannot be asked, or refuses.
pub async fn run(args: SubscriptionsArgs) -> anyhow::Result<()> {
    let bus = args.bus.connect_as(Capacity::Operator)?;
    if args.subscriber.is_some() {
        return show(&bus, args).await;
    }
    let all = monitoring::subscriptions(&bus).await?.into_iter();
    let all: Vec<_> = all.map(|s| if args.show { s } else { s.veiled() }).collect();
    if args.json {
        return print_json(&all);
    }
    if all.is_empty() {
        note!("nobody is subscribed: see `routemaster subscribe --help`");
        return Ok(());
    }
    let mut columns =
        vec!["SUBSCRIBER", "QUEUED", "OLDEST", "SENT", "DROPPED", "CALLBACK", "TOPICS"];
    if args.show {
        columns.push("UUID");
    }
    let mut table = Table::new(Screen::stdout(), &columns, &[1, 2, 3, 4]);
    let now_ms = Clock::system().now_ms();
    for subscription in all {
        let uuid = args.show.then(|| clean(subscription.uuid.as_deref().unwrap_or("-")));
        let uuid = uuid.map(|uuid| (uuid, Tone::Plain));
        table.coloured_row(row(&subscription, now_ms).into_iter().chain(uuid));
    }
    Ok(print(&table.text())?)
}

async fn show(bus: &Bus, args: SubscriptionsArgs) -> anyhow::Result<()> {
    let subscriber = WhichSubscriber::named(args.subscriber).of(bus)?;
    let mut status = subscriber.get(bus, "").await?;
    if !args.show {
        status["subscriber"] = veil(status["subscriber"].as_str().unwrap_or_default()).into();
        status["uuid"] = Value::Null;
        if let Some(secrets) = status.get_mut("secret").and_then(Value::as_array_mut) {
            secrets.iter_mut().for_each(|secret| *secret = "whsec_…".into());
        }
    }
    if args.json {
        return print_json(&status);
    }
    Ok(print(&shown(&status, Clock::system().now_ms()))?)
}

/// How a subscription does, a line each, for people.
fn shown(status: &Value, now_ms: u64) -> String {
    let mut table = Table::without_header(Screen::stdout());
    let mut line = |name: &str, value: String| {
        if !value.is_empty() {
            table.row([name.to_owned(), clean(&value)]);
        }
    };
    let text = |field: &Value| field.as_str().unwrap_or_default().to_owned();
    let number = |field: &Value| field.as_u64().unwrap_or(0);
    let ago = |ms: u64| format!("{} ago", age(now_ms.saturating_sub(ms) as i64));
    line("subscriber", text(&status["subscriber"]));
    line("callback", text(&status["callback"]));
    line("pubsub", text(&status["pubsub"]));
    let topics = status["topics"].as_array().into_iter().flatten().filter_map(Value::as_str);
    line("topics", topics.collect::<Vec<_>>().join(", "));
    line("state", text(&status["status"]));
    let paused = &status["paused"];
    if !paused.is_null() {
        line("paused", format!("{}: {}", ago(number(&paused["since"])), text(&paused["reason"])));
    }
    line("health", format!("{} of 100", number(&status["health"])));
    let queued = counted(number(&status["events"]["queued"]), "event", "events");
    line(
        "waiting",
        match number(&status["lag"]) {
            0 => queued,
            lag => format!("{queued}, the oldest for {}", age(lag as i64)),
        },
    );
    line("sent", counted(number(&status["events"]["sent"]), "event", "events"));
    let batch = &status["batch"];
    if !batch.is_null() {
        let events = counted(number(&batch["events"]), "event", "events");
        let attempts = counted(number(&batch["attempts"]), "attempt", "attempts");
        line("batch", format!("{}, {events}, {attempts}", text(&batch["id"])));
    }
    let error = &status["last_error"];
    if !error.is_null() {
        line(
            "last error",
            format!("{}: {}", ago(number(&error["at"]) * 1000), text(&error["reason"])),
        );
    }
    if let Some(next) = status["next_try"].as_u64() {
        line(
            "next try",
            match next > now_ms {
                true => format!("in {}", age((next - now_ms) as i64)),
                false => "now".into(),
            },
        );
    }
    for secret in status["secret"].as_array().into_iter().flatten() {
        line("signed with", text(secret));
    }
    line("format", text(&status["format"]));
    if let Some(parallel) = status["parallel"].as_u64() {
        let batches = counted(parallel, "batch", "batches");
        line("order", format!("of each entity, up to {batches} at once"));
    }
    if let Some(attempts) = status["on_refusal"]["attempts"].as_u64() {
        line(
            "on refusal",
            format!("after {attempts} attempts the event is looked for that is refused"),
        );
    }
    table.text()
}

fn row(subscription: &Subscription, now_ms: u64) -> [(String, Tone); 7] {
    let events = &subscription.events;
    let dropped = events.autodropped + events.expired;
    let noted = |tone: Tone, is_so: bool| if is_so { tone } else { Tone::Plain };
    let oldest = oldest(events.oldest, now_ms);
    let topics = match subscription.topics.join(", ") {
        topics if topics.is_empty() => "-".to_owned(),
        topics => topics,
    };
    [
        (subscription.subscriber.clone(), Tone::Plain),
        (events.queued.to_string(), Tone::Plain),
        (oldest, Tone::Plain),
        (events.sent.to_string(), Tone::Plain),
        (dropped.to_string(), noted(Tone::Doubtful, events.autodropped > 0)),
        (clean(&subscription.target()), Tone::Plain),
        (topics, Tone::Plain),
    ]
}

/// For how long the oldest event has waited. The bus tells whole seconds, and its clock may be a
/// little ahead.
fn oldest(oldest_s: Option<u64>, now_ms: u64) -> String {
    let Some(oldest_s) = oldest_s else { return "-".into() };
    age_in_seconds((now_ms / 1000).saturating_sub(oldest_s))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_empty_queue_has_no_oldest_event_and_none_is_from_the_future() {
        assert_eq!(oldest(None, 5_000), "-");
        assert_eq!(oldest(Some(6), 5_000), "0 s");
        assert_eq!(oldest(Some(1), 200_000), "3 min");
    }
}
