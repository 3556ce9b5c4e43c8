//! HTTPS or nothing: plain HTTP is sent to the same place over HTTPS (contract §1).

use axum::extract::{Request, State};
use axum::http::uri::Authority;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};

use super::error::ApiError;
use super::state::Shared;

/// How a request reached us. The acceptor puts it into the request's extensions.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Transport {
    Tls,
    Plain,
}

const HSTS: HeaderValue = HeaderValue::from_static("max-age=31536000");

/// Lets a request pass that came over TLS, to us or to a trusted proxy; redirects any other.
pub async fn require_https(State(api): State<Shared>, request: Request, next: Next) -> Response {
    let over_tls = request.extensions().get() == Some(&Transport::Tls);
    let is_https = over_tls || (api.settings.trust_proxy && forwarded_https(request.headers()));
    if !is_https {
        return redirect(&request);
    }
    let mut response = next.run(request).await;
    response.headers_mut().insert(header::STRICT_TRANSPORT_SECURITY, HSTS);
    response
}

fn forwarded_https(headers: &HeaderMap) -> bool {
    let forwarded = headers.get("x-forwarded-proto");
    forwarded.is_some_and(|proto| proto.as_bytes().eq_ignore_ascii_case(b"https"))
}

/// Same host, port, path and query, over HTTPS.
fn redirect(request: &Request) -> Response {
    let host = request.headers().get(header::HOST).and_then(|host| host.to_str().ok());
    let authority = request.uri().authority().map(Authority::as_str).or(host);
    let authority = authority.and_then(|authority| authority.parse::<Authority>().ok());
    let without_user = |authority: &Authority| !authority.as_str().contains('@');
    let Some(authority) = authority.filter(without_user) else {
        return ApiError::bad_request("plain HTTP without a Host: use https://").into_response();
    };
    let path = request.uri().path_and_query().map_or("/", |path| path.as_str());
    let location = format!("https://{authority}{path}");
    // The rest of the request is not read: the connection has no further use.
    let headers = [(header::LOCATION, location), (header::CONNECTION, "close".into())];
    (StatusCode::PERMANENT_REDIRECT, headers).into_response()
}
