//! The frame of each page.

use std::time::Duration;

use axum::Json;
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use axum::response::{Html, IntoResponse, Response};
use maud::{DOCTYPE, Markup, html};
use percent_encoding::percent_decode_str;
use serde_json::{Map, Value};

use super::assets;
use super::session::{cookie, set_cookie};
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

/// What was said of the last action.
pub enum Notice {
    Done(String),
    Failed(String),
}

const NOTICE: &str = "__Host-routemaster-notice";

impl Notice {
    pub fn of(headers: &HeaderMap) -> Option<Self> {
        let value = cookie(headers, NOTICE)?;
        let text = percent_decode_str(value.get(1..)?).decode_utf8().ok()?.into_owned();
        Some(if value.starts_with('+') { Self::Done(text) } else { Self::Failed(text) })
    }

    /// Goes to a page that shows this once.
    pub fn at(&self, path: &str) -> Response {
        let (mark, text) = match self {
            Self::Done(text) => ('+', text),
            Self::Failed(text) => ('-', text),
        };
        let text: String = text.chars().take(500).collect();
        let cookie =
            set_cookie(NOTICE, &format!("{mark}{}", encoded(&text)), Duration::from_secs(60));
        (
            StatusCode::SEE_OTHER,
            [(header::LOCATION, path), (header::SET_COOKIE, cookie.to_str().unwrap_or_default())],
        )
            .into_response()
    }

    pub fn shown(&self) -> Markup {
        match self {
            Self::Done(text) => html! { p.notice.done role="status" { (text) } },
            Self::Failed(text) => html! { p.notice.failed role="alert" { (text) } },
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
}

/// A page, for whoever asked for it.
pub struct Page {
    visit: Visit,
    title: String,
    parts: PageParts,
    status: StatusCode,
}

impl Page {
    pub fn new(visit: Visit, title: String, parts: PageParts) -> Self {
        Self { visit, title, parts, status: StatusCode::OK }
    }

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
                @if let Some(notice) = &visit.notice { (notice.shown()) }
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
            let forget = set_cookie(NOTICE, "", Duration::ZERO);
            response.headers_mut().append(header::SET_COOKIE, forget);
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
            (super::parts::code(visit))
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

/// A page without navigation, for whoever is not signed in, or for what is wrong.
pub fn bare(status: StatusCode, title: &str, content: &Markup) -> Response {
    document(status, title, &html! {}, &bare_body(content))
}

/// A page that goes on to another one at once.
pub fn moving_on(to: &str, content: &Markup) -> Response {
    let refresh = html! { meta http-equiv="refresh" content={ "0; url=" (to) }; };
    document(StatusCode::OK, "Sign in", &refresh, &bare_body(content))
}

fn bare_body(content: &Markup) -> Markup {
    html! {
        main.bare #main {
            p.brand { (assets::MARK) "Routemaster" }
            (content)
        }
    }
}

/// Nothing but what this server sends: no script and no style in the page itself, no frame around it, and its forms go
/// nowhere else.
const POLICY: HeaderValue = HeaderValue::from_static(
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; \
     form-action 'self'; frame-ancestors 'none'; base-uri 'none'",
);

fn document(status: StatusCode, title: &str, head: &Markup, body: &Markup) -> Response {
    let page = html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta name="color-scheme" content="light dark";
                title { (title) " · Routemaster" }
                link rel="icon" href=(assets::ICON.path()) type="image/svg+xml";
                link rel="stylesheet" href=(assets::STYLE.path());
                script src=(assets::SCRIPT.path()) defer {}
                (head)
            }
            body { (body) }
        }
    };
    let headers = [
        (header::CONTENT_SECURITY_POLICY, POLICY),
        (header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff")),
        (header::REFERRER_POLICY, HeaderValue::from_static("same-origin")),
        // What one sees, nobody else must find in a cache, nor after signing out.
        (header::CACHE_CONTROL, HeaderValue::from_static("no-store")),
    ];
    (status, headers, Html(page.into_string())).into_response()
}
