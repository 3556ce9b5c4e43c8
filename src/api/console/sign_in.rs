//! Signing in, and out.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderValue, StatusCode, Uri, header};
use axum::response::{IntoResponse, Redirect, Response};
use maud::html;

use super::document;
use super::notice::Notice;
use super::problem::Problem;
use super::session::{COOKIE, Sessions, TERM, authorization, cookie, is_same, set_cookie};
use super::visit::{Sent, read_form};
use super::{Console, PATH};
use crate::api::extract::peer;
use crate::bus::token::random_hex;
use crate::http::audit::Actor;
use crate::http::authentication::{Caller, user_names};
use crate::http::body::BodyLimits;
use crate::http::query;

/// Binds the form to the browser that got it.
const FORM_COOKIE: &str = "__Host-routemaster-sign-in";
/// How long the form may stay open.
const FORM_TERM: Duration = Duration::from_secs(3600);

/// The largest form that is read of somebody who is not known, in bytes.
const FORM_MAX: usize = 4096;

/// Links that sign somebody in once; in the memory of the process that prints them.
#[derive(Default)]
pub struct SignInLinks(Mutex<Option<(String, String)>>);

impl SignInLinks {
    /// The path of a link that signs the holder of this token in, once. One that was made before is none any more.
    ///
    /// # Errors
    /// If there is no randomness.
    pub fn make(&self, token: &str) -> anyhow::Result<String> {
        let code = random_hex()?;
        let path = format!("{PATH}/sign-in?once={code}");
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some((code, token.to_owned()));
        Ok(path)
    }

    fn take(&self, code: &str) -> Option<String> {
        let mut link = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        link.take_if(|(known, _)| is_same(known, code)).map(|(_, token)| token)
    }
}

/// The form, or what a link leads to.
pub async fn form(
    State(console): State<Arc<Console>>,
    request: Request,
) -> Result<Response, Problem> {
    let (parts, _) = request.into_parts();
    let then = then_of(&parts.uri);
    if let Some(code) = query::text(&parts.uri, "once") {
        let Some(token) = console.links.take(&code) else {
            let text =
                "This link has been used, or is of an earlier start. Sign in with the token.";
            return shown(&then, Some(Notice::Failed(text.into())), StatusCode::FORBIDDEN);
        };
        return let_in(&console, &token, &parts, &then).await;
    }
    if console.sessions.of(&console.api, &parts.headers, peer(&parts)).await?.is_some() {
        return Ok(Redirect::to(&then).into_response());
    }
    // A link on another site's page comes without the cookie. The same from here comes with it.
    let is_from_elsewhere =
        parts.headers.get("sec-fetch-site").is_some_and(|site| site == "cross-site");
    if is_from_elsewhere {
        let content = html! { h1 { "Sign in" } p { a href=(then) { "Go on" } } };
        return Ok(document::moving_on(&then, &content));
    }
    if query::text(&parts.uri, "signed_out").is_some() {
        return shown(&then, Some(Notice::Done(SIGNED_OUT.into())), StatusCode::OK);
    }
    shown(&then, None, StatusCode::OK)
}

/// Takes what was filled in.
pub async fn sign_in(
    State(console): State<Arc<Console>>,
    request: Request,
) -> Result<Response, Problem> {
    let (parts, body) = request.into_parts();
    // Anybody may send it: it takes little room.
    let limits = BodyLimits { max: FORM_MAX, ..console.api.bodies.clone() };
    let fields = read_form(&limits, &parts, Body::new(body)).await?;
    let then = safe(fields.text("then"));
    let expected = cookie(&parts.headers, FORM_COOKIE).unwrap_or_default();
    if expected.is_empty() || !is_same(expected, fields.text("code")) {
        let text = "The form was open for too long, or the browser takes no cookies. Try again.";
        return shown(&then, Some(Notice::Failed(text.into())), StatusCode::FORBIDDEN);
    }
    let_in(&console, fields.text("token"), &parts, &then).await
}

