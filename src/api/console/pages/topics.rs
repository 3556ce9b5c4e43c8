//! Topics of events.

use axum::extract::Path;
use axum::http::Method;
use axum::response::Response;
use maud::html;
use serde_json::json;

use crate::api::console::notice::Notice;
use crate::api::console::page::{Page, PageParts, Section};
use crate::api::console::parts::{self, Field, Table};
use crate::api::console::problem::Problem;
use crate::api::console::text;
use crate::api::console::visit::{Sent, Visit};
use crate::bus::topic::Topic;
use crate::http::authentication::Caller;

const PER_PAGE: usize = 100;

/// Who publishes to a topic, by name.
fn publisher(visit: &Visit, topic: &Topic) -> String {
    let publisher = topic.publisher.as_ref();
    publisher.map(|client| visit.console.api.authentication.name_of(client)).unwrap_or_default()
}

fn path_of(topic: &Topic) -> String {
    format!("/console/topics/{}", text::segment(topic.name.as_str()))
}

pub async fn list(visit: Visit) -> Result<Page, Problem> {
    let overall = visit.console.board.look().await?;
    let name = visit.asked("name").unwrap_or_default().to_lowercase();
    let from = visit.asked_offset();
    let mut matching = overall
        .topics
        .iter()
        .filter(|topic| {
            topic.name.as_str().contains(&name)
                || publisher(&visit, topic).to_lowercase().contains(&name)
        })
        .skip(from);
    let mut table =
        Table::new("Topics", &["Topic", "Publisher", "#Events", "#Subscribers", "Keeps"]);
    for topic in matching.by_ref().take(PER_PAGE) {
        table.row_to(
            path_of(topic),
            vec![
                html! { (topic.name) },
                html! { (publisher(&visit, topic)) },
                html! { (text::number(topic.events)) },
                html! { (overall.subscribers(&topic.name)) },
                html! {
                    @if let Some(keep) = &topic.keep {
                        (text::span(keep.age.as_millis() as u64)) ", " (text::bytes(keep.bytes))
                    } @else { "nothing" }
                },
            ],
        );
    }
    let next = matching.next().map(|_| (from + PER_PAGE).to_string());
    let head = html! {
        h1 { "Topics" }
        (parts::filters("/console/topics", &html! {
            (parts::filter_line(&visit, "Topic or publisher", "name", "search"))
        }, visit.uri.query().is_some()))
    };
    let list = html! {
        @if table.is_empty() && name.is_empty() {
            (parts::nothing("No topic yet: the first event that is published to one makes it."))
        } @else if table.is_empty() { (parts::nothing("No topic matches.")) }
        @else { (table) }
        (parts::older(&visit, next.as_deref(), None))
    };
    Ok(visit.page("Topics", PageParts::of(Section::Topics).still(head).live("list", list)))
}

pub async fn show(Path(name): Path<String>, visit: Visit) -> Result<Page, Problem> {
    let overall = visit.console.board.look().await?;
    let topic = overall.topics.iter().find(|topic| topic.name.as_str() == name);
    let Some(topic) = topic else { return Err(Problem::not_found("There is no such topic.")) };
    let path = path_of(topic);
    let is_own = match &visit.session.caller {
        Caller::Root => true,
        Caller::Client(own) => topic.publisher.as_ref() == Some(own),
        Caller::Monitor => false,
    };
    let mut table = Table::new("Subscribers", &["Subscriber", "#Waiting"]);
    let all = overall.subscriptions.iter();
    for status in
        all.filter(|status| status.subscription.topics.contains(&topic.name)).take(PER_PAGE)
    {
        let name = visit.console.api.authentication.name_of(&status.subscriber);
        let cells = vec![html! { (name) }, html! { (text::number(status.queued)) }];
        match visit.session.caller.may_see_secrets_of(&status.subscriber) {
            true => table.row_to(
                format!("/console/subscriptions/{}", status.subscriber.short_hash()),
                cells,
            ),
            false => table.row(cells),
        }
    }
    let (ms, bytes) =
        topic.keep.as_ref().map_or((0, 0), |keep| (keep.age.as_millis() as u64, keep.bytes));
    let facts = html! {
        h1 { "Topic " (topic.name) }
        (parts::facts(&[
            ("Publisher", html! { (publisher(&visit, topic)) }),
            ("Events ever", html! { (text::number(topic.events)) }),
            ("Subscribers", html! { (overall.subscribers(&topic.name)) }),
        ]))
    };
    let subscribers = html! {
        h2 { "Subscribers" }
        @if table.is_empty() { (parts::nothing("Nobody has subscribed: what is published goes to nobody.")) }
        @else { (table) }
    };
    let acts = html! {
        @if is_own {
            h2 { "Keep events" }
            p.hint { "What a topic keeps can be replayed to subscribers, also to new ones. Both 0: nothing." }
            form.inline method="post" action={ (path) "/keep" } {
                (parts::code(&visit))
                (Field { label: "For, in ms", name: "ms", value: &ms.to_string(), hint: "", required: true }.line("number"))
                (Field { label: "At most, in bytes", name: "bytes", value: &bytes.to_string(), hint: "", required: true }.line("number"))
                button type="submit" { "Keep" }
            }
            (parts::confirmed(&visit, &format!("{path}/delete"), "Delete the topic",
                "Nobody is subscribed to it any more. Events that wait in queues stay.", &html! {}))
        }
    };
    let parts = PageParts::of(Section::Topics)
        .live("facts", facts)
        .live("subscribers", subscribers)
        .still(acts);
    Ok(visit.page(format!("Topic {name}"), parts))
}

pub async fn act(
    Path((name, act)): Path<(String, String)>,
    sent: Sent,
) -> Result<Response, Problem> {
    let Sent { visit, fields } = sent;
    let (path, back) = (
        format!("/topics/{}", text::segment(&name)),
        format!("/console/topics/{}", text::segment(&name)),
    );
    let (done, page, told) = match act.as_str() {
        "keep" => {
            let number = |name: &str| fields.text(name).parse::<u64>().unwrap_or(u64::MAX);
            let body = json!({ "ms": number("ms"), "bytes": number("bytes") });
            let done = visit.inside.send(Method::PUT, &format!("{path}/keep"), Some(body)).await;
            (done, back.clone(), "It keeps its events from now on as you say.")
        }
        "delete" => {
            let done = visit.inside.send(Method::DELETE, &path, None).await;
            (done, "/console/topics".to_owned(), "The topic is deleted.")
        }
        _ => return Err(Problem::not_found("There is no such action.")),
    };
    if done.is_ok() {
        visit.console.board.forget().await;
    }
    Ok(match done {
        Ok(_) => Notice::Done(told.into()).at(&page),
        Err(problem) => Notice::Failed(problem.text).at(&back),
    })
}
