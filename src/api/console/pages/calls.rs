//! Calls and postbacks.

use axum::extract::Path;
use axum::http::Method;
use axum::response::Response;
use maud::{Markup, html};
use serde::Deserialize;

use super::clients;
use crate::api::calls::Destination;
use crate::api::console::notice::Notice;
use crate::api::console::page::{Page, PageParts, Section};
use crate::api::console::parts::{self, Table};
use crate::api::console::problem::Problem;
use crate::api::console::text;
use crate::api::console::visit::{Sent, Visit};

#[derive(Deserialize)]
struct Calls {
    calls: Vec<Call>,
    next: Option<String>,
}

/// A call, as the API tells it.
#[derive(Deserialize)]
pub struct Call {
    pub id: String,
    pub client: String,
    pub kind: String,
    pub method: String,
    pub url: String,
    pub destination: String,
    pub state: String,
    pub attempts: u32,
    pub accepted: u64,
    pub due: Option<u64>,
    pub status: Option<u16>,
    pub error: Option<String>,
}

#[derive(Deserialize)]
struct Count {
    count: u64,
    until: u64,
}

#[derive(Deserialize)]
struct Changed {
    changed: u64,
    next: Option<String>,
}

/// The page of a call.
pub fn page_of(client_id: &str, id: &str) -> String {
    format!("/console/calls/{client_id}/{}", text::segment(id))
}

/// The states of calls, and of messages on their way to a publisher, to choose from.
pub const STATES: [(&str, &str); 6] = [
    ("", "any"),
    ("waiting", "waiting"),
    ("sending", "sending"),
    ("failing", "failing"),
    ("dead", "dead"),
    ("done", "done"),
];

/// What narrows calls down, as the API's parameters.
async fn asked(visit: &Visit) -> Result<Vec<(&'static str, Option<String>)>, Problem> {
    let client = clients::asked(visit).await?;
    Ok(vec![
        ("state", visit.asked("state")),
        ("destination", visit.asked("destination")),
        ("client", client.map(|client| client.reveal().to_owned())),
    ])
}

fn borrowed<'a>(
    parameters: &'a [(&'static str, Option<String>)],
) -> Vec<(&'static str, Option<&'a str>)> {
    parameters.iter().map(|(name, value)| (*name, value.as_deref())).collect()
}

pub async fn list(visit: Visit) -> Result<Page, Problem> {
    let asked = asked(&visit).await?;
    let after = visit.asked("after");
    let mut parameters = borrowed(&asked);
    parameters.extend([
        ("after", after.as_deref()),
        ("limit", Some("50")),
        ("within", Some(super::journal::WITHIN_MS)),
    ]);
    let found: Calls = visit.inside.get(&text::address("/calls", &parameters)).await?;
    let head = html! {
        div.heading {
            h1 { "Calls & postbacks" }
            a.button href="/console/calls/new" { "New call" }
        }
        (parts::filters("/console/calls", &html! {
            (parts::filter_choice(&visit, "State", "state", &STATES))
            (parts::filter_line(&visit, "Destination", "destination", "text"))
            @if visit.is_root() { (parts::filter_line(&visit, "Client", "client", "text")) }
        }, visit.uri.query().is_some()))
    };
    let list = html! {
        @if found.calls.is_empty() && found.next.is_none() { (parts::nothing("No call matches. POST /calls makes one, and so does the button above.")) }
        @else { (table(&visit, &found.calls)) }
        (parts::older(&visit, found.next.as_deref(), None))
    };
    let counting = visit.asked("act").is_some() && !visit.wants_parts;
    let acts = if counting { all_that_match(&visit, &asked).await? } else { offer(&visit) };
    let mut parts = PageParts::of(Section::Calls).still(head);
    if visit.is_root() {
        parts = parts.live("destinations", destinations(&visit).await?);
    }
    let parts = parts.newest_first(&visit, list).still(acts);
    Ok(visit.page("Calls & postbacks", parts))
}

fn table(visit: &Visit, calls: &[Call]) -> Table {
    let mut table = Table::new(
        "Calls, the newest first",
        &["Call", "State", "Kind", "Client", "#Tries", "Accepted", "Next try", "Last answer"],
    );
    for call in calls {
        let client = clients::id(visit, &call.client).unwrap_or_default();
        table.row_to(
            page_of(&client, &call.id),
            vec![
                html! { (call.method) " " (parts::cut(&call.url, 60)) },
                parts::state(&call.state),
                html! { (call.kind) },
                html! { (clients::name(visit, &call.client)) },
                html! { (call.attempts) },
                parts::moment(call.accepted),
                html! { @if let Some(due) = call.due { (parts::from_now(due)) } },
                html! {
                    (parts::why(call.status, call.error.as_deref().unwrap_or_default(), 50))
                },
            ],
        );
    }
    table
}

