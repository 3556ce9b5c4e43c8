//! The journal, and one attempt of it from both sides.

use std::collections::BTreeMap;
use std::fmt::Write;

use maud::{Markup, html};
use serde::Deserialize;
use serde_json::Value;

use super::attempts::{self, Attempt};
use super::clients;
use crate::api::console::page::{Page, PageParts, Section};
use crate::api::console::parts;
use crate::api::console::problem::Problem;
use crate::api::console::text;
use crate::api::console::visit::Visit;

/// Some of the journal, as the API tells it.
#[derive(Deserialize)]
pub struct Entries {
    pub entries: Vec<Attempt>,
    pub next: Option<String>,
    pub back_to: Option<u64>,
}

/// For how long is looked for what matches: a page must not be waited for.
pub const WITHIN_MS: &str = "60";

/// What narrows attempts down.
pub fn filters(visit: &Visit, path: &str) -> Markup {
    let is_narrowed = visit.uri.query().is_some();
    parts::filters(
        path,
        &html! {
            (parts::filter_line(visit, "Text", "text", "search"))
            (parts::filter_choice(visit, "Kind", "kind", &[
                ("", "any"), ("batch", "batch"), ("call", "call"), ("postback", "postback"), ("message", "message"),
            ]))
            (parts::filter_choice(visit, "Outcome", "failed", &[
                ("", "any"), ("true", "failed"), ("false", "got through"),
            ]))
            (parts::filter_line(visit, "Status", "status", "number"))
            (parts::filter_line(visit, "Subscriber", "subscriber", "text"))
            (parts::filter_line(visit, "Destination", "destination", "text"))
            @if visit.is_root() { (parts::filter_line(visit, "Client", "client", "text")) }
            (parts::filter_line(visit, "Since (UTC)", "since", "datetime-local"))
            (parts::filter_line(visit, "Until (UTC)", "until", "datetime-local"))
        },
        is_narrowed,
    )
}

/// Attempts that the address asks for.
///
/// # Errors
/// If a value in it means nothing.
pub async fn find(visit: &Visit, limit: &str) -> Result<Entries, Problem> {
    let client = clients::asked(visit).await?;
    let moment = |name: &str| match visit.asked(name) {
        None => Ok(None),
        Some(text) => {
            let read = text::read_moment(&text).map(|ms| Some(ms.to_string()));
            read.ok_or_else(|| Problem::bad_request(format!("“{text}” is no time.")))
        }
    };
    let (since, until) = (moment("since")?, moment("until")?);
    let asked: Vec<_> =
        ["text", "kind", "failed", "status", "subscriber", "destination", "id", "after"]
            .map(|name| (name, visit.asked(name)))
            .into();
    let mut parameters: Vec<_> =
        asked.iter().map(|(name, value)| (*name, value.as_deref())).collect();
    parameters.extend([
        ("client", client.as_ref().map(|client| client.reveal())),
        ("since", since.as_deref()),
        ("until", until.as_deref()),
        ("limit", Some(limit)),
        ("within", Some(WITHIN_MS)),
    ]);
    visit.inside.get(&text::address("/journal", &parameters)).await
}

pub async fn list(visit: Visit) -> Result<Page, Problem> {
    let found = find(&visit, "50").await?;
    let list = html! {
        @if found.entries.is_empty() && found.next.is_none() {
            (parts::nothing("No attempt matches. Each attempt at a batch, call, postback or message stands here, for as long as ROUTEMASTER_JOURNAL_RETENTION says."))
        } @else {
            (attempts::table(&visit, &found.entries, "Attempts, the newest first"))
        }
        (parts::older(&visit, found.next.as_deref(), found.back_to))
    };
    let head = html! { h1 { "Journal" } (filters(&visit, "/console/journal")) };
    let parts = PageParts::of(Section::Journal).still(head);
    // An older page does not move.
    let parts =
        if visit.asked("after").is_some() { parts.still(list) } else { parts.live("list", list) };
    Ok(visit.page("Journal", parts))
}

/// What was sent, where it can still be known.
struct Sent {
    headers: BTreeMap<String, String>,
    body: String,
}

