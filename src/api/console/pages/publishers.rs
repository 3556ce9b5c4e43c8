//! Publishers: who forwards the messages of a topic, and where to.

use axum::extract::Path;
use axum::http::Method;
use axum::response::{IntoResponse, Response};
use maud::{Markup, html};
use serde::Deserialize;
use serde_json::{Value, json};

use super::message_topic_names::TopicNames;
use crate::api::console::fields::Fields;
use crate::api::console::notice::{Notice, failed};
use crate::api::console::page::{Page, PageParts, Section};
use crate::api::console::parts::{self, Field, Table};
use crate::api::console::problem::Problem;
use crate::api::console::text;
use crate::api::console::visit::{Sent, Visit};

#[derive(Deserialize)]
pub struct Publishers {
    pub data: Vec<Publisher>,
    next: Option<u64>,
}

#[derive(Deserialize)]
struct One {
    data: Publisher,
}

#[derive(Deserialize)]
pub struct Publisher {
    id: u64,
    topic: u64,
    r#type: String,
    target: String,
    active: bool,
    from_now: bool,
    seconds_timeout: u64,
    seconds_retry: u64,
    chunk_size: u32,
    max_attempts: Option<u32>,
    created: u64,
}

/// What may be changed, and is a number.
const NUMBERS: [&str; 4] = ["seconds_timeout", "seconds_retry", "chunk_size", "max_attempts"];

