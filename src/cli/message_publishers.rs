//! `routemaster message-publishers`: who forwards Postoffice's messages, and where to.

use clap::{Args, Subcommand, ValueEnum};
use serde_json::{Map, Value};

use super::confirm::confirm;
use super::connect::BusOptions;
use super::credentials::Capacity;
use super::message_topics::{all, tell_made};
use super::outcome::UsageError;
use super::refusals::refusal;
use super::table::{Screen, Table, Tone, print, print_json};
use super::words::clean;
use crate::note;

#[derive(Args)]
#[command(after_help = AFTER_HELP, args_conflicts_with_subcommands = true)]
pub struct MessagePublishersArgs {
    #[command(subcommand)]
    action: Option<Action>,
    #[command(flatten)]
    list: ListArgs,
}

const AFTER_HELP: &str = "\
Examples:
  routemaster message-publishers
  routemaster message-publishers add orders https://billing.example/orders
  routemaster message-publishers add orders orders-topic --type pubsub \\
      --chunk-size 100
  routemaster message-publishers set 3 --active false
  routemaster message-publishers set 3 --active true \\
      --target https://elsewhere.example/orders
  routemaster message-publishers remove 3";

#[derive(Subcommand)]
enum Action {
    /// List the publishers
    List(ListArgs),
    /// Make a publisher
    Add(AddArgs),
    /// Change a publisher; it holds for what waits already
    Set(SetArgs),
    /// Remove a publisher; what waits for it is discarded
    Remove(RemoveArgs),
}

#[derive(Args)]
struct ListArgs {
    /// Print a JSON array with the fields of GET /api/publishers.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    bus: BusOptions,
}

#[derive(Clone, Copy, ValueEnum)]
enum Kind {
    Http,
    Pubsub,
}

/// How messages are forwarded.
#[derive(Args)]
struct Terms {
    /// Whether it forwards at all.
    #[arg(long)]
    active: Option<bool>,
    /// How long one attempt may take, in seconds.
    #[arg(long, value_name = "SECONDS")]
    timeout: Option<u64>,
    /// The first pause after a failure, in seconds.
    #[arg(long, value_name = "SECONDS")]
    retry: Option<u64>,
    /// How many messages one request to Pub/Sub has.
    #[arg(long, value_name = "N")]
    chunk_size: Option<u64>,
    /// After how many attempts a message is given up.
    #[arg(long, value_name = "N")]
    max_attempts: Option<u64>,
}

impl Terms {
    fn fields(&self) -> Map<String, Value> {
        let mut fields = Map::new();
        for (name, value) in [
            ("active", self.active.map(Value::from)),
            ("seconds_timeout", self.timeout.map(Value::from)),
            ("seconds_retry", self.retry.map(Value::from)),
            ("chunk_size", self.chunk_size.map(Value::from)),
            ("max_attempts", self.max_attempts.map(Value::from)),
        ] {
            if let Some(value) = value {
                fields.insert(name.into(), value);
            }
        }
        fields
    }
}

#[derive(Args)]
struct AddArgs {
    /// The name of the topic.
    topic: String,
    /// A URL, or the name of a topic on Google Pub/Sub.
    target: String,
    #[arg(long, value_name = "TYPE", default_value = "http")]
    r#type: Kind,
    /// Begin with what is kept of the topic, not with what comes from now on.
    #[arg(long)]
    from_beginning: bool,
    #[command(flatten)]
    terms: Terms,
    /// Print one JSON object: {"id"}.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    bus: BusOptions,
}

#[derive(Args)]
struct SetArgs {
    id: u64,
    /// A URL, or the name of a topic on Google Pub/Sub.
    #[arg(long)]
    target: Option<String>,
    #[command(flatten)]
    terms: Terms,
    /// Print the publisher as it is now, as JSON.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    bus: BusOptions,
}

#[derive(Args)]
struct RemoveArgs {
    id: u64,
    /// Do not ask.
    #[arg(long, short)]
    yes: bool,
    #[command(flatten)]
    bus: BusOptions,
}

