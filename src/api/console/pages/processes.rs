//! The processes of the bus.

use axum::extract::Path;
use axum::http::Method;
use axum::response::Response;
use maud::{Markup, html};

use crate::api::console::notice::{Notice, failed};
use crate::api::console::page::{Page, PageParts, Section};
use crate::api::console::parts::{self, Table};
use crate::api::console::problem::Problem;
use crate::api::console::text;
use crate::api::console::visit::{Sent, Visit};
use crate::bus::process::{PlacesInUse, Process};

/// The processes, as a table.
///
/// # Errors
/// If the API refuses.
pub async fn table(visit: &Visit) -> Result<(Table, bool), Problem> {
    let processes: Vec<Process> = visit.inside.get("/processes").await?;
    let mut table = Table::new(
        "Processes",
        &["Host", "Role", "State", "#Batches", "#Calls", "Up since", "Version", "Actions"],
    );
    let has_worker = processes.iter().any(Process::is_worker);
    for process in &processes {
        table.row(vec![
            html! { (process.host) " " span.hint { "pid " (process.pid) } },
            html! { (process.role) },
            parts::state(if process.draining { "draining" } else { "active" }),
            in_use(process.deliveries),
            in_use(process.calls),
            parts::moment(process.since),
            html! { (process.version) },
            html! {
                @if process.is_worker() && visit.is_root() {
                    @let action = format!("/console/processes/{}", text::segment(&process.id));
                    @if process.draining { (parts::act(visit, &format!("{action}/resume"), "Deliver again")) }
                    @else { (parts::act(visit, &format!("{action}/drain"), "Drain")) }
                }
            },
        ]);
    }
    Ok((table, has_worker))
}

/// That events are accepted, and nobody is there to deliver them.
pub fn none_delivers() -> Markup {
    failed(html! { "No process delivers: start " code { "routemaster worker" } "." })
}

fn in_use(places: Option<PlacesInUse>) -> Markup {
    match places {
        Some(PlacesInUse { used, max }) => {
            html! { (text::number(used)) " of " (text::number(max)) }
        }
        None => html! { "–" },
    }
}

pub async fn list(visit: Visit) -> Result<Page, Problem> {
    let (table, has_worker) = table(&visit).await?;
    let content = html! {
        h1 { "Processes" }
        p.hint { "A drained worker begins nothing more and goes on running: stop it when nothing is on its way." }
        @if !has_worker { (none_delivers()) }
        (table)
    };
    Ok(visit.page("Processes", PageParts::of(Section::Processes).live("processes", content)))
}

pub async fn act(Path((id, act)): Path<(String, String)>, sent: Sent) -> Result<Response, Problem> {
    let done = match act.as_str() {
        "drain" => "The worker begins nothing more, within 5 s.",
        "resume" => "The worker delivers again, within 5 s.",
        _ => return Err(Problem::not_found("There is no such action.")),
    };
    let path = format!("/processes/{}/{act}", text::segment(&id));
    let told = match sent.visit.inside.send(Method::POST, &path, None).await {
        Ok(_) => Notice::Done(done.into()),
        Err(problem) => Notice::Failed(problem.text),
    };
    Ok(told.at("/console/processes"))
}