pub async fn show(visit: Visit) -> Result<Page, Problem> {
    let asked = |name: &str| visit.asked(name).unwrap_or_default();
    let at: u64 =
        asked("at").parse().map_err(|_| Problem::not_found("There is no such attempt."))?;
    let (since, until) = (at.to_string(), (at + 1).to_string());
    let (kind, id) = (asked("kind"), asked("id"));
    let address = text::address(
        "/journal",
        &[
            ("kind", Some(&kind)),
            ("id", Some(&id)),
            ("since", Some(&since)),
            ("until", Some(&until)),
        ],
    );
    let found: Entries = visit.inside.get(&address).await?;
    let number = asked("attempt");
    let attempt = found.entries.into_iter().find(|entry| entry.attempt.to_string() == number);
    let Some(attempt) = attempt else {
        return Err(Problem::not_found(
            "There is no such attempt, or the journal has forgotten it.",
        ));
    };
    let sent = sent(&visit, &attempt).await?;
    let curl = curl(&attempt, sent.as_ref());
    let content = html! {
        h1 { "Attempt " (attempt.attempt) " " (attempt.outcome()) }
        (parts::facts(&[
            ("When", parts::moment(attempt.at)),
            ("Kind", html! { (attempt.kind) }),
            ("Id", parts::exact(&attempt.id)),
            ("Client", html! { (clients::names_of(&visit, [attempt.client.as_str()].into_iter()).get(attempt.client.as_str()).unwrap_or(&attempt.client)) }),
            ("To", html! { (attempt.target()) }),
            ("Took", html! { (text::span(attempt.took)) }),
            ("Next try", match attempt.next_try {
                Some(next) => parts::from_now(next),
                None => html! { "none" },
            }),
            ("Others", html! {
                a href=(text::address("/console/journal", &[("id", Some(&attempt.id))])) { "All attempts at it" }
            }),
        ]))
        div.sides {
            section aria-labelledby="request" {
                h2 #request { "Request" }
                p { code { (attempt.method) " " (attempt.url) } }
                @match &sent {
                    Some(sent) => {
                        @if !sent.headers.is_empty() {
                            (parts::block(&header_lines(&sent.headers)))
                        }
                        (parts::block(&parts::pretty(&sent.body)))
                    }
                    None => (parts::nothing(&format!(
                        "What was sent ({}) is not kept any more: it ended with what it was made of.",
                        text::bytes(attempt.bytes)
                    ))),
                }
            }
            section aria-labelledby="answer" {
                h2 #answer { "Answer" }
                p { (parts::status(attempt.status)) @if let Some(error) = &attempt.error { " " (error) } }
                @if attempt.answer.is_empty() {
                    (parts::nothing("Nothing was answered, or nothing of it is kept."))
                } @else {
                    (parts::block(&parts::pretty(&attempt.answer)))
                }
            }
        }
        section aria-labelledby="curl" {
            h2 #curl { "As curl" }
            p.hint { "Credentials are not shown: put them where it says " code { "<secret>" } "." }
            (parts::block(&curl))
        }
    };
    let parts = PageParts::of(Section::Journal).still(content);
    Ok(visit.page("Attempt", parts))
}

#[derive(Deserialize)]
struct Call {
    request: Option<CallRequest>,
}

#[derive(Deserialize)]
struct CallRequest {
    headers: BTreeMap<String, String>,
    body: String,
}

/// What an attempt sent, if what it was made of is still there.
async fn sent(visit: &Visit, attempt: &Attempt) -> Result<Option<Sent>, Problem> {
    match attempt.kind.as_str() {
        "call" | "postback" => {
            let client = clients::of_name(visit, &attempt.client).await?;
            let client = client.as_ref().and_then(|client| clients::parameter(visit, client));
            let path = format!("/calls/{}", text::segment(&attempt.id));
            let call: Option<Call> =
                visit.inside.find(&text::address(&path, &[("client", client)])).await?;
            Ok(call
                .and_then(|call| call.request)
                .map(|CallRequest { headers, body }| Sent { headers, body }))
        }
        "message" => {
            let path = format!("/api/messages/{}", text::segment(&attempt.id));
            let message: Option<Value> = visit.inside.find(&path).await?;
            let body = message.map(|message| message["data"]["payload"].to_string());
            Ok(body.map(|body| Sent { headers: json_headers(), body }))
        }
        _ => batch(visit, attempt).await,
    }
}

#[derive(Deserialize)]
struct Subscription {
    batch: Option<Batch>,
}

#[derive(Deserialize)]
struct Batch {
    id: String,
    events: u64,
}

#[derive(Deserialize)]
struct Queue {
    events: Vec<Waiting>,
}

#[derive(Deserialize)]
struct Waiting {
    in_batch: bool,
    event: Value,
}

/// The events of a batch that is not acknowledged yet.
async fn batch(visit: &Visit, attempt: &Attempt) -> Result<Option<Sent>, Problem> {
    let Some(subscriber) = clients::of_name(visit, &attempt.client).await? else { return Ok(None) };
    let path = format!("/subscriptions/{}", text::segment(subscriber.reveal()));
    let subscription: Option<Subscription> = visit.inside.find(&path).await?;
    let batch = subscription.and_then(|subscription| subscription.batch);
    let Some(batch) = batch.filter(|batch| batch.id == attempt.id) else { return Ok(None) };
    let limit = batch.events.clamp(1, 500).to_string();
    let queue = text::address(&format!("{path}/queue"), &[("limit", Some(&limit))]);
    let queue: Queue = visit.inside.get(&queue).await?;
    let events = queue.events.into_iter().filter(|waiting| waiting.in_batch);
    let body = Value::from(events.map(|waiting| waiting.event).collect::<Vec<_>>()).to_string();
    let mut headers = json_headers();
    headers.insert("authorization".into(), HIDDEN.into());
    headers.insert("webhook-id".into(), batch.id);
    Ok(Some(Sent { headers, body }))
}

fn json_headers() -> BTreeMap<String, String> {
    [("content-type".to_owned(), "application/json".to_owned())].into()
}

fn header_lines(headers: &BTreeMap<String, String>) -> String {
    headers.iter().fold(String::new(), |mut lines, (name, value)| {
        // A line cannot fail to be written to a text.
        let _ = writeln!(lines, "{name}: {value}");
        lines
    })
}

/// What the API shows in the place of what only the receiver may see.
const HIDDEN: &str = "…";

/// The request as a command, without what is secret.
fn curl(attempt: &Attempt, sent: Option<&Sent>) -> String {
    let mut command = format!("curl -X {} {}", attempt.method, crate::shell::quoted(&attempt.url));
    let Some(sent) = sent else { return command };
    for (name, value) in &sent.headers {
        let value = if value == HIDDEN { "<secret>" } else { value };
        command += &format!(" \\\n  -H {}", crate::shell::quoted(&format!("{name}: {value}")));
    }
    if !sent.body.is_empty() {
        command += &format!(" \\\n  --data-binary {}", crate::shell::quoted(&sent.body));
    }
    command
}
