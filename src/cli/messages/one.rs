//! `routemaster messages show` and `routemaster messages retry`.

use clap::Args;
use serde_json::{Value, json};

use crate::bus::clock::Clock;
use crate::cli::connect::BusOptions;
use crate::cli::credentials::Capacity;
use crate::cli::refusals::refusal;
use crate::cli::table::{Screen, Table, print, print_json};
use crate::cli::words::{age, clean};

#[derive(Args)]
pub struct ShowArgs {
    /// Its number, or that of one of its deliveries.
    id: u64,
    /// Print the JSON object of GET /api/messages/:id.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    bus: BusOptions,
}

#[derive(Args)]
pub struct RetryArgs {
    /// Its number, for all publishers that do not have it; or that of one of its deliveries, for that one.
    id: u64,
    /// Print one JSON object: {"id"}.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    bus: BusOptions,
}

/// # Errors
/// If the bus cannot be asked, or knows no such message.
pub async fn show(args: ShowArgs) -> anyhow::Result<()> {
    let bus = args.bus.connect_as(Capacity::Operator)?;
    let answer = bus.get(&format!("/api/messages/{}", args.id)).await?;
    if !answer.status.is_success() {
        return Err(refusal(&bus, &answer, None));
    }
    let message = answer.json::<Value>()?["data"].clone();
    if args.json {
        return print_json(&message);
    }
    let now_ms = Clock::system().now_ms();
    let ago = |at: &Value| {
        at.as_u64()
            .map_or("-".into(), |at| format!("{} ago", age(now_ms.saturating_sub(at) as i64)))
    };
    let text = |value: &Value| clean(value.as_str().unwrap_or("-"));
    let mut table = Table::without_header(Screen::stdout());
    let due = message["due"].as_u64().filter(|due| *due > now_ms);
    for (name, value) in [
        ("id", message["id"].to_string()),
        ("topic", text(&message["topic"])),
        ("sender", text(&message["sender"])),
        ("received", ago(&message["received"])),
        ("due in", due.map_or(String::new(), |due| age((due - now_ms) as i64))),
        ("payload", clean(&message["payload"].to_string())),
        ("attributes", clean(&message["attributes"].to_string())),
    ] {
        if !value.is_empty() {
            table.row([name.to_owned(), value]);
        }
    }
    print(&table.text())?;
    for publisher in message["publishers"].as_array().into_iter().flatten() {
        let mut head = format!(
            "\n{} to publisher {} ({}): {}",
            publisher["id"],
            publisher["publisher"],
            text(&publisher["target"]),
            text(&publisher["state"]),
        );
        if let Some(next) = publisher["next_try"].as_u64() {
            head.push_str(&format!(", next in {}", age(next.saturating_sub(now_ms) as i64)));
        }
        print(&format!("{head}\n"))?;
        let attempts = publisher["journal"].as_array().cloned().unwrap_or_default();
        if attempts.is_empty() {
            continue;
        }
        let columns = ["ATTEMPT", "WHEN", "STATUS", "TOOK", "ANSWER OR ERROR"];
        let mut table = Table::new(Screen::stdout(), &columns, &[0, 1, 2, 3]);
        for attempt in attempts {
            let said = attempt["error"].as_str().or(attempt["answer"].as_str());
            table.row([
                attempt["attempt"].to_string(),
                ago(&attempt["at"]),
                attempt["status"].as_u64().map_or("-".into(), |status| status.to_string()),
                format!("{} ms", attempt["took"]),
                clean(said.unwrap_or_default()),
            ]);
        }
        print(&table.text())?;
    }
    Ok(())
}

/// # Errors
/// Why it was not done, and what to do.
pub async fn retry(args: RetryArgs) -> anyhow::Result<()> {
    let bus = args.bus.connect_as(Capacity::Operator)?;
    let path = format!("/api/messages/{}/retry", args.id);
    let answer = bus.post(&path, bytes::Bytes::new()).await?;
    if !answer.status.is_success() {
        return Err(refusal(&bus, &answer, None));
    }
    match args.json {
        true => print_json(&json!({ "id": args.id })),
        false => Ok(print(&format!("{} is forwarded at once\n", args.id))?),
    }
}
