//! `routemaster token`: the holder of the root key gives clients their tokens and takes them back.

use std::path::PathBuf;

use anyhow::bail;
use clap::{Args, Subcommand};
use reqwest::StatusCode;
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::confirm::confirm;
use super::connect::{Bus, BusOptions};
use super::credentials::Capacity;
use super::monitoring;
use super::outcome::UsageError;
use super::refusals::refusal_of_root;
use super::secret;
use super::table::{Screen, Table, print, print_json};
use super::words::counted;
use crate::bus::token::{ClientToken, ServiceName};
use crate::note;

#[derive(Args)]
#[command(after_help = AFTER_HELP)]
pub struct TokenArgs {
    #[command(subcommand)]
    action: Action,
}

const AFTER_HELP: &str = "\
These need the root key of the bus: ROUTEMASTER_ROOT_KEY, in the environment or in .env, or --token.
Tokens of ROUTEMASTER_CLIENTS are listed too, but come and go with that setting alone.

Examples:
  routemaster token add billing        prints the new token, and nothing else
  routemaster token list
  routemaster token remove billing     by name, if there is one of that name
  routemaster token add billing --json | jq -r .token";

const ADD_HELP: &str = "\
Makes a token NAME--<32 hex digits>, which the client sends as the user name of HTTP Basic, and prints
it alone on standard output. The name is no secret: logs and metrics show it.
Needs the root key: ROUTEMASTER_ROOT_KEY, in the environment or in .env, or --token.

Examples:
  routemaster token add billing
  TOKEN=$(routemaster token add billing)
  pass billing/token | routemaster token add billing --value-file -";

const LIST_HELP: &str = "\
Lists names, and of the tokens only what is no secret, so that they do not stay on a screen.
Needs the root key: ROUTEMASTER_ROOT_KEY, in the environment or in .env, or --token.

Examples:
  routemaster token list
  routemaster token list --show
  routemaster token list --json | jq -r '.[].name'";

const REMOVE_HELP: &str = "\
Nobody is let in with the token any more, within a second. Its subscription is removed, and with it
what waits in its queue, unless --keep is given; its topics stay: `routemaster topics delete` removes
them.
Needs the root key: ROUTEMASTER_ROOT_KEY, in the environment or in .env, or --token.

Examples:
  routemaster token remove billing
  routemaster token remove billing--61c11a43d42b8635665c55321ace9cc2";

#[derive(Subcommand)]
enum Action {
    /// Make a token for a client, and print it
    Add(AddArgs),
    /// List all tokens, those of ROUTEMASTER_CLIENTS included
    List(ListArgs),
    /// Remove a token and its subscription: within a second nobody is let in with it
    Remove(RemoveArgs),
}

#[derive(Args)]
#[command(after_help = ADD_HELP)]
struct AddArgs {
    /// The client's name: up to 30 of a-z, 0-9, colon, underscore and hyphen; up to 64 if the token is
    /// given.
    name: String,
    /// Take this token instead of making one. What stands here is seen by everybody on this
    /// machine: better use --value-file.
    #[arg(long, value_name = "TOKEN", conflicts_with = "value_file")]
    value: Option<String>,
    /// Take the token from the first line of a file, or of standard input (-).
    #[arg(long, value_name = "FILE")]
    value_file: Option<PathBuf>,
    /// Print one JSON object: {"name", "token"}.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    bus: BusOptions,
}

#[derive(Args)]
#[command(after_help = LIST_HELP)]
struct ListArgs {
    /// Show the tokens whole.
    #[arg(long)]
    show: bool,
    /// Print a JSON array of {"name", "token"}; the token is null unless --show is given.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    bus: BusOptions,
}

#[derive(Args)]
#[command(after_help = REMOVE_HELP)]
struct RemoveArgs {
    /// The name, if one token alone has it, or the token.
    #[arg(value_name = "NAME|TOKEN")]
    which: String,
    /// Let its subscription stay, and go on being delivered to.
    #[arg(long)]
    keep: bool,
    /// Do not ask.
    #[arg(long, short)]
    yes: bool,
    /// Print one JSON object: {"name", "removed"}.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    bus: BusOptions,
}

/// A row of `GET /api_tokens`.
#[derive(Deserialize, Serialize)]
struct Row {
    name: String,
    token: String,
}

impl Row {
    /// What may be shown of the token.
    fn label(&self) -> String {
        ClientToken::parse(&self.token).map_or("…".into(), |token| token.label())
    }
}

/// # Errors
/// Why it was not done, and what to do.
pub async fn run(args: TokenArgs) -> anyhow::Result<()> {
    match args.action {
        Action::Add(args) => add(args).await,
        Action::List(args) => list(args).await,
        Action::Remove(args) => remove(args).await,
    }
}

