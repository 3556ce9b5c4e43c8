//! HTTPS or nothing: plain HTTP is sent to the same place over HTTPS (contract §1).

use std::net::Ipv4Addr;

use axum::http::uri::Authority;
use axum::http::{HeaderMap, HeaderValue, Request, StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};

use super::refusal::Refusal;

/// How a connection's requests reach us.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Transport {
    Tls,
    Plain,
}

/// What is answered how, by the way a request came.
#[derive(Clone, Copy)]
pub struct TransportRules {
    /// Whether a proxy that has ended TLS is believed (`ROUTEMASTER_TRUST_PROXY`).
    pub trust_proxy: bool,
    /// Whether browsers may be told to use HTTPS only: never while the development certificate is
    /// shown, because nobody has settled yet.
    pub binds_browsers: bool,
    /// Which paths are answered over plain HTTP; all others are redirected.
    pub is_answered_plain: fn(&str) -> bool,
    /// Of which paths a slash at the end does not matter.
    pub ignores_slash: fn(&str) -> bool,
}

impl TransportRules {
    /// Whether a request came over HTTPS, as far as this process or a proxy can tell.
    pub fn is_https(&self, transport: Transport, headers: &HeaderMap) -> bool {
        transport == Transport::Tls || self.trust_proxy && forwarded_https(headers)
    }

    /// Whether the answer tells browsers to use HTTPS only for the host that was asked for.
    pub fn is_strict_about<B>(&self, request: &Request<B>) -> bool {
        self.binds_browsers && host_of(request).is_some_and(may_be_strict_about)
    }
}

/// Tells browsers to use HTTPS for a year.
pub const HSTS: HeaderValue = HeaderValue::from_static("max-age=31536000");

/// Makes one slash of several in a row in a path, as the original does: its clients for Elixir and Go
/// put one before the path, whether or not the address of the bus ends with one.
pub fn join_slashes(uri: &mut Uri) {
    if !uri.path().contains("//") {
        return;
    }
    let segments = uri.path().split('/').filter(|segment| !segment.is_empty());
    let mut path = segments.fold(String::new(), |path, segment| path + "/" + segment);
    if path.is_empty() || uri.path().ends_with('/') {
        path.push('/');
    }
    if let Some(query) = uri.query() {
        path = path + "?" + query;
    }
    set_path(uri, &path);
}

/// Takes the slash at the end of a path away.
pub fn drop_slash(uri: &mut Uri) {
    let path = uri.path().trim_end_matches('/');
    let path = if path.is_empty() { "/" } else { path };
    let path = uri.query().map_or_else(|| path.to_owned(), |query| format!("{path}?{query}"));
    set_path(uri, &path);
}

fn set_path(uri: &mut Uri, path: &str) {
    let mut parts = uri.clone().into_parts();
    parts.path_and_query = path.parse().ok();
    if let Ok(changed) = Uri::from_parts(parts) {
        *uri = changed;
    }
}

/// Whether a proxy says that the request came to it over HTTPS. Of several proxies, the first one
/// knows how the client reached it.
fn forwarded_https(headers: &HeaderMap) -> bool {
    let Some(forwarded) = headers.get("x-forwarded-proto") else { return false };
    let first = forwarded.as_bytes().split(|byte| *byte == b',').next().unwrap_or_default();
    first.trim_ascii().eq_ignore_ascii_case(b"https")
}

/// Whom a request is for, with the port if it is given.
fn host_of<B>(request: &Request<B>) -> Option<&str> {
    host_in(request.headers(), request.uri())
}

/// As [`host_of`], in the parts of a request.
pub fn host_in<'a>(headers: &'a HeaderMap, uri: &'a Uri) -> Option<&'a str> {
    let host = headers.get(header::HOST).and_then(|host| host.to_str().ok());
    uri.authority().map(Authority::as_str).or(host)
}

/// Whether a browser may be told to use HTTPS only for everything at this host: for a name that is
/// served to others, but for no address and not for this machine, where other programs speak plain
/// HTTP on other ports.
fn may_be_strict_about(host: &str) -> bool {
    let Ok(authority) = host.parse::<Authority>() else { return false };
    let name = authority.host().trim_end_matches('.');
    let is_address = name.starts_with('[') || name.parse::<Ipv4Addr>().is_ok();
    let is_local =
        name.rsplit('.').next().is_some_and(|last| last.eq_ignore_ascii_case("localhost"));
    !name.is_empty() && !is_address && !is_local
}

/// Sends a request to the same host, port, path and query, over HTTPS.
pub fn redirect<B>(request: &Request<B>) -> Response {
    redirect_as(request, |authority| authority.to_string())
}

/// Sends a request to the same host, path and query, over HTTPS on this port.
pub fn redirect_to_port<B>(request: &Request<B>, port: u16) -> Response {
    redirect_as(request, |authority| match port {
        443 => authority.host().to_owned(),
        port => format!("{}:{port}", authority.host()),
    })
}

fn redirect_as<B>(request: &Request<B>, place: impl Fn(&Authority) -> String) -> Response {
    let authority = host_of(request).and_then(|host| host.parse::<Authority>().ok());
    let without_user = |authority: &Authority| !authority.as_str().contains('@');
    let Some(authority) = authority.filter(without_user) else {
        return Refusal::bad_request("plain HTTP without a Host: use https://").into_response();
    };
    let path = request.uri().path_and_query().map_or("/", |path| path.as_str());
    let location = format!("https://{}{path}", place(&authority));
    // The rest of the request is not read: the connection has no further use.
    let headers = [(header::LOCATION, location), (header::CONNECTION, "close".into())];
    (StatusCode::PERMANENT_REDIRECT, headers).into_response()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn several_slashes_in_a_row_are_one() {
        for (written, expected) in [
            ("//topics///widgets?a=//b", "/topics/widgets?a=//b"),
            ("https://bus.example//pulse", "https://bus.example/pulse"),
            ("/topics/a//", "/topics/a/"),
            ("//", "/"),
            ("/topics/a/", "/topics/a/"),
        ] {
            let mut uri: Uri = written.parse().unwrap();
            join_slashes(&mut uri);
            assert_eq!(uri.to_string(), expected, "{written}");
        }
    }

    #[test]
    fn the_first_proxy_says_how_a_client_came() {
        let forwarded = |values: &[&'static str]| {
            let mut headers = HeaderMap::new();
            for value in values {
                headers.append("x-forwarded-proto", HeaderValue::from_static(value));
            }
            forwarded_https(&headers)
        };
        for https in
            [&["https"][..], &["HTTPS"], &["https,http"], &["https , http"], &["https", "http"]]
        {
            assert!(forwarded(https), "{https:?}");
        }
        for other in [&[][..], &["http"], &[""], &["http,https"], &["http", "https"], &["httpsx"]] {
            assert!(!forwarded(other), "{other:?}");
        }
    }

    #[test]
    fn only_a_name_that_is_served_to_others_is_bound_to_https() {
        for name in ["bus.example", "bus.example:8443", "bus.example.", "localhost.example"] {
            assert!(may_be_strict_about(name), "{name}");
        }
        for other in [
            "localhost",
            "localhost:17890",
            "LOCALHOST.",
            "a.localhost",
            "127.0.0.1:1",
            "10.1.2.3",
            "[::1]:443",
            "",
        ] {
            assert!(!may_be_strict_about(other), "{other}");
        }
    }
}
