//! One call: what is sent, and each attempt.

use std::collections::BTreeMap;

use axum::extract::Path;
use axum::http::Method;
use axum::response::Response;
use maud::html;
use serde::Deserialize;

use super::attempts::{self, Attempt};
use super::calls::{Call, page_of};
use super::clients;
use crate::api::console::notice::Notice;
use crate::api::console::page::{Page, PageParts, Section};
use crate::api::console::parts;
use crate::api::console::problem::Problem;
use crate::api::console::text;
use crate::api::console::visit::{Sent, Visit};

/// A call with what is sent, and each attempt.
#[derive(Deserialize)]
struct Whole {
    #[serde(flatten)]
    call: Call,
    request: Option<Request>,
    #[serde(default)]
    history: Vec<Attempt>,
}

#[derive(Deserialize)]
struct Request {
    headers: BTreeMap<String, String>,
    body: String,
    #[serde(default)]
    cut: bool,
    requeue: bool,
    max_attempts: Option<u32>,
    give_up_after: Option<u64>,
    timeout: Option<u64>,
}

pub async fn show(
    Path((client_id, id)): Path<(String, String)>,
    visit: Visit,
) -> Result<Page, Problem> {
    let client = clients::of_id(&visit, &client_id).await?;
    let path = format!("/calls/{}", text::segment(&id));
    let Whole { call, request, history }: Whole = visit
        .inside
        .get(&text::address(&path, &[("client", clients::parameter(&visit, &client))]))
        .await?;
    let action = page_of(&client_id, &id);
    let state = html! {
        h1 { "Call " (call.id) " " (parts::state(&call.state)) }
        @if let Some(error) = &call.error {
            p.notice.failed { (parts::answer(call.status, error)) }
        }
        (parts::facts(&[
            ("Client", html! { (clients::name(&visit, &call.client)) }),
            ("Kind", html! { (call.kind) }),
            ("Accepted", parts::moment(call.accepted)),
            ("Attempts", html! { (call.attempts) }),
            ("Next try", match call.due { Some(due) => parts::from_now(due), None => html! { "none" } }),
            ("Destination", html! {
                a href=(text::address("/console/calls", &[("destination", Some(&call.destination))])) { (call.destination) }
            }),
        ]))
    };
    let acts = html! {
        div.acts {
            @if call.state != "done" {
                (parts::act(&visit, &format!("{action}/retry"), "Retry now"))
                (parts::confirmed(&visit, &format!("{action}/delete"), "Delete", "It is never made again.", &html! {}))
            }
        }
    };
    let request = request.as_ref();
    let sent = html! {
        h2 { "Request" }
        p { code { (call.method) " " (call.url) } }
        @if let Some(request) = request {
            (parts::facts(&[
                ("When it fails", html! { @if request.requeue { "it is made again" } @else { "it is given up" } }),
                ("At most", match request.max_attempts {
                    Some(attempts) => html! { (attempts) " attempts" },
                    None => html! { "as the settings say" },
                }),
                ("Given up after", match request.give_up_after {
                    Some(ms) => html! { (text::span(ms)) },
                    None => html! { "as the settings say" },
                }),
                ("An attempt may take", match request.timeout {
                    Some(ms) => html! { (text::span(ms)) },
                    None => html! { "as the settings say" },
                }),
            ]))
            @if !request.headers.is_empty() {
                (parts::facts(&request.headers.iter().map(|(name, value)| (name.as_str(), parts::exact(value))).collect::<Vec<_>>()))
            }
            @if request.body.is_empty() { (parts::nothing("No body.")) }
            @else if request.cut {
                p.hint { "Its beginning:" }
                (parts::block(&request.body))
            } @else { (parts::block(&parts::pretty(&request.body))) }
        }
    };
    let attempts = html! {
        h2 { "Attempts" }
        @if history.is_empty() { (parts::nothing("No attempt yet, or the journal has forgotten them.")) }
        @else { (attempts::of_one(&history)) }
    };
    let parts = PageParts::of(Section::Calls)
        .live("state", state)
        .still(acts)
        .live("history", attempts)
        .still(sent);
    Ok(visit.page(format!("Call {id}"), parts))
}

pub async fn act(
    Path((client_id, id, act)): Path<(String, String, String)>,
    sent: Sent,
) -> Result<Response, Problem> {
    let Sent { visit, fields } = sent;
    let client = clients::of_id(&visit, &client_id).await?;
    let path = format!("/calls/{}", text::segment(&id));
    let (method, path, told) = match act.as_str() {
        "retry" => (Method::POST, format!("{path}/retry"), "It is made again now."),
        "delete" => (Method::DELETE, path, "It is deleted."),
        _ => return Err(Problem::not_found("There is no such action.")),
    };
    let address = text::address(&path, &[("client", clients::parameter(&visit, &client))]);
    let list = if fields.text("from") == "dead-letters" {
        "/console/dead-letters"
    } else {
        "/console/calls"
    };
    let own = page_of(&client_id, &id);
    Ok(match visit.inside.send(method, &address, None).await {
        Ok(_) if act == "delete" => Notice::Done(told.into()).at(list),
        Ok(_) => Notice::Done(told.into()).at(&own),
        Err(problem) => Notice::Failed(problem.text).at(&own),
    })
}