async fn add(args: AddArgs) -> anyhow::Result<()> {
    let name =
        ServiceName::parse(&args.name).map_err(|error| UsageError::new(error.to_string()))?;
    let value = match (args.value, &args.value_file) {
        (Some(value), _) => Some(value),
        (None, Some(file)) => Some(secret::read(file)?),
        (None, None) => None,
    };
    if let Some(value) = &value {
        ClientToken::parse(value).map_err(|error| UsageError::new(error.to_string()))?;
    }
    let bus = args.bus.connect_as(Capacity::Root)?;
    let mut body = json!({ "name": name.as_str() });
    if let Some(value) = value {
        body["token"] = value.into();
    }
    let answer = bus.post("/api_tokens", body.to_string().into()).await?;
    if answer.status != StatusCode::CREATED {
        return Err(refusal_of_root(&bus, &answer));
    }
    let row: Row = answer.json()?;
    if args.json {
        return print_json(&row);
    }
    print(&format!("{}\n", row.token))?;
    note!("`{}` may use this token from now on; it is a password", row.name);
    Ok(())
}

async fn list(args: ListArgs) -> anyhow::Result<()> {
    let bus = args.bus.connect_as(Capacity::Root)?;
    let rows = rows(&bus).await?;
    if args.json {
        let shown = |row: Row| {
            let token = args.show.then_some(row.token);
            json!({ "name": row.name, "token": token })
        };
        return print_json(&rows.into_iter().map(shown).collect::<Vec<_>>());
    }
    if rows.is_empty() {
        note!("there is no token: `routemaster token add` makes one");
        return Ok(());
    }
    let mut table = Table::new(Screen::stdout(), &["NAME", "TOKEN"], &[]);
    for row in rows {
        let token = if args.show { row.token.clone() } else { hidden(&row) };
        table.row([row.name, token]);
    }
    Ok(print(&table.text())?)
}

/// The token without what is secret of it.
fn hidden(row: &Row) -> String {
    let label = row.label();
    if label.ends_with('…') { label } else { format!("{label}--…") }
}

async fn remove(args: RemoveArgs) -> anyhow::Result<()> {
    let bus = args.bus.connect_as(Capacity::Root)?;
    let row = find(rows(&bus).await?, &args.which)?;
    if !args.keep {
        confirm_loss(&bus, &row, args.yes).await?;
    }
    let answer = bus.delete(&format!("/api_tokens/{}?keep={}", row.token, args.keep)).await?;
    if !answer.status.is_success() {
        return Err(refusal_of_root(&bus, &answer));
    }
    if args.json {
        return print_json(&json!({ "name": row.name, "removed": true }));
    }
    Ok(print(&format!("removed the token of `{}`\n", row.name))?)
}

/// Asks before the events are lost that wait for the token's holder.
async fn confirm_loss(bus: &Bus, row: &Row, yes: bool) -> anyhow::Result<()> {
    let mut all = monitoring::subscriptions(bus).await?.into_iter();
    let own = all.find(|subscription| subscription.subscriber == row.token);
    let Some(waiting) = own.map(|own| own.events.queued).filter(|queued| *queued > 0) else {
        return Ok(());
    };
    let waiting = counted(waiting, "event that waits is", "events that wait are");
    let what = format!("`{}` has a subscription: it is removed, and {waiting} lost.", row.name);
    confirm(&what, yes)
}

/// The token that is meant: by itself, else by a name that it has alone.
fn find(rows: Vec<Row>, which: &str) -> anyhow::Result<Row> {
    let is_token = |row: &Row| row.token == which;
    if rows.iter().any(is_token) {
        return rows.into_iter().find(is_token).ok_or_else(|| anyhow::anyhow!("it is gone"));
    }
    let mut named: Vec<_> = rows.into_iter().filter(|row| row.name == which).collect();
    match (named.pop(), named.len()) {
        (Some(row), 0) => Ok(row),
        (Some(_), others) => bail!(
            "{} have the name `{which}`: give the token itself; `routemaster token list --show` \
             shows them",
            counted(others as u64 + 1, "token", "tokens")
        ),
        // It is not repeated: it may be a token with a slip of the pen.
        (None, _) => bail!(
            "there is no such token, neither by name nor by itself: see `routemaster token list`; \
             tokens of ROUTEMASTER_CLIENTS are removed from that setting"
        ),
    }
}

async fn rows(bus: &Bus) -> anyhow::Result<Vec<Row>> {
    let answer = bus.get("/api_tokens").await?;
    match answer.status {
        StatusCode::NO_CONTENT => Ok(vec![]),
        StatusCode::OK => Ok(answer.json()?),
        _ => Err(refusal_of_root(bus, &answer)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(name: &str, token: &str) -> Row {
        Row { name: name.into(), token: token.into() }
    }

    #[test]
    fn a_token_is_found_by_itself_and_by_a_name_that_it_has_alone() {
        let rows = || vec![row("a", "a--1"), row("b", "b--1"), row("b", "b--2"), row("c", "a")];
        let found = |which: &str| find(rows(), which).map(|row| row.token).ok();
        assert_eq!(found("b--2").as_deref(), Some("b--2"));
        assert_eq!(found("c").as_deref(), Some("a"));
        assert_eq!(found("a").as_deref(), Some("a"), "the token wins over the name");
        assert_eq!((found("b"), found("d")), (None, None));
    }

    #[test]
    fn what_is_shown_of_a_token_is_no_secret() {
        assert_eq!(hidden(&row("a", "a--0123456789")), "a--…");
        assert_eq!(hidden(&row("a", "hunter2")), "hun…");
    }
}
