//! One message: when it was received and processed, by whom, and what that answered.

use axum::extract::Path;
use axum::http::Method;
use axum::response::Response;
use maud::html;
use serde::Deserialize;

use super::attempts;
use super::messages::{Message, said};
use crate::api::console::notice::Notice;
use crate::api::console::page::{Page, PageParts, Section};
use crate::api::console::parts::{self, Table};
use crate::api::console::problem::Problem;
use crate::api::console::text;
use crate::api::console::visit::{Sent, Visit};

#[derive(Deserialize)]
struct One {
    data: Message,
}

pub async fn show(Path(id): Path<String>, visit: Visit) -> Result<Page, Problem> {
    let One { data: message } =
        visit.inside.get(&format!("/api/messages/{}", text::segment(&id))).await?;
    let mut table = Table::new(
        "Who forwards it",
        &["Publisher", "State", "To", "#Attempts", "Processed", "Answer", "Next try"],
    );
    for delivery in &message.publishers {
        table.row_to(format!("/console/publishers/{}", delivery.publisher), vec![
            html! { (delivery.publisher) },
            parts::state(&delivery.state),
            parts::cut(delivery.target.as_deref().unwrap_or("gone"), 50),
            html! { (delivery.attempts) },
            html! { @if let Some(processed) = delivery.processed { (parts::moment(processed)) } },
            parts::answer(delivery.status, delivery.error.as_deref().unwrap_or_default()),
            html! { @if let Some(next) = delivery.next_try { (parts::from_now(next)) } },
        ]);
    }
    let path = format!("/console/messages/{}", message.id);
    let state = html! {
        h1 { "Message " (message.id) }
        (parts::facts(&[
            ("Topic", html! { (message.topic.as_deref().unwrap_or("gone")) }),
            ("From", html! { (message.sender) }),
            ("Received", parts::moment(message.received)),
            ("Due", parts::moment(message.due)),
        ]))
        h2 { "Who forwards it" }
        @if table.is_empty() { (parts::nothing("Nobody: its topic had no publisher.")) } @else { (table) }
        @for delivery in message.publishers.iter().filter(|delivery| !delivery.journal.is_empty()) {
            h3 { "Attempts of publisher " (delivery.publisher) }
            span.hint { "Delivery " (delivery.id) }
            (attempts::of_one(&delivery.journal))
        }
    };
    let acts = html! {
        div.acts {
            @if message.publishers.iter().any(|delivery| delivery.state != "done") {
                (parts::act(&visit, &format!("{path}/retry"), "Retry now"))
            }
            (parts::confirmed(&visit, &format!("{path}/delete"), "Erase",
                "The message is gone with all that is known of it; what waits is not forwarded.", &html! {}))
        }
    };
    let content = html! {
        h2 { "What it says" }
        @if !message.attributes.is_empty() {
            (parts::facts(&message.attributes.iter().map(|(name, value)| (name.as_str(), parts::exact(value))).collect::<Vec<_>>()))
        }
        (parts::block(&parts::pretty(&said(&message.payload))))
    };
    let title = format!("Message {}", message.id);
    Ok(visit.page(
        title,
        PageParts::of(Section::Messages).live("state", state).still(acts).still(content),
    ))
}

pub async fn act(Path((id, act)): Path<(String, String)>, sent: Sent) -> Result<Response, Problem> {
    let visit = sent.visit;
    let path = format!("/api/messages/{}", text::segment(&id));
    let page = format!("/console/messages/{}", text::segment(&id));
    let (method, path, told, then) = match act.as_str() {
        "retry" => {
            (Method::POST, format!("{path}/retry"), "It is forwarded again now.", page.as_str())
        }
        "delete" => (Method::DELETE, path, "The message is erased.", "/console/messages"),
        _ => return Err(Problem::not_found("There is no such action.")),
    };
    Ok(match visit.inside.send(method, &path, None).await {
        Ok(_) => Notice::Done(told.into()).at(then),
        Err(problem) => Notice::Failed(problem.text).at(&page),
    })
}
