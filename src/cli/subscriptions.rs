//! `routemaster subscriptions`: who receives what, and how much waits for whom.

use clap::Args;

use super::connect::BusOptions;
use super::credentials::Capacity;
use super::monitoring::{self, Subscription};
use super::table::{Screen, Table, Tone, print, print_json};
use super::words::{age_in_seconds, clean};
use crate::bus::clock::Clock;
use crate::note;

#[derive(Args)]
#[command(after_help = AFTER_HELP)]
pub struct SubscriptionsArgs {
    /// Show tokens and uuids whole, as far as the bus tells them: to the root key all of them.
    #[arg(long)]
    show: bool,
    /// Print a JSON array with the fields of GET /subscriptions; uuids are null unless --show is
    /// given.
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
  routemaster subscriptions | grep widgets
  routemaster subscriptions --json | jq '.[] | select(.events.queued > 1000) | .subscriber'";

/// # Errors
/// If the bus cannot be asked, or refuses.
pub async fn run(args: SubscriptionsArgs) -> anyhow::Result<()> {
    let bus = args.bus.connect_as(Capacity::Operator)?;
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
