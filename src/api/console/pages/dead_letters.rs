//! What was given up: events and calls; messages stand with the messages.

use axum::extract::Path;
use axum::http::Method;
use axum::response::Response;
use maud::html;
use serde::Deserialize;
use serde_json::Value;

use super::{calls, clients};
use crate::api::console::notice::Notice;
use crate::api::console::page::{Page, PageParts, Section};
use crate::api::console::parts::{self, Table};
use crate::api::console::problem::Problem;
use crate::api::console::text;
use crate::api::console::visit::{Sent, Visit};

#[derive(Deserialize)]
struct DeadLetters {
    dead_letters: Vec<DeadLetter>,
    next: Option<String>,
}

/// An event or a call.
#[derive(Deserialize)]
struct DeadLetter {
    id: String,
    kind: String,
    client: String,
    cause: Option<String>,
    since: Option<u64>,
    accepted: Option<u64>,
    status: Option<u16>,
    error: Option<String>,
    event: Option<Value>,
    method: Option<String>,
    url: Option<String>,
}

pub async fn list(visit: Visit) -> Result<Page, Problem> {
    let client = clients::asked(&visit).await?;
    let asked = ["kind", "destination", "after"].map(|name| (name, visit.asked(name)));
    let mut parameters: Vec<_> =
        asked.iter().map(|(name, value)| (*name, value.as_deref())).collect();
    parameters.push(("within", Some(super::journal::WITHIN_MS)));
    parameters.push(("client", client.as_ref().map(|client| client.reveal())));
    let found: DeadLetters = visit.inside.get(&text::address("/dead_letters", &parameters)).await?;
    let mut table = Table::new(
        "Dead letters",
        &["What", "Kind", "Client", "When", "Cause", "Last error", "Actions"],
    );
    for letter in &found.dead_letters {
        let id = clients::id(&visit, &letter.client).unwrap_or_default();
        let is_event = letter.kind == "event";
        let address = match is_event {
            true => format!("/console/events/{}", text::segment(&letter.id)),
            false => calls::page_of(&id, &letter.id),
        };
        let what = match &letter.event {
            Some(event) => format!(
                "{} {} {}",
                event["topic"].as_str().unwrap_or_default(),
                event["type"].as_str().unwrap_or_default(),
                event["url"].as_str().unwrap_or_default()
            ),
            None => format!(
                "{} {}",
                letter.method.as_deref().unwrap_or_default(),
                letter.url.as_deref().unwrap_or_default()
            ),
        };
        let action = match is_event {
            true => format!("/console/dead-letters/{id}/{}", text::segment(&letter.id)),
            false => address.clone(),
        };
        table.row_to(address, vec![
            parts::cut(&what, 70),
            html! { (letter.kind) },
            html! { (clients::name(&visit, &letter.client)) },
            html! { @if let Some(at) = letter.since.or(letter.accepted) { (parts::moment(at)) } },
            parts::state(letter.cause.as_deref().unwrap_or("dead")),
            html! {
                (parts::why(letter.status, letter.error.as_deref().unwrap_or_default(), 60))
            },
            html! {
                div.acts {
                    (parts::act(&visit, &format!("{action}/retry"), "Retry"))
                    (parts::confirmed(&visit, &format!("{action}/delete"), "Delete", "It is gone for good.", &html! {
                        input type="hidden" name="from" value="dead-letters";
                    }))
                }
            },
        ]);
    }
    let content = html! {
        h1 { "Dead letters" }
        p.hint {
            "Events that were skipped or refused, and calls that were given up. "
            a href="/console/messages?state=dead" { "Messages that were given up" } " stand with the messages."
        }
        (parts::filters("/console/dead-letters", &html! {
            (parts::filter_choice(&visit, "Kind", "kind", &[("", "any"), ("event", "events"), ("call", "calls")]))
            (parts::filter_line(&visit, "Destination", "destination", "text"))
            @if visit.is_root() { (parts::filter_line(&visit, "Client", "client", "text")) }
        }, visit.uri.query().is_some()))
        @if table.is_empty() && found.next.is_none() { (parts::nothing("Nothing was given up that matches.")) }
        @else { (table) }
        (parts::older(&visit, found.next.as_deref(), None))
    };
    Ok(visit.page("Dead letters", PageParts::of(Section::DeadLetters).still(content)))
}

pub async fn act(
    Path((client, position, act)): Path<(String, String, String)>,
    sent: Sent,
) -> Result<Response, Problem> {
    let visit = sent.visit;
    let client = clients::of_id(&visit, &client).await?;
    let path = format!("/dead_letters/{}", text::segment(&position));
    let (method, path, told) = match act.as_str() {
        "retry" => {
            (Method::POST, format!("{path}/retry"), "It is at the end of its subscriber's queue.")
        }
        "delete" => (Method::DELETE, path, "It is gone."),
        _ => return Err(Problem::not_found("There is no such action.")),
    };
    let address = text::address(&path, &[("client", clients::parameter(&visit, &client))]);
    let told = match visit.inside.send(method, &address, None).await {
        Ok(_) => Notice::Done(told.into()),
        Err(problem) => Notice::Failed(problem.text),
    };
    Ok(told.at("/console/dead-letters"))
}