/// Publishers, as a table.
pub fn table(publishers: &[Publisher], topics: &TopicNames) -> Table {
    let mut table = Table::new("Publishers", &["Target", "State", "Type", "Topic", "#Id", "Made"]);
    for publisher in publishers {
        table.row_to(
            format!("/console/publishers/{}", publisher.id),
            vec![
                parts::cut(&publisher.target, 70),
                parts::state(if publisher.active { "active" } else { "inactive" }),
                html! { (publisher.r#type) },
                html! { (topics.of(publisher.topic)) },
                html! { (publisher.id) },
                parts::moment(publisher.created),
            ],
        );
    }
    table
}

pub async fn list(visit: Visit) -> Result<Page, Problem> {
    let (after, topic) = (visit.asked("after"), visit.asked("topic"));
    let address = text::address(
        "/api/publishers",
        &[("limit", Some("100")), ("after", after.as_deref()), ("topic", topic.as_deref())],
    );
    let publishers: Publishers = visit.inside.get(&address).await?;
    let table = table(&publishers.data, &TopicNames::all(&visit).await?);
    let next = publishers.next.map(|next| next.to_string());
    let content = html! {
        div.heading {
            h1 { "Publishers" }
            a.button href="/console/publishers/new" { "New publisher" }
        }
        (parts::filters("/console/publishers", &html! {
            (parts::filter_line(&visit, "Id of a topic", "topic", "number"))
        }, visit.uri.query().is_some()))
        @if table.is_empty() { (parts::nothing("No publisher. A publisher forwards the messages of a topic to a target.")) }
        @else { (table) }
        (parts::older(&visit, next.as_deref(), None))
    };
    Ok(visit.page("Publishers", PageParts::of(Section::Publishers).still(content)))
}

pub async fn show(Path(id): Path<u64>, visit: Visit) -> Result<Page, Problem> {
    let One { data: publisher } = visit.inside.get(&format!("/api/publishers/{id}")).await?;
    let topics = TopicNames::all(&visit).await?;
    let content = content(&visit, &publisher, &topics, None);
    Ok(visit.page(format!("Publisher {id}"), PageParts::of(Section::Publishers).still(content)))
}

fn content(
    visit: &Visit,
    publisher: &Publisher,
    topics: &TopicNames,
    problem: Option<&str>,
) -> Markup {
    let path = format!("/console/publishers/{}", publisher.id);
    let max_attempts =
        publisher.max_attempts.map(|attempts| attempts.to_string()).unwrap_or_default();
    let number = |label, name, value: &str, hint| {
        Field { label, name, value, hint, required: false }.line("number")
    };
    html! {
        h1 { "Publisher " (publisher.id) " " (parts::state(if publisher.active { "active" } else { "inactive" })) }
        @if let Some(problem) = problem { (failed(problem)) }
        (parts::facts(&[
            ("Target", parts::exact(&publisher.target)),
            ("Type", html! { (publisher.r#type) }),
            ("Topic", html! { a href={ "/console/message-topics/" (publisher.topic) } { (topics.of(publisher.topic)) } }),
            ("Gets", html! { @if publisher.from_now { "what came after it was made" } @else { "also what came before it" } }),
            ("Made", parts::moment(publisher.created)),
            ("Messages", html! { a href=(text::address("/console/messages", &[("publisher", Some(&publisher.id.to_string()))])) { "Those it forwards" } }),
        ]))
        div.acts {
            @if publisher.active { (parts::act(visit, &format!("{path}/deactivate"), "Deactivate")) }
            @else { (parts::act(visit, &format!("{path}/activate"), "Activate")) }
            (parts::confirmed(visit, &format!("{path}/delete"), "Delete",
                "The publisher is gone, and what waits for it is not forwarded.", &html! {}))
        }
        h2 { "Edit" }
        form.stacked method="post" action=(path) {
            (parts::code(visit))
            (number("Timeout, in s", "seconds_timeout", &publisher.seconds_timeout.to_string(), ""))
            (number("Retry after, in s", "seconds_retry", &publisher.seconds_retry.to_string(), ""))
            (number("Messages at once", "chunk_size", &publisher.chunk_size.to_string(), "In one request, to Google Pub/Sub."))
            (number("Attempts at most", "max_attempts", &max_attempts, "Empty: as the settings say."))
            button.primary type="submit" { "Save" }
        }
    }
}

pub async fn change(Path(id): Path<u64>, sent: Sent) -> Result<Response, Problem> {
    let Sent { visit, fields } = sent;
    let mut body = fields.object(&[], &NUMBERS);
    if fields.text("max_attempts").is_empty() {
        body.insert("max_attempts".into(), Value::Null);
    }
    let path = format!("/api/publishers/{id}");
    let page = format!("/console/publishers/{id}");
    match visit.inside.send(Method::PATCH, &path, Some(body.into())).await {
        Ok(_) => Ok(Notice::Done("Saved.".into()).at(&page)),
        Err(problem) => {
            let One { data: publisher } = visit.inside.get(&path).await?;
            let topics = TopicNames::all(&visit).await?;
            let content = content(&visit, &publisher, &topics, Some(&problem.text));
            let page = visit
                .page(format!("Publisher {id}"), PageParts::of(Section::Publishers).still(content));
            Ok(page.with_status(problem.form_status()).into_response())
        }
    }
}

pub async fn act(Path((id, act)): Path<(u64, String)>, sent: Sent) -> Result<Response, Problem> {
    let visit = sent.visit;
    let (path, page) = (format!("/api/publishers/{id}"), format!("/console/publishers/{id}"));
    let active = |active: bool| Some(json!({ "active": active }));
    let (method, body, told, then) = match act.as_str() {
        "activate" => (
            Method::PATCH,
            active(true),
            "It forwards from now on, also what waits.",
            page.as_str(),
        ),
        "deactivate" => {
            (Method::PATCH, active(false), "It forwards nothing; what comes waits.", page.as_str())
        }
        "delete" => (Method::DELETE, None, "The publisher is deleted.", "/console/publishers"),
        _ => return Err(Problem::not_found("There is no such action.")),
    };
    Ok(match visit.inside.send(method, &path, body).await {
        Ok(_) => Notice::Done(told.into()).at(then),
        Err(problem) => Notice::Failed(problem.text).at(&page),
    })
}

pub async fn form(visit: Visit) -> Result<Page, Problem> {
    let topic = visit.asked("topic").unwrap_or_default();
    let fields = Fields::read(format!("topic={}", text::encoded(&topic)).as_bytes());
    let topics = TopicNames::all(&visit).await?;
    let content = new_content(&visit, &fields, &topics, None);
    Ok(visit.page("New publisher", PageParts::of(Section::Publishers).still(content)))
}

fn new_content(
    visit: &Visit,
    fields: &Fields,
    topics: &TopicNames,
    problem: Option<&str>,
) -> Markup {
    let topics: Vec<_> = topics.iter().map(|name| (name, name)).collect();
    let field = |label, name, hint, required| Field {
        label,
        name,
        value: fields.text(name),
        hint,
        required,
    };
    html! {
        h1 { "New publisher" }
        @if let Some(problem) = problem { (failed(problem)) }
        @if topics.is_empty() {
            p.notice.warn { "There is no topic to forward messages of: " a href="/console/message-topics/new" { "make one first" } "." }
        }
        form.stacked method="post" action="/console/publishers/new" {
            (parts::code(visit))
            (parts::choice("Topic", "topic", &topics, fields.text("topic")))
            (parts::choice("Type", "type", &[("http", "HTTP"), ("pubsub", "Google Pub/Sub")], fields.text("type")))
            (field("Target", "target", "A URL, or projects/<project>/topics/<topic>.", true).line("text"))
            (parts::switch("Only what comes from now on", "from_now", problem.is_none() || fields.is_on("from_now")))
            (parts::switch("Active", "active", problem.is_none() || fields.is_on("active")))
            (field("Timeout, in s", "seconds_timeout", "Empty: 5.", false).line("number"))
            (field("Retry after, in s", "seconds_retry", "Empty: 30.", false).line("number"))
            (field("Messages at once", "chunk_size", "In one request, to Google Pub/Sub. Empty: 20.", false).line("number"))
            (field("Attempts at most", "max_attempts", "Empty: as the settings say.", false).line("number"))
            button.primary type="submit" { "Make the publisher" }
        }
    }
}

pub async fn add(sent: Sent) -> Result<Response, Problem> {
    let Sent { visit, fields } = sent;
    let mut body = fields.object(&["topic", "type", "target"], &NUMBERS);
    for switch in ["active", "from_now"] {
        body.insert(switch.into(), fields.is_on(switch).into());
    }
    match visit.inside.send(Method::POST, "/api/publishers", Some(body.into())).await {
        Ok(answer) => {
            let added: Value = answer.read()?;
            let path = format!("/console/publishers/{}", added["data"]["id"]);
            Ok(Notice::Done("The publisher is there.".into()).at(&path))
        }
        Err(problem) => {
            let topics = TopicNames::all(&visit).await?;
            let content = new_content(&visit, &fields, &topics, Some(&problem.text));
            let page =
                visit.page("New publisher", PageParts::of(Section::Publishers).still(content));
            Ok(page.with_status(problem.form_status()).into_response())
        }
    }
}
