//! One attempt, from both sides: what was sent, as far as it can still be known, and what was answered.

use std::collections::BTreeMap;
use std::fmt::Write;

use maud::html;
use serde::Deserialize;
use serde_json::Value;

use super::attempts::Attempt;
use super::clients::{self, LabelNames};
use super::journal::Entries;
use crate::api::console::page::{Page, PageParts, Section};
use crate::api::console::parts;
use crate::api::console::problem::Problem;
use crate::api::console::text;
use crate::api::console::visit::Visit;
use crate::bus::token::ClientToken;

/// What was sent, where it can still be known.
struct Sent {
    headers: BTreeMap<String, String>,
    body: String,
    /// Whether that is not all of the body.
    is_cut: bool,
}

pub async fn show(visit: Visit) -> Result<Page, Problem> {
    let asked = |name: &str| visit.asked(name).unwrap_or_default();
    let at: u64 =
        asked("at").parse().map_err(|_| Problem::not_found("There is no such attempt."))?;
    let (since, until) = (at.to_string(), at.saturating_add(1).to_string());
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
    let names = LabelNames::of(&visit, [attempt.client.as_str()]);
    let content = html! {
        h1 { "Attempt " (attempt.attempt) " " (attempt.outcome()) }
        (parts::facts(&[
            ("When", parts::moment(attempt.at)),
            ("Kind", html! { (attempt.kind) }),
            ("Id", parts::exact(&attempt.id)),
            ("Client", html! { (names.name(&attempt.client)) }),
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
                        @if sent.is_cut { p.hint { "The beginning of " (text::bytes(attempt.bytes)) ":" } }
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
        @if let Some(curl) = &curl {
            section aria-labelledby="curl" {
                h2 #curl { "As curl" }
                p.hint {
                    "Look at it before you run it: others have written what it sends. Credentials are not shown: put them where it says "
                    code { "<secret>" } "."
                }
                (parts::block(curl))
            }
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
    #[serde(default)]
    cut: bool,
}

/// What an attempt sent, if what it was made of is still there.
async fn sent(visit: &Visit, attempt: &Attempt) -> Result<Option<Sent>, Problem> {
    if attempt.kind == "message" {
        return message(visit, attempt).await;
    }
    // The journal knows whose it is by name, which several may have.
    for client in clients::called(visit, &attempt.client).await? {
        let found = match attempt.kind.as_str() {
            "batch" => batch(visit, attempt, &client).await?,
            _ => call(visit, attempt, &client).await?,
        };
        if found.is_some() {
            return Ok(found);
        }
    }
    Ok(None)
}

async fn call(
    visit: &Visit,
    attempt: &Attempt,
    client: &ClientToken,
) -> Result<Option<Sent>, Problem> {
    let path = format!("/calls/{}", text::segment(&attempt.id));
    let address = text::address(&path, &[("client", clients::parameter(visit, client))]);
    let call: Option<Call> = visit.inside.find(&address).await?;
    let request = call.and_then(|call| call.request);
    Ok(request.map(|CallRequest { headers, body, cut }| Sent { headers, body, is_cut: cut }))
}

/// As `worker/messages/http.rs` sends it.
async fn message(visit: &Visit, attempt: &Attempt) -> Result<Option<Sent>, Problem> {
    let path = format!("/api/messages/{}", text::segment(&attempt.id));
    let Some(message) = visit.inside.find::<Value>(&path).await? else { return Ok(None) };
    let mut body = message["data"]["payload"].clone();
    if let Some(members) = body.as_object_mut() {
        members.insert("attributes".into(), message["data"]["attributes"].clone());
    }
    let mut headers = json_headers();
    headers.insert("message-id".into(), attempt.id.clone());
    Ok(Some(Sent { headers, body: body.to_string(), is_cut: false }))
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

/// How many events of a batch are shown.
const EVENTS_SHOWN: u64 = 500;

/// The events of a batch that is not acknowledged yet.
async fn batch(
    visit: &Visit,
    attempt: &Attempt,
    subscriber: &ClientToken,
) -> Result<Option<Sent>, Problem> {
    let path = format!("/subscriptions/{}", text::segment(subscriber.reveal()));
    let subscription: Option<Subscription> = visit.inside.find(&path).await?;
    let batch = subscription.and_then(|subscription| subscription.batch);
    let Some(batch) = batch.filter(|batch| batch.id == attempt.id) else { return Ok(None) };
    let limit = batch.events.clamp(1, EVENTS_SHOWN).to_string();
    let queue = text::address(&format!("{path}/queue"), &[("limit", Some(&limit))]);
    let queue: Queue = visit.inside.get(&queue).await?;
    let events = queue.events.into_iter().filter(|waiting| waiting.in_batch);
    let body = Value::from(events.map(|waiting| waiting.event).collect::<Vec<_>>()).to_string();
    let mut headers = json_headers();
    headers.insert("authorization".into(), HIDDEN.into());
    headers.insert("webhook-id".into(), batch.id);
    Ok(Some(Sent { headers, body, is_cut: batch.events > EVENTS_SHOWN }))
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

/// The request as a command, without what is secret; `None` if it was no HTTP, or is not known whole.
fn curl(attempt: &Attempt, sent: Option<&Sent>) -> Option<String> {
    let sent = sent.filter(|sent| !sent.is_cut)?;
    let is_http = attempt.url.starts_with("https://") || attempt.url.starts_with("http://");
    if !is_http {
        return None;
    }
    // What others have written must name no file of whoever runs it, and no more URLs than one.
    let url = crate::shell::quoted(&attempt.url);
    let mut command = format!("curl --globoff -X {} {url}", attempt.method);
    for (name, value) in &sent.headers {
        let value = if value == HIDDEN { "<secret>" } else { value };
        command += &format!(" \\\n  -H {}", crate::shell::quoted(&format!("{name}: {value}")));
    }
    if !sent.body.is_empty() {
        command += &format!(" \\\n  --data-raw {}", crate::shell::quoted(&sent.body));
    }
    Some(command)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_names_no_file_of_whoever_runs_it() {
        let attempt: Attempt = serde_json::from_value(serde_json::json!({
            "at": 1, "kind": "call", "id": "1", "client": "a", "method": "POST", "attempt": 1,
            "url": "https://a.example/[1-9]", "failed": true, "took": 1, "bytes": 1, "answer": "",
        }))
        .unwrap();
        let headers = [("authorization", HIDDEN), ("x", "a'b")];
        let headers = headers.map(|(name, value)| (name.to_owned(), value.to_owned())).into();
        let mut sent = Sent { headers, body: "@/etc/passwd".into(), is_cut: false };
        let expected = [
            r"curl --globoff -X POST 'https://a.example/[1-9]' \",
            r"  -H 'authorization: <secret>' \",
            r"  -H 'x: a'\''b' \",
            r"  --data-raw @/etc/passwd",
        ];
        assert_eq!(curl(&attempt, Some(&sent)), Some(expected.join("\n")));
        sent.is_cut = true;
        assert_eq!(curl(&attempt, Some(&sent)), None, "a part of it would be something else");
        assert_eq!(curl(&attempt, None), None);
    }
}
