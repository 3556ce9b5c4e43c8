//! One subscription: how it goes, why, and what can be done.

use axum::extract::Path;
use axum::http::Method;
use axum::response::Response;
use maud::{Markup, html};
use serde::Deserialize;
use serde_json::{Value, json};

use super::attempts;
use super::clients;
use super::journal::Entries;
use crate::api::console::chart::{Range, Series, ranges};
use crate::api::console::fields::Fields;
use crate::api::console::notice::Notice;
use crate::api::console::page::{Page, PageParts, Section};
use crate::api::console::parts::{self, Field, Table, Tile};
use crate::api::console::problem::Problem;
use crate::api::console::text;
use crate::api::console::visit::{Sent, Visit, moment_of};
use crate::bus::tally::Subject;

#[derive(Deserialize)]
struct Subscription {
    callback: Option<String>,
    pubsub: Option<String>,
    max_events: u32,
    timeout: u64,
    retention: Option<u64>,
    max_queued: Option<u64>,
    topics: Vec<String>,
    events: Counts,
    last_error: Option<LastError>,
    paused: Option<Paused>,
    #[serde(default)]
    pull: bool,
    order: Option<String>,
    parallel: Option<u32>,
    on_refusal: Option<OnRefusal>,
    #[serde(default)]
    secret: Vec<String>,
    status: String,
    health: u8,
    lag: u64,
    next_try: Option<u64>,
    batch: Option<Batch>,
}

#[derive(Deserialize)]
struct Counts {
    sent: u64,
    queued: u64,
    #[serde(default)]
    autodropped: u64,
    #[serde(default)]
    expired: u64,
}

#[derive(Deserialize)]
struct LastError {
    at: u64,
    attempt: u32,
    status: Option<u16>,
    reason: String,
}

#[derive(Deserialize)]
struct Paused {
    since: u64,
    reason: String,
}

#[derive(Deserialize)]
struct OnRefusal {
    attempts: u32,
}

#[derive(Deserialize)]
struct Batch {
    id: String,
    events: u64,
    attempts: u32,
}

#[derive(Deserialize)]
struct Queue {
    events: Vec<Waiting>,
    next: Option<u64>,
}

#[derive(Deserialize)]
struct Waiting {
    position: u64,
    since: u64,
    in_batch: bool,
    replay_of: Option<u64>,
    event: Value,
}

pub async fn show(Path(id): Path<String>, visit: Visit) -> Result<Page, Problem> {
    let client = clients::of_id(&visit, &id).await?;
    let name = visit.console.api.authentication.name_of(&client);
    let inside_path = format!("/subscriptions/{}", text::segment(client.reveal()));
    let subscription: Subscription = visit.inside.get(&inside_path).await?;
    let path = format!("/console/subscriptions/{id}");
    let range = Range::of(&visit);
    let subject = Subject::Subscription(client.clone());
    let series = Series::of(&*visit.console.api.store, &subject, range, visit.now_ms()).await?;
    let after = visit.asked("after");
    let queue = [("limit", Some("10")), ("after", after.as_deref())];
    let queue: Queue =
        visit.inside.get(&text::address(&format!("{inside_path}/queue"), &queue)).await?;
    let recent = text::address(
        "/journal",
        &[
            ("subscriber", Some(client.reveal())),
            ("limit", Some("10")),
            ("within", Some(super::journal::WITHIN_MS)),
        ],
    );
    let recent: Entries = visit.inside.get(&recent).await?;

    let state = html! {
        (tiles(&subscription))
        (why(&subscription))
    };
    let facts = html! {
        h2 { "How it is delivered" }
        (parts::facts(&facts(&subscription)))
    };
    let chart = html! {
        div.heading { h2 { "What passed" } (ranges(range, &path)) }
        (series.charts("Events"))
        @if series.sum().is_empty() && subscription.events.queued > 0 {
            p.hint { "Nothing was counted: of more than 1,000 subscriptions, not each is counted by itself." }
        }
    };
    let attempts = html! {
        h2 { "Recent attempts" }
        @if recent.entries.is_empty() { (parts::nothing("No attempt yet, or the journal keeps none.")) }
        @else {
            (attempts::of_one(&recent.entries))
            p { a href=(text::address("/console/journal", &[("client", Some(&id)), ("kind", Some("batch"))])) { "All in the journal" } }
        }
    };
    let parts = PageParts::of(Section::Subscriptions)
        .still(html! { h1 { "Subscription " (name) } })
        .live("state", state)
        .still(acts(&visit, &path, &subscription))
        .live("attempts", attempts)
        .live("queue", waiting(&visit, &queue, &subscription))
        .live("chart", chart)
        .live("facts", facts)
        .still(more_acts(&visit, &path, &subscription));
    Ok(visit.page(format!("Subscription {name}"), parts))
}