/// # Errors
/// Why it was not done, and what to do.
pub async fn run(args: MessagePublishersArgs) -> anyhow::Result<()> {
    match args.action {
        None => list(args.list).await,
        Some(Action::List(args)) => list(args).await,
        Some(Action::Add(args)) => add(args).await,
        Some(Action::Set(args)) => set(args).await,
        Some(Action::Remove(args)) => remove(args).await,
    }
}

async fn list(args: ListArgs) -> anyhow::Result<()> {
    let bus = args.bus.connect_as(Capacity::Operator)?;
    let publishers = all(&bus, "/api/publishers").await?;
    if args.json {
        return print_json(&publishers);
    }
    if publishers.is_empty() {
        note!("there is no message publisher that this token may see; the root key sees all");
        return Ok(());
    }
    let topics = all(&bus, "/api/topics").await?;
    let columns = ["ID", "TOPIC", "TYPE", "TARGET", "ACTIVE", "TIMEOUT", "RETRY"];
    let mut table = Table::new(Screen::stdout(), &columns, &[0, 5, 6]);
    for publisher in publishers {
        let topic = topics.iter().find(|topic| topic["id"] == publisher["topic"]);
        let topic = topic.and_then(|topic| topic["name"].as_str()).unwrap_or("-");
        let is_active = publisher["active"] == true;
        let plain = |text: String| (text, Tone::Plain);
        table.coloured_row([
            plain(publisher["id"].to_string()),
            plain(clean(topic)),
            plain(clean(publisher["type"].as_str().unwrap_or_default())),
            plain(clean(publisher["target"].as_str().unwrap_or_default())),
            if is_active { plain("yes".into()) } else { ("no".into(), Tone::Doubtful) },
            plain(format!("{} s", publisher["seconds_timeout"])),
            plain(format!("{} s", publisher["seconds_retry"])),
        ]);
    }
    Ok(print(&table.text())?)
}

async fn add(args: AddArgs) -> anyhow::Result<()> {
    let bus = args.bus.connect()?;
    let mut body = args.terms.fields();
    let kind = match args.r#type {
        Kind::Http => "http",
        Kind::Pubsub => "pubsub",
    };
    body.entry("active").or_insert(true.into());
    body.insert("topic".into(), args.topic.into());
    body.insert("target".into(), args.target.into());
    body.insert("type".into(), kind.into());
    body.insert("from_now".into(), (!args.from_beginning).into());
    let answer = bus.post("/api/publishers", Value::from(body).to_string().into()).await?;
    tell_made(&bus, &answer, args.json)
}

async fn set(args: SetArgs) -> anyhow::Result<()> {
    let mut body = args.terms.fields();
    body.extend(args.target.map(|target| ("target".to_owned(), Value::from(target))));
    if body.is_empty() {
        return Err(UsageError::new("nothing is to be changed: see --help").into());
    }
    let bus = args.bus.connect_as(Capacity::Operator)?;
    let path = format!("/api/publishers/{}", args.id);
    let answer = bus.patch(&path, Value::from(body).to_string().into()).await?;
    if !answer.status.is_success() {
        return Err(refusal(&bus, &answer, None));
    }
    match args.json {
        true => print_json(&answer.json::<Value>()?["data"]),
        false => Ok(print(&format!("changed the message publisher {}\n", args.id))?),
    }
}

async fn remove(args: RemoveArgs) -> anyhow::Result<()> {
    let bus = args.bus.connect_as(Capacity::Operator)?;
    let question =
        format!("This removes the message publisher {}, and what waits for it.", args.id);
    confirm(&question, args.yes)?;
    let answer = bus.delete(&format!("/api/publishers/{}", args.id)).await?;
    if !answer.status.is_success() {
        return Err(refusal(&bus, &answer, None));
    }
    Ok(print(&format!("removed the message publisher {}\n", args.id))?)
}
