//! A request for a page, by somebody who is signed in.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::{FromRequest, FromRequestParts, Request};
use axum::http::request::Parts;
use axum::http::{Method, Uri, header};
use axum::response::{IntoResponse, Redirect, Response};

use super::Console;
use super::fields::Fields;
use super::inside::Inside;
use super::notice::Notice;
use super::problem::Problem;
use super::session::{Session, is_same};
use crate::api::extract::{learn, peer};
use crate::http::audit::Actor;
use crate::http::authentication::Caller;
use crate::http::body::BodyLimits;
use crate::http::host_in;
use crate::http::in_flight::Requester;
use crate::http::query;

/// Whoever visits, and what for.
pub struct Visit {
    pub console: Arc<Console>,
    pub session: Session,
    pub uri: Uri,
    /// Under which name, and port, the bus was asked.
    pub host: Option<String>,
    /// The API, asked in the visitor's name.
    pub inside: Inside,
    /// What was said of the last action.
    pub notice: Option<Notice>,
    /// Whether only the parts that change are wanted.
    pub wants_parts: bool,
}

/// A request of the console to itself has this header: only the parts of a page that change are wanted.
pub const PARTS: &str = "x-console-parts";

impl Visit {
    pub fn is_root(&self) -> bool {
        self.session.caller == Caller::Root
    }

    /// Who does something here, for the log.
    pub fn actor(&self) -> Actor {
        Actor { caller: self.session.caller.clone(), from: self.inside.from() }
    }

    /// A value from the address; `None` if it is empty.
    pub fn asked(&self, name: &str) -> Option<String> {
        query::text(&self.uri, name)
            .map(|text| text.trim().to_owned())
            .filter(|text| !text.is_empty())
    }

    pub fn now_ms(&self) -> u64 {
        self.console.api.clock.now_ms()
    }

    /// A moment from the address, in milliseconds since the epoch.
    ///
    /// # Errors
    /// If it is none: what it was to leave out would be shown.
    pub fn asked_moment(&self, name: &str) -> Result<Option<String>, Problem> {
        moment_of(&self.asked(name).unwrap_or_default()).map(|ms| ms.map(|ms| ms.to_string()))
    }

    /// Behind how many of a list it goes on.
    pub fn asked_offset(&self) -> usize {
        self.asked("after").and_then(|after| after.parse().ok()).unwrap_or(0)
    }

    /// The address that was asked for, with this parameter besides, and from the beginning of its list.
    pub fn address_with(&self, parameter: Option<(&str, &str)>) -> String {
        let query = self.uri.query().unwrap_or_default();
        let pairs =
            url::form_urlencoded::parse(query.as_bytes()).filter(|(name, _)| name != "after");
        let mut query = url::form_urlencoded::Serializer::new(String::new());
        let query = query.extend_pairs(pairs).extend_pairs(parameter).finish();
        let path = self.uri.path();
        if query.is_empty() { path.to_owned() } else { format!("{path}?{query}") }
    }
}

/// What keeps somebody from a page.
pub enum NotSignedIn {
    /// They have to sign in; where that is done.
    SignIn(String),
    /// They have tried too often.
    TooOften(Problem),
}

impl IntoResponse for NotSignedIn {
    fn into_response(self) -> Response {
        match self {
            Self::SignIn(address) => Redirect::to(&address).into_response(),
            Self::TooOften(problem) => problem.into_response(),
        }
    }
}

impl FromRequestParts<Arc<Console>> for Visit {
    type Rejection = NotSignedIn;

    async fn from_request_parts(
        parts: &mut Parts,
        console: &Arc<Console>,
    ) -> Result<Self, NotSignedIn> {
        let session = signed_in(console, parts).await?;
        learn(parts, (&session.caller).into());
        Ok(Self {
            console: console.clone(),
            inside: Inside::new(console, &session, parts),
            session,
            uri: parts.uri.clone(),
            host: host_in(&parts.headers, &parts.uri).map(str::to_owned),
            notice: Notice::of(&parts.headers),
            wants_parts: parts.headers.contains_key(PARTS),
        })
    }
}

async fn signed_in(console: &Console, parts: &Parts) -> Result<Session, NotSignedIn> {
    let found = console.sessions.of(&console.api, &parts.headers, peer(parts)).await;
    if let Some(session) = found.map_err(|refusal| NotSignedIn::TooOften(refusal.into()))? {
        return Ok(session);
    }
    let path = parts.uri.path_and_query().map_or("", |path| path.as_str());
    let is_page = parts.method == Method::GET && path != super::PATH;
    let then = is_page.then_some(path);
    Err(NotSignedIn::SignIn(super::text::address("/console/sign-in", &[("then", then)])))
}

/// A form that somebody sent who is signed in; it carried the code of its session.
pub struct Sent {
    pub visit: Visit,
    pub fields: Fields,
}

impl FromRequest<Arc<Console>> for Sent {
    type Rejection = Response;

    async fn from_request(request: Request, console: &Arc<Console>) -> Result<Self, Response> {
        let (mut parts, body) = request.into_parts();
        let visit = Visit::from_request_parts(&mut parts, console)
            .await
            .map_err(IntoResponse::into_response)?;
        let fields = read_form(&console.api.bodies, &parts, body).await;
        let fields = fields.map_err(IntoResponse::into_response)?;
        if !is_same(fields.text("code"), &visit.session.form_code) {
            let problem =
                Problem::forbidden("this form is not of your session: load its page again");
            return Err(problem.into_response());
        }
        Ok(Self { visit, fields })
    }
}

/// Reads a form that was sent.
///
/// # Errors
/// If it is no form, too large, or does not arrive.
pub async fn read_form(limits: &BodyLimits, parts: &Parts, body: Body) -> Result<Fields, Problem> {
    let requester = parts.extensions.get::<Requester>().cloned().unwrap_or_default();
    let body = limits.read(&parts.headers, body, requester.holder()).await?;
    let content_type = parts.headers.get(header::CONTENT_TYPE).map(|value| value.as_bytes());
    if content_type != Some(b"application/x-www-form-urlencoded") {
        return Err(Problem::bad_request("a form is expected"));
    }
    Ok(Fields::read(&body.bytes))
}

/// A moment that somebody wrote; `None` if they wrote none.
///
/// # Errors
/// If it cannot be read.
pub fn moment_of(text: &str) -> Result<Option<u64>, Problem> {
    if text.is_empty() {
        return Ok(None);
    }
    let read = super::text::read_moment(text);
    read.map(Some).ok_or_else(|| Problem::bad_request(format!("“{text}” is no time.")))
}