async fn let_in(
    console: &Console,
    token: &str,
    parts: &Parts,
    then: &str,
) -> Result<Response, Problem> {
    let refused = |text: &str, status| shown(then, Some(Notice::Failed(text.into())), status);
    let authentication = &console.api.authentication;
    let mut headers = HeaderMap::new();
    if let Some(forwarded) = parts.headers.get_all("x-forwarded-for").iter().next_back() {
        headers.insert("x-forwarded-for", forwarded.clone());
    }
    let Some(basic) = authorization(token) else {
        return refused("This is no token.", StatusCode::FORBIDDEN);
    };
    headers.insert(header::AUTHORIZATION, basic);
    // As for the API: the store is asked, and failures are counted by address.
    let caller = match authentication.caller(&headers, peer(parts)).await {
        Ok(Caller::Monitor) => {
            let text = "The monitoring key reads the API's monitoring, and opens no console.";
            return refused(text, StatusCode::FORBIDDEN);
        }
        Ok(caller) => caller,
        Err(refusal) if refusal.status() == StatusCode::UNAUTHORIZED => {
            return refused("Nobody has this token.", StatusCode::FORBIDDEN);
        }
        Err(refusal) => {
            let problem = Problem::from(refusal);
            return refused(&problem.text, problem.status);
        }
    };
    let from = authentication.client_address(&headers, peer(parts));
    // Perhaps with the colon that curl wants behind it, or a password.
    let written = format!("{token}:");
    let all = authentication.tokens.users();
    let mut meant = std::iter::once(token).chain(user_names(&written));
    let Some(user) = meant.find(|name| all.iter().any(|user| user == name)) else {
        return refused("Nobody has this token.", StatusCode::FORBIDDEN);
    };
    let value = Sessions::make(user, console.api.clock.now_ms()).map_err(|error| {
        tracing::error!(%error, "failed to make a session");
        Problem::new(StatusCode::INTERNAL_SERVER_ERROR, "The session could not be made.")
    })?;
    Actor { caller, from }.did("signed in", "the console");
    let mut response = Redirect::to(then).into_response();
    let cookies = response.headers_mut();
    cookies.append(header::SET_COOKIE, set_cookie(COOKIE, &value, TERM));
    cookies.append(header::SET_COOKIE, set_cookie(FORM_COOKIE, "", Duration::ZERO));
    Ok(response)
}

pub async fn sign_out(sent: Sent) -> Response {
    sent.visit.actor().did("signed out", "the console");
    let mut response = Redirect::to(&format!("{PATH}/sign-in?signed_out=1")).into_response();
    response.headers_mut().append(header::SET_COOKIE, set_cookie(COOKIE, "", Duration::ZERO));
    response
}

/// That somebody has just signed out is the one thing the page may have to say.
const SIGNED_OUT: &str = "You are signed out.";

fn shown(then: &str, notice: Option<Notice>, status: StatusCode) -> Result<Response, Problem> {
    let code = random_hex().map_err(|_| Problem::not_understood())?;
    let content = html! {
        h1 { "Sign in" }
        @if let Some(notice) = &notice { (notice) }
        form.stacked method="post" action="/console/sign-in" {
            input type="hidden" name="code" value=(code);
            input type="hidden" name="then" value=(then);
            // For the browser's list of passwords: there is one for each bus, whoever it lets in.
            input type="text" name="user" value="routemaster" autocomplete="username" hidden;
            label for="token" { "Token" }
            input #token type="password" name="token" required autocomplete="current-password"
                autofocus spellcheck="false";
            p.hint {
                "A client's token shows what is its own, the root key everything. A token is made with "
                code { "routemaster token create <name>" } "."
            }
            button.primary type="submit" { "Sign in" }
        }
    };
    let mut response = document::bare(status, "Sign in", &content);
    response.headers_mut().append(header::SET_COOKIE, set_cookie(FORM_COOKIE, &code, FORM_TERM));
    Ok(response)
}

fn then_of(uri: &Uri) -> String {
    safe(&query::text(uri, "then").unwrap_or_default())
}

/// Where to go then: a page of the console, and nowhere else.
fn safe(then: &str) -> String {
    let is_ours = then == PATH || then.starts_with("/console/") || then.starts_with("/console?");
    let is_plain = HeaderValue::from_str(then).is_ok() && !then.contains(['\\', '\n', '\r']);
    if is_ours && is_plain { then.to_owned() } else { PATH.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_is_sent_elsewhere() {
        assert_eq!(safe("/console/calls?state=dead"), "/console/calls?state=dead");
        for other in [
            "",
            "https://evil.example",
            "//evil.example",
            "/consolex",
            "/console/\r\nx",
            "/console/\\x",
        ] {
            assert_eq!(safe(other), PATH, "{other}");
        }
    }

    #[test]
    fn a_link_is_good_once_and_until_another_one_is_made() {
        let links = SignInLinks::default();
        let code = |path: String| path.split_once("once=").unwrap().1.to_owned();
        let first = code(links.make("demo").unwrap());
        let second = code(links.make("demo").unwrap());
        assert_eq!(links.take(&first), None);
        assert_eq!(links.take(&second), Some("demo".into()));
        assert_eq!(links.take(&second), None);
    }
}
