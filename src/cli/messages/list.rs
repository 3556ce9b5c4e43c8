//! `routemaster messages list`.

use clap::{Args, ValueEnum};
use serde_json::Value;

use crate::bus::clock::Clock;
use crate::cli::connect::BusOptions;
use crate::cli::credentials::Capacity;
use crate::cli::pages;
use crate::cli::table::{Screen, Table, Tone, print, print_json};
use crate::cli::words::{age, clean, moment};
use crate::note;

/// How many are asked for at once.
const PAGE: usize = 200;
/// How much of a payload is shown, in characters.
const SHOWN: usize = 60;

/// Which messages are meant.
#[derive(Args, Clone)]
pub struct Filter {
    /// Those of this topic, by its name or id.
    #[arg(long)]
    topic: Option<String>,
    /// Those that this publisher forwards, by its id.
    #[arg(long, value_name = "ID")]
    publisher: Option<u64>,
    /// Those in this state with a publisher.
    #[arg(long)]
    state: Option<State>,
    /// Those with this text in payload or attributes.
    #[arg(long)]
    text: Option<String>,
    /// Received then or later: milliseconds since 1970, or how long ago, such as 30m, 12h or 7d.
    #[arg(long, value_name = "TIME", value_parser = moment)]
    since: Option<u64>,
    /// Received before then.
    #[arg(long, value_name = "TIME", value_parser = moment)]
    until: Option<u64>,
}

#[derive(Clone, Copy, ValueEnum)]
pub enum State {
    /// Not tried yet.
    Waiting,
    /// On its way.
    Sending,
    /// Tried, and to be tried again.
    Failing,
    /// Given up.
    Dead,
    /// Forwarded.
    Done,
}

impl Filter {
    /// Whether it says anything.
    pub fn is_empty(&self) -> bool {
        self.query(&[]).is_empty()
    }

    /// Until when messages are meant, if it says so.
    pub fn until(&self) -> Option<u64> {
        self.until
    }

    /// As a query, with more.
    pub fn query(&self, more: &pages::More) -> String {
        let state = self.state.and_then(|state| state.to_possible_value());
        let own = [
            ("topic", self.topic.clone()),
            ("publisher", self.publisher.map(|id| id.to_string())),
            ("state", state.map(|state| state.get_name().to_owned())),
            ("text", self.text.clone()),
            ("since", self.since.map(|ms| ms.to_string())),
            ("until", self.until.map(|ms| ms.to_string())),
        ];
        pages::query(own, more)
    }
}

#[derive(Args)]
#[command(after_help = AFTER_HELP)]
pub struct ListArgs {
    #[command(flatten)]
    filter: Filter,
    /// How many at most; 0 for all.
    #[arg(long, default_value_t = 50)]
    limit: usize,
    /// Print a JSON array with the fields of GET /api/messages.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    bus: BusOptions,
}

const AFTER_HELP: &str = "\
STATE says how it stands with each publisher: waiting, sending, failing (it is tried again), dead (given
up) or done.

Examples:
  routemaster messages list --state failing
  routemaster messages list --topic orders --json --limit 0 | jq '.[].payload'";

/// # Errors
/// If the bus cannot be asked, or refuses.
pub async fn run(args: ListArgs) -> anyhow::Result<()> {
    let bus = args.bus.connect_as(Capacity::Operator)?;
    let path = |more: &pages::More| format!("/api/messages?{}", args.filter.query(more));
    let (messages, has_more) = pages::rows::<Value>(&bus, args.limit, PAGE, path).await?;
    if args.json {
        return print_json(&messages);
    }
    if messages.is_empty() {
        note!("there is no such message that this token may see; the root key sees all");
        return Ok(());
    }
    let columns = ["ID", "TOPIC", "AGE", "STATE", "PAYLOAD", "ERROR"];
    let mut table = Table::new(Screen::stdout(), &columns, &[2]);
    let now_ms = Clock::system().now_ms();
    for message in &messages {
        table.coloured_row(cells(message, now_ms));
    }
    print(&table.text())?;
    if has_more {
        note!("there are more: see --limit");
    }
    Ok(())
}

fn cells(message: &Value, now_ms: u64) -> [(String, Tone); 6] {
    let publishers = message["publishers"].as_array().cloned().unwrap_or_default();
    let states: Vec<&str> = publishers.iter().filter_map(|one| one["state"].as_str()).collect();
    let tone = match () {
        () if states.contains(&"dead") => Tone::Bad,
        () if states.contains(&"failing") => Tone::Doubtful,
        () if !states.is_empty() && states.iter().all(|state| *state == "done") => Tone::Good,
        () => Tone::Plain,
    };
    let state = if states.is_empty() { "-".to_owned() } else { states.join(", ") };
    let error = publishers.iter().find_map(|one| one["error"].as_str()).unwrap_or("-");
    let payload: String = message["payload"].to_string().chars().take(SHOWN).collect();
    let received = message["received"].as_u64().unwrap_or(now_ms);
    let plain = |text: String| (text, Tone::Plain);
    [
        plain(message["id"].to_string()),
        plain(clean(message["topic"].as_str().unwrap_or("-"))),
        plain(age(now_ms.saturating_sub(received) as i64)),
        (clean(&state), tone),
        plain(clean(&payload)),
        plain(clean(error)),
    ]
}
