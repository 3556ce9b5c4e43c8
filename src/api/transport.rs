//! HTTPS or nothing: plain HTTP is sent to the same place over HTTPS (contract §1).

use axum::http::uri::Authority;
use axum::http::{HeaderMap, HeaderValue, Request, StatusCode, header};
use axum::response::{IntoResponse, Response};

use super::error::ApiError;

/// How a connection's requests reach us.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Transport {
    Tls,
    Plain,
}

/// Tells browsers to use HTTPS for a year.
pub const HSTS: HeaderValue = HeaderValue::from_static("max-age=31536000");

/// Whether a proxy says that the request came to it over HTTPS.
pub fn forwarded_https(headers: &HeaderMap) -> bool {
    let forwarded = headers.get("x-forwarded-proto");
    forwarded.is_some_and(|proto| proto.as_bytes().eq_ignore_ascii_case(b"https"))
}

/// Sends a request to the same host, port, path and query, over HTTPS.
pub fn redirect<B>(request: &Request<B>) -> Response {
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