fn tiles(subscription: &Subscription) -> Markup {
    let Subscription { status, health, lag, events, .. } = subscription;
    let tone = match status.as_str() {
        "failing" => "bad",
        "paused" => "warn",
        _ => "calm",
    };
    parts::tiles(&[
        Tile {
            name: "State",
            value: status.clone(),
            detail: html! { "health " (health) " of 100" },
            tone,
            address: None,
        },
        Tile {
            name: "Waiting",
            value: text::short(events.queued as f64),
            detail: match subscription.next_try {
                Some(next) if events.queued > 0 => html! { "next try " (parts::from_now(next)) },
                _ => html! { "events" },
            },
            tone: "calm",
            address: None,
        },
        Tile {
            name: "Lag",
            value: if *lag == 0 { "none".into() } else { text::span(*lag / 1000 * 1000) },
            detail: html! { "of the oldest event" },
            tone: if *lag > 60_000 { "warn" } else { "calm" },
            address: None,
        },
        Tile {
            name: "Delivered",
            value: text::short(events.sent as f64),
            detail: html! { "events ever" },
            tone: "calm",
            address: None,
        },
    ])
}

/// What keeps it from being delivered.
fn why(subscription: &Subscription) -> Markup {
    html! {
        @if let Some(paused) = &subscription.paused {
            p.notice.warn { "Paused " (parts::from_now(paused.since)) ": " (paused.reason) }
        }
        @if let Some(error) = &subscription.last_error {
            p.notice.failed {
                "Attempt " (error.attempt) " failed " (parts::from_now(error.at * 1000)) ": "
                (parts::answer(error.status, &error.reason))
            }
        }
    }
}

fn facts(subscription: &Subscription) -> Vec<(&'static str, Markup)> {
    let Subscription { callback, pubsub, topics, .. } = subscription;
    let target = callback.as_deref().or(pubsub.as_deref());
    let mut facts = vec![
        (
            "Goes to",
            match target {
                Some(target) => parts::exact(target),
                None if subscription.pull => html! { "nowhere: it is pulled" },
                None => html! { "–" },
            },
        ),
        (
            "Topics",
            html! {
                @for (index, topic) in topics.iter().enumerate() {
                    @if index > 0 { ", " }
                    a href={ "/console/topics/" (text::segment(topic)) } { (topic) }
                }
            },
        ),
        (
            "Batches",
            html! {
                "up to " (text::number(subscription.max_events.into())) " events, after "
                (text::span(subscription.timeout)) " at the latest"
            },
        ),
        (
            "Order",
            match subscription.parallel {
                Some(parallel) => {
                    html! { "of each " (subscription.order.as_deref().unwrap_or("entity")) ", " (parallel) " batches at once" }
                }
                None => html! { "of the whole queue" },
            },
        ),
        (
            "Refused events",
            match &subscription.on_refusal {
                Some(on_refusal) => {
                    html! { "become dead letters after " (on_refusal.attempts) " attempts" }
                }
                None => html! { "are sent until they are taken" },
            },
        ),
        (
            "Signed",
            html! { @if subscription.secret.is_empty() { "no" } @else { "yes, with " (subscription.secret.len()) " secret(s)" } },
        ),
    ];
    if let Some(retention) = subscription.retention {
        facts.push(("Drops what is older than", html! { (text::span(retention)) }));
    }
    if let Some(max) = subscription.max_queued {
        facts.push(("Drops what is more than", html! { (text::number(max)) " events" }));
    }
    let dropped = subscription.events.autodropped + subscription.events.expired;
    if dropped > 0 {
        facts.push((
            "Dropped ever",
            html! {
                (text::number(subscription.events.autodropped)) " for want of room, "
                (text::number(subscription.events.expired)) " as it asks for"
            },
        ));
    }
    facts
}

/// What is done first, at night.
fn acts(visit: &Visit, path: &str, subscription: &Subscription) -> Markup {
    html! {
        div.acts {
            @if subscription.paused.is_some() { (parts::act(visit, &format!("{path}/resume"), "Resume")) }
            @else { (parts::act(visit, &format!("{path}/pause"), "Pause")) }
            (parts::act(visit, &format!("{path}/retry"), "Try now"))
            (parts::act(visit, &format!("{path}/test"), "Send a test event"))
            @if let Some(batch) = &subscription.batch {
                (parts::confirmed(visit, &format!("{path}/skip"), "Skip the batch",
                    &format!("{}, after {}, become dead letters, and what comes behind is delivered.",
                        text::counted(batch.events, "event", "events"),
                        text::counted(batch.attempts.into(), "attempt", "attempts")),
                    &html! { input type="hidden" name="batch" value=(batch.id); }))
            }
        }
    }
}

