//! The journal: every attempt.

use maud::{Markup, html};
use serde::Deserialize;

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
pub async fn find(visit: &Visit, limit: &str, within_ms: &str) -> Result<Entries, Problem> {
    let client = clients::asked(visit).await?;
    let (since, until) = (visit.asked_moment("since")?, visit.asked_moment("until")?);
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
        ("within", Some(within_ms)),
    ]);
    visit.inside.get(&text::address("/journal", &parameters)).await
}

pub async fn list(visit: Visit) -> Result<Page, Problem> {
    let found = find(&visit, "50", WITHIN_MS).await?;
    let list = html! {
        @if found.entries.is_empty() && found.next.is_none() {
            (parts::nothing("No attempt matches. Each attempt at a batch, call, postback or message stands here, for as long as ROUTEMASTER_JOURNAL_RETENTION says."))
        } @else {
            (attempts::table(&visit, &found.entries, "Attempts, the newest first"))
        }
        (parts::older(&visit, found.next.as_deref(), found.back_to))
    };
    let head = html! { h1 { "Journal" } (filters(&visit, "/console/journal")) };
    let parts = PageParts::of(Section::Journal).still(head).newest_first(&visit, list);
    Ok(visit.page("Journal", parts))
}
