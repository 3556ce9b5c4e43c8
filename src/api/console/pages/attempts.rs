//! Attempts as lists show them.

use maud::{Markup, html};
use serde::Deserialize;

use super::clients::LabelNames;
use crate::api::console::parts::{self, Table};
use crate::api::console::text;
use crate::api::console::visit::Visit;

/// An attempt, as the API tells it.
#[derive(Deserialize)]
pub struct Attempt {
    pub at: u64,
    pub kind: String,
    pub id: String,
    pub client: String,
    pub subscriber: Option<String>,
    pub destination: Option<String>,
    pub method: String,
    pub url: String,
    pub attempt: u32,
    pub failed: bool,
    pub status: Option<u16>,
    pub error: Option<String>,
    pub took: u64,
    pub bytes: u64,
    pub answer: String,
    pub next_try: Option<u64>,
}

impl Attempt {
    /// Its page.
    pub fn address(&self) -> String {
        let (at, attempt) = (self.at.to_string(), self.attempt.to_string());
        text::address(
            "/console/journal/attempt",
            &[
                ("kind", Some(&self.kind)),
                ("id", Some(&self.id)),
                ("attempt", Some(&attempt)),
                ("at", Some(&at)),
            ],
        )
    }

    /// Where it went.
    pub fn target(&self) -> &str {
        self.subscriber.as_deref().or(self.destination.as_deref()).unwrap_or_default()
    }

    /// The same for people.
    fn target_in_words(&self) -> String {
        self.target().replace("publisher:", "publisher ")
    }

    /// Why it failed: where there was an answer, what that said.
    fn told(&self, at_most: usize) -> Markup {
        let is_told = self.failed && self.status.is_some() && !self.answer.is_empty();
        let error = self.error.as_deref().unwrap_or_default();
        parts::cut(if is_told { &self.answer } else { error }, at_most)
    }

    /// What it was answered, or why it was not.
    pub fn outcome(&self) -> Markup {
        match self.status {
            Some(_) => html! { (parts::status(self.status)) },
            None if self.failed => html! { (parts::state("failing")) },
            None => html! { (parts::state("ok")) },
        }
    }
}

/// Attempts, with where they went.
pub fn table(visit: &Visit, attempts: &[Attempt], caption: &'static str) -> Table {
    let mut table = Table::new(
        caption,
        &["When", "Kind", "Outcome", "To", "Client", "#Try", "#Took", "What it said"],
    );
    let names = LabelNames::of(visit, attempts.iter().map(|attempt| attempt.client.as_str()));
    for attempt in attempts {
        let whole = format!("{} {}", attempt.method, attempt.url);
        table.row_to(
            attempt.address(),
            vec![
                parts::moment(attempt.at),
                html! { (attempt.kind) },
                attempt.outcome(),
                html! { span title=(whole) { (parts::cut(&attempt.target_in_words(), 48)) } },
                html! { (names.name(&attempt.client)) },
                html! { (attempt.attempt) },
                html! { (text::span(attempt.took)) },
                attempt.told(80),
            ],
        );
    }
    table
}

/// Attempts at one thing: where they went is known.
pub fn of_one(attempts: &[Attempt]) -> Table {
    let mut table =
        Table::new("Attempts", &["When", "#Try", "Outcome", "#Took", "#Sent", "What it said"]);
    for attempt in attempts {
        table.row_to(
            attempt.address(),
            vec![
                parts::moment(attempt.at),
                html! { (attempt.attempt) },
                attempt.outcome(),
                html! { (text::span(attempt.took)) },
                html! { (text::bytes(attempt.bytes)) },
                attempt.told(120),
            ],
        );
    }
    table
}