fn more_acts(visit: &Visit, path: &str, subscription: &Subscription) -> Markup {
    html! {
        h2 { "Replay" }
        p.hint {
            "Puts what its topics have kept at the end of the queue, in order, marked as a replay. A topic keeps events once it is told to, on its page."
        }
        (parts::confirmed(visit, &format!("{path}/replay"), "Replay",
            "The subscriber gets all of it again, up to a million events.", &html! {
                (Field { label: "Since (UTC)", name: "since", value: "", hint: "", required: true }.line("datetime-local"))
                (Field { label: "Until (UTC)", name: "until", value: "", hint: "Empty: until now.", required: false }.line("datetime-local"))
            }))
        h2 { "Skip" }
        (parts::confirmed(visit, &format!("{path}/skip"), "Skip what waits",
            "The events at the head of the queue, through this one, become dead letters, which can be retried.", &html! {
                (Field { label: "Position of the last one", name: "through", value: "", hint: "As it stands above.", required: true }.line("number"))
            }))
        h2 { "End it" }
        (parts::confirmed(visit, &format!("{path}/delete"), "Unsubscribe",
            &format!("The subscription and the {} that wait are gone for good.",
                text::counted(subscription.events.queued, "event", "events")), &html! {}))
    }
}

fn waiting(visit: &Visit, queue: &Queue, subscription: &Subscription) -> Markup {
    let mut table = Table::new(
        "Events that wait",
        &["Position", "Topic", "Type", "URL", "Since", "In the batch"],
    );
    for waiting in &queue.events {
        let text = |name: &str| waiting.event[name].as_str().unwrap_or_default().to_owned();
        table.row_to(format!("/console/events/{}", waiting.position), vec![
            html! { (waiting.position) @if let Some(of) = waiting.replay_of { " " span.hint { "replay of " (of) } } },
            html! { (text("topic")) },
            html! { (text("type")) },
            parts::cut(&text("url"), 70),
            parts::from_now(waiting.since),
            html! { @if waiting.in_batch { "yes" } },
        ]);
    }
    let next = queue.next.map(|next| next.to_string());
    html! {
        h2 { "Events that wait" }
        @if table.is_empty() { (parts::nothing("Nothing waits.")) }
        @else {
            @if subscription.events.queued as usize > queue.events.len() {
                p.hint { "The first of " (text::number(subscription.events.queued)) "." }
            }
            (table)
            @if let Some(next) = next {
                nav.pager aria-label="Pages of the queue" {
                    a href={ "?after=" (next) } rel="next" { "Further behind" }
                }
            }
        }
        @if visit.asked("after").is_some() { p { a href="?" { "Head of the queue" } } }
    }
}

pub async fn act(Path((id, act)): Path<(String, String)>, sent: Sent) -> Result<Response, Problem> {
    let Sent { visit, fields } = sent;
    let client = clients::of_id(&visit, &id).await?;
    let path = format!("/subscriptions/{}", text::segment(client.reveal()));
    let done = done(&visit, &path, &act, &fields).await;
    if done.is_ok() {
        visit.console.board.forget().await;
    }
    let back = format!("/console/subscriptions/{id}");
    Ok(match done {
        Ok(told) if act == "delete" => Notice::Done(told).at("/console/subscriptions"),
        Ok(told) => Notice::Done(told).at(&back),
        Err(problem) => Notice::Failed(problem.text).at(&back),
    })
}

/// Does it, and says what was done.
async fn done(visit: &Visit, path: &str, act: &str, fields: &Fields) -> Result<String, Problem> {
    let inside = &visit.inside;
    Ok(match act {
        "pause" => {
            inside.send(Method::POST, &format!("{path}/pause"), None).await?;
            "Paused: everything is kept, nothing is sent.".into()
        }
        "resume" => {
            inside.send(Method::POST, &format!("{path}/resume"), None).await?;
            "Resumed: what waits goes out now.".into()
        }
        "retry" => {
            inside.send(Method::POST, &format!("{path}/retry"), None).await?;
            "What waits is tried now.".into()
        }
        "test" => {
            let answer =
                inside.send(Method::POST, &format!("{path}/test"), Some(json!({}))).await?;
            let answer: Value = answer.read()?;
            format!(
                "A test event of {} is at the end of the queue.",
                answer["topic"].as_str().unwrap_or_default()
            )
        }
        "skip" => {
            let body = match fields.text("batch") {
                "" => Value::from(fields.object(&[], &["through"])),
                batch => json!({ "batch": batch }),
            };
            let answer: Value =
                inside.send(Method::POST, &format!("{path}/skip"), Some(body)).await?.read()?;
            let skipped = answer["skipped"].as_u64().unwrap_or_default();
            format!(
                "{} skipped: they are dead letters now.",
                text::counted(skipped, "event is", "events are")
            )
        }
        "replay" => {
            let moment = |name: &str| moment_of(fields.text(name));
            let since = moment("since")?.ok_or_else(|| Problem::bad_request("Say since when."))?;
            let body = match moment("until")? {
                Some(until) => json!({ "since": since, "until": until }),
                None => json!({ "since": since }),
            };
            let answer: Value =
                inside.send(Method::POST, &format!("{path}/replay"), Some(body)).await?.read()?;
            let replayed = answer["replayed"].as_u64().unwrap_or_default();
            format!(
                "{} put into the queue again.",
                text::counted(replayed, "event is", "events are")
            )
        }
        "delete" => {
            inside.send(Method::DELETE, path, None).await?;
            "The subscription is gone.".into()
        }
        _ => return Err(Problem::not_found("There is no such action.")),
    })
}
