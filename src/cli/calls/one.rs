//! `routemaster calls show` and `routemaster calls cancel`.

use anyhow::bail;
use clap::Args;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use reqwest::StatusCode;
use serde_json::{Value, json};

use crate::bus::clock::Clock;
use crate::cli::connect::{Answer, Bus, BusOptions};
use crate::cli::credentials::Capacity;
use crate::cli::refusals::refusal;
use crate::cli::table::{Screen, Table, print, print_json};
use crate::cli::words::{age, clean};

/// Which call is meant.
#[derive(Args, Clone)]
pub struct Which {
    /// Its id.
    id: String,
    /// Whose it is: a token, or calls-key, open or root; needs the root key.
    #[arg(long, value_name = "TOKEN")]
    client: Option<String>,
}

#[derive(Args)]
pub struct ShowArgs {
    #[command(flatten)]
    which: Which,
    /// Print the JSON object of GET /calls/:id.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    bus: BusOptions,
}

#[derive(Args)]
pub struct CancelArgs {
    #[command(flatten)]
    which: Which,
    /// Print one JSON object: {"id", "cancelled"}; cancelled is `gone` or `on its way`.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    bus: BusOptions,
}

impl Which {
    pub fn new(id: String, client: Option<String>) -> Self {
        Self { id, client }
    }

    /// Its path, and whose it is.
    pub fn path(&self, action: &str) -> String {
        let encode = |text: &str| utf8_percent_encode(text, NON_ALPHANUMERIC).to_string();
        let client = self.client.as_deref().map(|client| format!("?client={}", encode(client)));
        format!("/calls/{}{action}{}", encode(&self.id), client.unwrap_or_default())
    }

    pub fn id(&self) -> &str {
        &self.id
    }

    /// The error for an answer that is no success.
    pub fn refusal(&self, bus: &Bus, answer: &Answer) -> anyhow::Error {
        match answer.status {
            StatusCode::NOT_FOUND => {
                anyhow::anyhow!("no call {}: {}", self.id, answer.reason())
            }
            StatusCode::CONFLICT => anyhow::anyhow!("{}: {}", self.id, answer.reason()),
            _ => refusal(bus, answer, None),
        }
    }
}

/// # Errors
/// If the bus cannot be asked, or knows no such call.
pub async fn show(args: ShowArgs) -> anyhow::Result<()> {
    let bus = args.bus.connect_as(Capacity::Operator)?;
    let answer = bus.get(&args.which.path("")).await?;
    if !answer.status.is_success() {
        return Err(args.which.refusal(&bus, &answer));
    }
    let call: Value = answer.json()?;
    if args.json {
        return print_json(&call);
    }
    let text = |name: &str| clean(call[name].as_str().unwrap_or_default());
    let now_ms = Clock::system().now_ms();
    let ago = |at: &Value| {
        at.as_u64()
            .map_or("-".into(), |at| format!("{} ago", age(now_ms.saturating_sub(at) as i64)))
    };
    let mut table = Table::without_header(Screen::stdout());
    let mut line = |name: &str, value: String| {
        if !value.is_empty() {
            table.row([name.to_owned(), value]);
        }
    };
    line("id", text("id"));
    line("client", text("client"));
    line("call", format!("{} {}", text("method"), text("url")));
    line("state", text("state"));
    line("accepted", ago(&call["accepted"]));
    let due = call["due"].as_u64().map(|due| age(due.saturating_sub(now_ms) as i64));
    line("next try in", due.unwrap_or_default());
    line("error", text("error"));
    let headers = call["request"]["headers"].as_object().into_iter().flatten();
    for (name, value) in headers {
        line("header", clean(&format!("{name}: {}", value.as_str().unwrap_or_default())));
    }
    line("body", clean(call["request"]["body"].as_str().unwrap_or_default()));
    print(&table.text())?;
    let history = call["history"].as_array().cloned().unwrap_or_default();
    if !history.is_empty() {
        let mut table = Table::new(
            Screen::stdout(),
            &["ATTEMPT", "WHEN", "STATUS", "TOOK", "ANSWER OR ERROR"],
            &[0, 1, 2, 3],
        );
        for attempt in history {
            let said = attempt["error"].as_str().or(attempt["answer"].as_str());
            table.row([
                attempt["attempt"].to_string(),
                ago(&attempt["at"]),
                attempt["status"].as_u64().map_or("-".into(), |status| status.to_string()),
                format!("{} ms", attempt["took"]),
                clean(said.unwrap_or_default()),
            ]);
        }
        print(&format!("\n{}", table.text()))?;
    }
    Ok(())
}

/// # Errors
/// Why it was not done, and what to do.
pub async fn cancel(args: CancelArgs) -> anyhow::Result<()> {
    let bus = args.bus.connect_as(Capacity::Operator)?;
    let answer = bus.delete(&args.which.path("")).await?;
    let cancelled = match answer.status {
        StatusCode::NO_CONTENT => "gone",
        StatusCode::ACCEPTED => "on its way",
        status if status.is_success() => bail!("{} answered {status}: is it a bus?", bus.url()),
        _ => return Err(args.which.refusal(&bus, &answer)),
    };
    let id = args.which.id();
    if args.json {
        return print_json(&json!({ "id": id, "cancelled": cancelled }));
    }
    Ok(print(&match cancelled {
        "gone" => format!("{id} is never made again\n"),
        _ => format!("{id} is on its way, and is not repeated\n"),
    })?)
}
