//! Messages: when they came, and what became of them.

use std::collections::BTreeMap;

use maud::html;
use serde::Deserialize;
use serde_json::Value;

use super::attempts::Attempt;
use super::calls::STATES;
use crate::api::console::page::{Page, PageParts, Section};
use crate::api::console::parts::{self, Table};
use crate::api::console::problem::Problem;
use crate::api::console::text;
use crate::api::console::visit::Visit;

#[derive(Deserialize)]
struct Messages {
    data: Vec<Message>,
    next: Option<u64>,
    back_to: Option<u64>,
}

/// A message, as the API tells it.
#[derive(Deserialize)]
pub struct Message {
    pub id: u64,
    pub topic: Option<String>,
    pub sender: String,
    pub received: u64,
    pub due: u64,
    pub payload: Value,
    #[serde(default)]
    pub attributes: BTreeMap<String, String>,
    pub publishers: Vec<Delivery>,
}

#[derive(Deserialize)]
pub struct Delivery {
    pub id: u64,
    pub publisher: u64,
    pub target: Option<String>,
    pub state: String,
    pub attempts: u32,
    pub processed: Option<u64>,
    pub status: Option<u16>,
    pub error: Option<String>,
    pub next_try: Option<u64>,
    #[serde(default)]
    pub journal: Vec<Attempt>,
}

pub async fn list(visit: Visit) -> Result<Page, Problem> {
    let (since, until) = (visit.asked_moment("since")?, visit.asked_moment("until")?);
    let asked =
        ["text", "topic", "publisher", "state", "after"].map(|name| (name, visit.asked(name)));
    let mut parameters: Vec<_> =
        asked.iter().map(|(name, value)| (*name, value.as_deref())).collect();
    parameters.extend([
        ("since", since.as_deref()),
        ("until", until.as_deref()),
        ("limit", Some("50")),
        ("within", Some(super::journal::WITHIN_MS)),
    ]);
    let found: Messages = visit.inside.get(&text::address("/api/messages", &parameters)).await?;
    let mut table = Table::new(
        "Messages, the newest first",
        &["Message", "Topic", "Received", "From", "Forwarded", "What it says"],
    );
    for message in &found.data {
        table.row_to(format!("/console/messages/{}", message.id), vec![
            html! { (message.id) },
            html! { (message.topic.as_deref().unwrap_or("gone")) },
            parts::moment(message.received),
            html! { (message.sender) },
            html! {
                @if message.publishers.is_empty() { span.hint { "to nobody" } }
                @for delivery in message.publishers.iter().take(6) {
                    span title=(format!("publisher {}: {} attempts", delivery.publisher, delivery.attempts)) { (parts::state(&delivery.state)) } " "
                }
                @if message.publishers.len() > 6 { "and " (message.publishers.len() - 6) " more" }
            },
            html! { code { (parts::cut(&said(&message.payload), 60)) } },
        ]);
    }
    let next = found.next.map(|next| next.to_string());
    let head = html! {
        h1 { "Messages" }
        (parts::filters("/console/messages", &html! {
            (parts::filter_line(&visit, "Text", "text", "search"))
            (parts::filter_line(&visit, "Topic", "topic", "text"))
            (parts::filter_line(&visit, "Id of a publisher", "publisher", "number"))
            (parts::filter_choice(&visit, "State", "state", &STATES))
            (parts::filter_line(&visit, "Since (UTC)", "since", "datetime-local"))
            (parts::filter_line(&visit, "Until (UTC)", "until", "datetime-local"))
        }, visit.uri.query().is_some()))
    };
    let list = html! {
        @if table.is_empty() && next.is_none() { (parts::nothing("No message matches. Messages are sent to POST /api/messages.")) }
        @else { (table) }
        (parts::older(&visit, next.as_deref(), found.back_to))
    };
    let parts = PageParts::of(Section::Messages).still(head).newest_first(&visit, list);
    Ok(visit.page("Messages", parts))
}

/// What a payload says, in one line.
pub fn said(payload: &Value) -> String {
    match payload {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}
