//! What is said once of the last action: it goes to the next page in a cookie.

use std::time::Duration;

use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use maud::{Markup, Render, html};
use percent_encoding::percent_decode_str;

use super::session::{cookie, set_cookie};
use super::text::encoded;

/// What was said of the last action.
pub enum Notice {
    Done(String),
    Failed(String),
}

const COOKIE: &str = "__Host-routemaster-notice";

impl Notice {
    pub fn of(headers: &HeaderMap) -> Option<Self> {
        let value = cookie(headers, COOKIE)?;
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
            set_cookie(COOKIE, &format!("{mark}{}", encoded(&text)), Duration::from_secs(60));
        let mut response = (StatusCode::SEE_OTHER, [(header::LOCATION, path)]).into_response();
        response.headers_mut().append(header::SET_COOKIE, cookie);
        response
    }

    /// Makes the browser forget it.
    pub fn forget() -> HeaderValue {
        set_cookie(COOKIE, "", Duration::ZERO)
    }
}

impl Render for Notice {
    fn render(&self) -> Markup {
        match self {
            Self::Done(text) => html! { p.notice.done role="status" { (text) } },
            Self::Failed(text) => failed(text),
        }
    }
}

/// That something does not work, where it is seen at once.
pub fn failed(what: impl Render) -> Markup {
    html! { p.notice.failed role="alert" { (what) } }
}
