//! A new call, by a form.

use axum::http::Method;
use axum::response::{IntoResponse, Response};
use maud::{Markup, html};
use serde_json::{Map, Value};

use crate::api::console::fields::Fields;
use crate::api::console::notice::{Notice, failed};
use crate::api::console::page::{Page, PageParts, Section};
use crate::api::console::parts::{self, Field};
use crate::api::console::problem::Problem;
use crate::api::console::visit::{Sent, Visit};

pub async fn form(visit: Visit) -> Result<Page, Problem> {
    let content = content(&visit, &Fields::default(), None);
    Ok(visit.page("New call", PageParts::of(Section::Calls).still(content)))
}

fn content(visit: &Visit, fields: &Fields, problem: Option<&str>) -> Markup {
    let method = if fields.text("method").is_empty() { "POST" } else { fields.text("method") };
    let methods =
        ["GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS"].map(|method| (method, method));
    html! {
        h1 { "New call" }
        @if let Some(problem) = problem { (failed(problem)) }
        form.stacked method="post" action="/console/calls/new" {
            (parts::code(visit))
            (parts::choice("Method", "method", &methods, method))
            (Field { label: "URL", name: "url", value: fields.text("url"), hint: "Where it goes, whole.", required: true }.line("url"))
            (Field { label: "Headers", name: "headers", value: fields.whole("headers"), hint: "One a line: Name: value", required: false }.text(3))
            (Field { label: "Body", name: "body", value: fields.whole("body"), hint: "", required: false }.text(6))
            (Field { label: "Delay, in ms", name: "delay", value: fields.text("delay"), hint: "Made so much later.", required: false }.line("number"))
            (Field { label: "Attempts at most", name: "max_attempts", value: fields.text("max_attempts"), hint: "Empty: as the settings say.", required: false }.line("number"))
            (parts::switch("Make it again when it fails", "requeue", problem.is_none() || fields.is_on("requeue")))
            button.primary type="submit" { "Make the call" }
        }
    }
}

/// The body for the API: what is not filled in is left out.
fn call_of(fields: &Fields) -> Result<Value, Problem> {
    let mut call = fields.object(&["method", "url"], &["delay", "max_attempts"]);
    let mut headers = Map::new();
    for line in fields.whole("headers").lines().filter(|line| !line.trim().is_empty()) {
        let pair = line.split_once(':').ok_or_else(|| {
            Problem::bad_request(format!("“{line}” is no header: write Name: value."))
        })?;
        headers.insert(pair.0.trim().to_owned(), pair.1.trim().into());
    }
    if !headers.is_empty() {
        call.insert("headers".into(), headers.into());
    }
    if !fields.whole("body").is_empty() {
        call.insert("body".into(), fields.whole("body").replace("\r\n", "\n").into());
    }
    call.insert("requeue".into(), fields.is_on("requeue").into());
    Ok(call.into())
}

pub async fn send(sent: Sent) -> Result<Response, Problem> {
    let Sent { visit, fields } = sent;
    let made = match call_of(&fields) {
        Ok(call) => visit.inside.send(Method::POST, "/calls", Some(call)).await.map(drop),
        Err(problem) => Err(problem),
    };
    match made {
        Ok(()) => Ok(Notice::Done("The call is accepted.".into()).at("/console/calls")),
        Err(problem) => {
            let content = content(&visit, &fields, Some(&problem.text));
            let page = visit.page("New call", PageParts::of(Section::Calls).still(content));
            Ok(page.with_status(problem.form_status()).into_response())
        }
    }
}
