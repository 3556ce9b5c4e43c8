//! Topics of messages.

use axum::extract::Path;
use axum::http::Method;
use axum::response::{IntoResponse, Response};
use maud::{Markup, html};
use serde::Deserialize;
use serde_json::Value;

use super::message_topic_names::TopicNames;
use super::publishers::{self, Publishers};
use crate::api::console::fields::Fields;
use crate::api::console::notice::{Notice, failed};
use crate::api::console::page::{Page, PageParts, Section};
use crate::api::console::parts::{self, Field, Table};
use crate::api::console::problem::Problem;
use crate::api::console::text;
use crate::api::console::visit::{Sent, Visit};

#[derive(Deserialize)]
struct Topics {
    data: Vec<Topic>,
    next: Option<u64>,
}

#[derive(Deserialize)]
struct One {
    data: Topic,
}

#[derive(Deserialize)]
struct Topic {
    id: u64,
    name: String,
    origin_host: String,
    recovery_enabled: bool,
    created: u64,
}

pub async fn list(visit: Visit) -> Result<Page, Problem> {
    let after = visit.asked("after");
    let address =
        text::address("/api/topics", &[("limit", Some("100")), ("after", after.as_deref())]);
    let topics: Topics = visit.inside.get(&address).await?;
    let mut table = Table::new("Message topics", &["Topic", "#Id", "Origin", "Recovery", "Made"]);
    for topic in &topics.data {
        table.row_to(
            format!("/console/message-topics/{}", topic.id),
            vec![
                html! { (topic.name) },
                html! { (topic.id) },
                html! { (topic.origin_host) },
                html! { @if topic.recovery_enabled { "on" } @else { "off" } },
                parts::moment(topic.created),
            ],
        );
    }
    let next = topics.next.map(|next| next.to_string());
    let content = html! {
        div.heading {
            h1 { "Message topics" }
            a.button href="/console/message-topics/new" { "New topic" }
        }
        @if table.is_empty() { (parts::nothing("No topic for messages yet. Messages are sent to one, and its publishers forward them.")) }
        @else { (table) }
        (parts::older(&visit, next.as_deref(), None))
    };
    Ok(visit.page("Message topics", PageParts::of(Section::MessageTopics).still(content)))
}

pub async fn show(Path(id): Path<u64>, visit: Visit) -> Result<Page, Problem> {
    let One { data: topic } = visit.inside.get(&format!("/api/topics/{id}")).await?;
    let of_topic: Publishers =
        visit.inside.get(&format!("/api/publishers?topic={id}&limit=200")).await?;
    let names = TopicNames::of_one(topic.id, topic.name.clone());
    let table = publishers::table(&of_topic.data, &names);
    let content = html! {
        div.heading {
            h1 { "Message topic " (topic.name) }
            a.button href=(text::address("/console/publishers/new", &[("topic", Some(&topic.name))])) { "New publisher" }
        }
        (parts::facts(&[
            ("Id", html! { (topic.id) }),
            ("Origin", html! { (topic.origin_host) }),
            ("Recovery", html! { @if topic.recovery_enabled { "lost messages are fetched from the origin" } @else { "off" } }),
            ("Made", parts::moment(topic.created)),
            ("Messages", html! { a href=(text::address("/console/messages", &[("topic", Some(&id.to_string()))])) { "Those of this topic" } }),
        ]))
        h2 { "Publishers" }
        @if table.is_empty() { (parts::nothing("No publisher: what is sent to this topic goes nowhere.")) }
        @else { (table) }
        h2 { "End it" }
        (parts::confirmed(&visit, &format!("/console/message-topics/{id}/delete"), "Delete the topic",
            "The topic is gone for good.", &html! {
                (parts::switch("also its publishers, and what waits for them", "cascade", false))
            }))
    };
    let title = format!("Message topic {}", topic.name);
    Ok(visit.page(title, PageParts::of(Section::MessageTopics).still(content)))
}

pub async fn form(visit: Visit) -> Result<Page, Problem> {
    let content = content(&visit, &Fields::default(), None);
    Ok(visit.page("New message topic", PageParts::of(Section::MessageTopics).still(content)))
}

fn content(visit: &Visit, fields: &Fields, problem: Option<&str>) -> Markup {
    html! {
        h1 { "New message topic" }
        @if let Some(problem) = problem { (failed(problem)) }
        form.stacked method="post" action="/console/message-topics/new" {
            (parts::code(visit))
            (Field { label: "Name", name: "name", value: fields.text("name"), hint: "", required: true }.line("text"))
            (Field { label: "Origin", name: "origin_host", value: fields.text("origin_host"), hint: "Where its messages come from, as a URL.", required: true }.line("text"))
            (parts::switch("Fetch messages from the origin that got lost", "recovery_enabled", fields.is_on("recovery_enabled")))
            button.primary type="submit" { "Make the topic" }
        }
    }
}

pub async fn add(sent: Sent) -> Result<Response, Problem> {
    let Sent { visit, fields } = sent;
    let mut body = fields.object(&["name", "origin_host"], &[]);
    body.insert("recovery_enabled".into(), fields.is_on("recovery_enabled").into());
    match visit.inside.send(Method::POST, "/api/topics", Some(body.into())).await {
        Ok(answer) => {
            let added: Value = answer.read()?;
            let path = format!("/console/message-topics/{}", added["data"]["id"]);
            Ok(Notice::Done("The topic is there. It needs a publisher.".into()).at(&path))
        }
        Err(problem) => {
            let content = content(&visit, &fields, Some(&problem.text));
            let page = visit
                .page("New message topic", PageParts::of(Section::MessageTopics).still(content));
            Ok(page.with_status(problem.form_status()).into_response())
        }
    }
}

pub async fn delete(Path(id): Path<u64>, sent: Sent) -> Result<Response, Problem> {
    let Sent { visit, fields } = sent;
    let cascade = fields.is_on("cascade").then_some("true");
    let address = text::address(&format!("/api/topics/{id}"), &[("cascade", cascade)]);
    Ok(match visit.inside.send(Method::DELETE, &address, None).await {
        Ok(_) => Notice::Done("The topic is deleted.".into()).at("/console/message-topics"),
        Err(problem) => Notice::Failed(problem.text).at(&format!("/console/message-topics/{id}")),
    })
}
