//! Requests that a page of another site lets a browser make: the browser may add what it knows of the bus,
//! and its user knows of nothing.

use axum::http::{HeaderMap, HeaderValue, Method, Request, Uri, header};

use super::transport::host_in;

pub const REFUSED: &str = "a page of another site must not change anything here";

/// Whether a request would change something and comes from a page of another site (contract §1). Clients that
/// are no browsers send neither header.
pub fn is_foreign<B>(request: &Request<B>) -> bool {
    let only_reads = matches!(*request.method(), Method::GET | Method::HEAD | Method::OPTIONS);
    !only_reads && comes_from_elsewhere(request.headers(), request.uri())
}

/// Whether a request comes from a page of another site.
pub fn comes_from_elsewhere(headers: &HeaderMap, uri: &Uri) -> bool {
    // What a browser says of itself holds also where a proxy gives the bus another name.
    match headers.get("sec-fetch-site").map(HeaderValue::as_bytes) {
        Some(b"same-origin" | b"none") => return false,
        Some(b"cross-site") => return true,
        _ => {}
    }
    let Some(origin) = headers.get(header::ORIGIN) else { return false };
    let origin = origin.to_str().ok().and_then(|origin| origin.split_once("://"));
    match (origin, host_in(headers, uri)) {
        (Some((_, origin)), Some(own)) => !origin.eq_ignore_ascii_case(own),
        _ => true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn foreign(method: &str, headers: &[(&str, &str)]) -> bool {
        let mut request = Request::builder().method(method).uri("/topics/a");
        for (name, value) in [("host", "bus.example:17890")].iter().chain(headers) {
            request = request.header(*name, *value);
        }
        is_foreign(&request.body(()).unwrap())
    }

    #[test]
    fn a_page_of_another_site_may_read_and_change_nothing() {
        assert!(foreign("POST", &[("origin", "https://evil.example")]));
        assert!(foreign("DELETE", &[("sec-fetch-site", "cross-site")]));
        let sibling = [("sec-fetch-site", "same-site"), ("origin", "https://a.example")];
        assert!(foreign("POST", &sibling));
        assert!(foreign("POST", &[("origin", "null")]));
        assert!(foreign("POST", &[("origin", "https://bus.example")]), "another port");
        assert!(!foreign("GET", &[("origin", "https://evil.example")]));
        assert!(!foreign("POST", &[]));
        assert!(!foreign("POST", &[("origin", "https://Bus.example:17890")]));
        assert!(!foreign(
            "POST",
            &[("sec-fetch-site", "same-origin"), ("origin", "https://proxy")]
        ));
    }
}
