//! The frame of each page.

use std::time::Duration;

use axum::Json;
use axum::http::{HeaderName, StatusCode, header};
use axum::response::{IntoResponse, Response};
use maud::{Markup, html};
use serde_json::{Map, Value};

use super::assets;
use super::document::document;
use super::notice::Notice;
use super::parts;
use super::text::encoded;
use super::visit::Visit;
use crate::http::authentication::Caller;

/// What stands in the navigation.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Section {
    Overview,
    Live,
    Topics,
    Subscriptions,
    Calls,
    MessageTopics,
    Publishers,
    Messages,
    DeadLetters,
    Journal,
    Processes,
}

impl Section {
    /// In groups, as people look for them.
    const GROUPS: [(&str, &[Self]); 4] = [
        ("", &[Self::Overview, Self::Live]),
        ("Events", &[Self::Subscriptions, Self::Topics]),
        ("Requests", &[Self::Calls, Self::Messages, Self::MessageTopics, Self::Publishers]),
        ("Operation", &[Self::DeadLetters, Self::Journal, Self::Processes]),
    ];

    /// Its title, its path, and the letter that goes there after `g`.
    fn parts(self) -> (&'static str, &'static str, char) {
        match self {
            Self::Overview => ("Overview", "/console", 'o'),
            Self::Live => ("Live", "/console/live", 'l'),
            Self::Topics => ("Topics", "/console/topics", 't'),
            Self::Subscriptions => ("Subscriptions", "/console/subscriptions", 's'),
            Self::Calls => ("Calls & postbacks", "/console/calls", 'c'),
            Self::MessageTopics => ("Message topics", "/console/message-topics", 'i'),
            Self::Publishers => ("Publishers", "/console/publishers", 'p'),
            Self::Messages => ("Messages", "/console/messages", 'm'),
            Self::DeadLetters => ("Dead letters", "/console/dead-letters", 'd'),
            Self::Journal => ("Journal", "/console/journal", 'j'),
            Self::Processes => ("Processes", "/console/processes", 'r'),
        }
    }
}

/// What a page shows.
pub struct PageParts {
    section: Section,
    /// How often it is looked whether something has changed.
    every: Duration,
    parts: Vec<Part>,
}

enum Part {
    Still(Markup),
    /// What follows what happens, by its name in the page.
    Live(&'static str, Markup),
}

/// How often it is looked whether something on a page has changed.
const EVERY: Duration = Duration::from_secs(2);

impl PageParts {
    pub fn of(section: Section) -> Self {
        Self { section, every: EVERY, parts: Vec::new() }
    }

    /// Looks so often whether something has changed.
    pub fn every(mut self, every: Duration) -> Self {
        self.every = every;
        self
    }

    pub fn still(mut self, markup: Markup) -> Self {
        self.parts.push(Part::Still(markup));
        self
    }

    /// Adds what follows what happens; it must hold no form that somebody fills in.
    pub fn live(mut self, name: &'static str, markup: Markup) -> Self {
        self.parts.push(Part::Live(name, markup));
        self
    }

    /// Adds a list, the newest first: it follows what happens, but an older page of it does not move.
    pub fn newest_first(self, visit: &Visit, list: Markup) -> Self {
        if visit.asked("after").is_some() { self.still(list) } else { self.live("list", list) }
    }
}

/// A page, for whoever asked for it.
pub struct Page {
    visit: Visit,
    title: String,
    parts: PageParts,
    status: StatusCode,
}

impl Visit {
    /// Makes a page of what it has to show.
    pub fn page(self, title: impl Into<String>, parts: PageParts) -> Page {
        Page { visit: self, title: title.into(), parts, status: StatusCode::OK }
    }
}

impl Page {
    pub fn with_status(self, status: StatusCode) -> Self {
        Self { status, ..self }
    }

    /// The parts that change, by their names.
    fn live_parts(self) -> Response {
        let parts = self.parts.parts.into_iter().filter_map(|part| match part {
            Part::Live(name, markup) => Some((name.to_owned(), Value::from(markup.into_string()))),
            Part::Still(_) => None,
        });
        let every = [(EVERY_HEADER, self.parts.every.as_millis().to_string())];
        (every, Json(parts.collect::<Map<_, _>>())).into_response()
    }

    fn whole(self) -> Response {
        let Self { visit, title, parts, status } = self;
        let follows = parts.parts.iter().any(|part| matches!(part, Part::Live(..)));
        let address = visit.uri.path_and_query().map_or("", |address| address.as_str());
        let changes = follows.then(|| format!("/console/changes?of={}", encoded(address)));
        let body = html! {
            a.skip href="#main" { "To the content" }
            header.top {
                a.brand href="/console" { (assets::MARK) "Routemaster" }
                (navigation(parts.section))
                @if follows { p.follows hidden { "following" } }
                (account(&visit))
            }
            main #main tabindex="-1" data-changes=[changes] {
                @if let Some(notice) = &visit.notice { (notice) }
                @for part in &parts.parts {
                    @match part {
                        Part::Still(markup) => { (markup) }
                        Part::Live(name, markup) => {
                            div.live id=(format!("live-{name}")) data-live=(name) { (markup) }
                        }
                    }
                }
            }
            (keys())
        };
        // Without JavaScript, a page that follows what happens is loaded again.
        let reload = html! {
            @if parts.every < EVERY { noscript { meta http-equiv="refresh" content="5"; } }
        };
        let mut response = document(status, &title, &reload, &body);
        if visit.notice.is_some() {
            response.headers_mut().append(header::SET_COOKIE, Notice::forget());
        }
        response
    }
}

/// How often a page wants to be looked at, in ms.
pub const EVERY_HEADER: HeaderName = HeaderName::from_static("x-console-every");

impl IntoResponse for Page {
    fn into_response(self) -> Response {
        if self.visit.wants_parts { self.live_parts() } else { self.whole() }
    }
}

fn navigation(current: Section) -> Markup {
    html! {
        nav aria-label="Pages" {
            @for (group, sections) in Section::GROUPS {
                div.group {
                    @if !group.is_empty() { span.group-name { (group) } }
                    ul {
                        @for section in sections {
                            @let (title, path, key) = section.parts();
                            li {
                                a href=(path) data-key=(key)
                                    aria-current=[(*section == current).then_some("page")] {
                                    (title)
                                }
                            }
                        }
                    }
                }
            }
        }
    }
}

fn account(visit: &Visit) -> Markup {
    let name = match &visit.session.caller {
        Caller::Client(client) => visit.console.api.authentication.name_of(client),
        Caller::Root => "root".into(),
        Caller::Monitor => "monitoring".into(),
    };
    html! {
        form.account method="post" action="/console/sign-out" {
            (parts::code(visit))
            span { "Signed in as " strong { (name) } }
            button.quiet type="submit" { "Sign out" }
        }
    }
}

/// What the keyboard does; the script shows it.
fn keys() -> Markup {
    let sections = Section::GROUPS.iter().flat_map(|(_, sections)| *sections);
    html! {
        dialog #keys aria-labelledby="keys-title" {
            h2 #keys-title { "Keys" }
            dl {
                div { dt { kbd { "/" } } dd { "search or filter" } }
                div { dt { kbd { "j" } " " kbd { "k" } } dd { "next row, row before" } }
                div { dt { kbd { "Enter" } } dd { "open the row" } }
                @for section in sections {
                    @let (title, _, key) = section.parts();
                    div { dt { kbd { "g" } " " kbd { (key) } } dd { (title) } }
                }
                div { dt { kbd { "?" } } dd { "this list" } }
            }
            form method="dialog" { button type="submit" { "Close" } }
        }
    }
}
