//! What passes right now.

use std::time::Duration;

use maud::html;

use super::{attempts, journal};
use crate::api::console::page::{Page, PageParts, Section};
use crate::api::console::parts;
use crate::api::console::problem::Problem;
use crate::api::console::visit::Visit;

/// How often is looked: what passes is seen within a second.
const EVERY: Duration = Duration::from_millis(500);
/// For how long is looked for what matches: what has just passed stands in front.
const WITHIN_MS: &str = "5";

pub async fn show(visit: Visit) -> Result<Page, Problem> {
    let found = journal::find(&visit, "40", WITHIN_MS).await?;
    let head = html! {
        div.heading {
            h1 { "Live" }
            button.quiet type="button" data-hold hidden { "Hold" }
        }
        (journal::filters(&visit, "/console/live"))
    };
    let list = html! {
        @if found.entries.is_empty() {
            (parts::nothing("Nothing has passed that matches. Attempts show up here within a second."))
        } @else {
            (attempts::table(&visit, &found.entries, "Attempts as they pass, the newest first"))
        }
    };
    Ok(visit.page("Live", PageParts::of(Section::Live).every(EVERY).still(head).live("list", list)))
}
