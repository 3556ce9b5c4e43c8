//! One event, and what became of it.

use axum::extract::Path;
use maud::html;
use serde::Deserialize;
use serde_json::Value;

use super::clients;
use crate::api::console::page::{Page, PageParts, Section};
use crate::api::console::parts::{self, Table};
use crate::api::console::problem::Problem;
use crate::api::console::text;
use crate::api::console::visit::Visit;

#[derive(Deserialize)]
struct Trace {
    topic: String,
    at: u64,
    event: Option<Value>,
    subscribers: Vec<Subscriber>,
}

#[derive(Deserialize)]
struct Subscriber {
    subscriber: String,
    fate: String,
    attempts: Vec<Attempt>,
}

#[derive(Deserialize)]
struct Attempt {
    at: u64,
    attempt: u32,
    batch: String,
    failed: bool,
    status: Option<u16>,
    error: Option<String>,
}

pub async fn show(Path(position): Path<String>, visit: Visit) -> Result<Page, Problem> {
    let trace: Trace = visit.inside.get(&format!("/events/{}", text::segment(&position))).await?;
    let mut fates = Table::new(
        "What became of it",
        &["Subscriber", "Fate", "#Attempts", "Last attempt", "Why"],
    );
    for subscriber in &trace.subscribers {
        let last = subscriber.attempts.last();
        fates.row(vec![
            html! { (clients::name(&visit, &subscriber.subscriber)) },
            parts::state(match subscriber.fate.as_str() {
                "dead_letter" => "dead",
                "delivered" => "done",
                "batch" => "delivering",
                other => other,
            }),
            html! { (subscriber.attempts.len()) },
            html! {
                @if let Some(last) = last {
                    span title=(format!("attempt {} at batch {}", last.attempt, last.batch)) {
                        (parts::moment(last.at)) " "
                        @if last.status.is_some() || last.failed { (parts::status(last.status)) }
                    }
                }
            },
            html! { (last.and_then(|last| last.error.clone()).unwrap_or_default()) },
        ]);
    }
    let content = html! {
        h1 { "Event " (position) }
        (parts::facts(&[
            ("Topic", html! { (trace.topic) }),
            ("Published", parts::moment(trace.at)),
        ]))
        @if let Some(event) = &trace.event { (parts::block(&parts::pretty(&event.to_string()))) }
        h2 { "What became of it" }
        @if fates.is_empty() { (parts::nothing("Nobody was subscribed, or nothing is known any more.")) }
        @else { (fates) }
    };
    Ok(visit.page(format!("Event {position}"), PageParts::of(Section::Topics).still(content)))
}