async fn destinations(visit: &Visit) -> Result<Markup, Problem> {
    let destinations: Vec<Destination> = visit.inside.get("/destinations?limit=10").await?;
    let table = destination_table(&destinations);
    Ok(html! {
        @if !table.is_empty() {
            h2 { "Where they go" }
            (table)
            h2 { "All calls" }
        }
    })
}

/// Destinations that do not take what they should; `None` if there are none.
///
/// # Errors
/// If the API refuses.
pub async fn failing(visit: &Visit) -> Result<Option<Table>, Problem> {
    let mut destinations: Vec<Destination> = visit.inside.get("/destinations?limit=8").await?;
    destinations.retain(|destination| destination.failures > 0);
    Ok((!destinations.is_empty()).then(|| destination_table(&destinations)))
}

fn destination_table(destinations: &[Destination]) -> Table {
    let mut table = Table::new(
        "Destinations that something waits for",
        &["Destination", "State", "#Waiting", "#On their way", "#Failed in a row", "Next try"],
    );
    for destination in destinations {
        let address = match destination.destination.strip_prefix("publisher:") {
            Some(publisher) => format!("/console/publishers/{}", text::segment(publisher)),
            None => {
                text::address("/console/calls", &[("destination", Some(&destination.destination))])
            }
        };
        table.row_to(address, vec![
            html! { (destination.destination.replace("publisher:", "publisher ")) },
            parts::state(if destination.failures > 0 { "failing" } else { "waiting" }),
            html! { (text::number(destination.waiting)) @if destination.waiting >= 1000 { " or more" } },
            html! { (destination.in_flight) },
            html! { (text::number(destination.failures)) },
            parts::from_now(destination.due),
        ]);
    }
    table
}

/// Offers to do something with all calls that match: counting them may take long, and is a step of its own.
fn offer(visit: &Visit) -> Markup {
    let address = visit.address_with(Some(("act", "all")));
    html! {
        p { a.button href={ (address) "#all" } { "Retry or delete all that match…" } }
    }
}

async fn all_that_match(
    visit: &Visit,
    asked: &[(&'static str, Option<String>)],
) -> Result<Markup, Problem> {
    let mut parameters = borrowed(asked);
    parameters.push(("count", Some("true")));
    let Count { count, until } = visit.inside.get(&text::address("/calls", &parameters)).await?;
    let fields = html! {
        input type="hidden" name="confirm" value=(count);
        input type="hidden" name="until" value=(until);
        @for name in ["state", "destination", "client"] {
            @if let Some(value) = visit.asked(name) { input type="hidden" name=(name) value=(value); }
        }
    };
    let calls = text::counted(count, "call matches", "calls match");
    Ok(html! {
        section #all aria-labelledby="all-title" {
            h2 #all-title { (calls) }
            @if count > 0 {
                div.acts {
                    (parts::confirmed(visit, "/console/calls/all/retry", "Retry all of them",
                        &format!("{calls}: each is made again now, also if it was given up."), &fields))
                    (parts::confirmed(visit, "/console/calls/all/delete", "Delete all of them",
                        &format!("{calls}: they are never made again."), &fields))
                }
            }
        }
    })
}

pub async fn act_on_all(Path(act): Path<String>, sent: Sent) -> Result<Response, Problem> {
    let Sent { visit, fields } = sent;
    let client = clients::named(&visit, fields.text("client")).await?;
    let given = |name| Some(fields.text(name)).filter(|text| !text.is_empty());
    let parameters = [
        ("confirm", given("confirm")),
        ("until", given("until")),
        ("state", given("state")),
        ("destination", given("destination")),
        ("client", client.as_ref().map(|client| client.reveal())),
    ];
    let (method, path, what) = match act.as_str() {
        "retry" => (Method::POST, "/calls/retry", "made again"),
        "delete" => (Method::DELETE, "/calls", "deleted"),
        _ => return Err(Problem::not_found("There is no such action.")),
    };
    let done = visit.inside.send(method, &text::address(path, &parameters), None).await;
    let told = match done.and_then(|answer| answer.read::<Changed>()) {
        Ok(Changed { changed, next: None }) => {
            Notice::Done(format!("{} {what}.", text::counted(changed, "call is", "calls are")))
        }
        Ok(Changed { changed, .. }) => Notice::Done(format!(
            "{} {what} so far: there are more, so do it once more.",
            text::counted(changed, "call is", "calls are")
        )),
        Err(problem) => Notice::Failed(problem.text),
    };
    Ok(told.at("/console/calls"))
}
