//! `traceparent`: the trace that a request is part of (<https://www.w3.org/TR/trace-context/>).

use axum::http::HeaderMap;

use crate::bus::trace::TraceParent;

/// The trace that a request is part of; one that is not valid is none.
pub fn parent(headers: &HeaderMap) -> Option<TraceParent> {
    headers.get("traceparent").and_then(|value| TraceParent::parse(value.to_str().ok()?))
}
