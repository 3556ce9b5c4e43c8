//! How a request about calls is refused: as the original's clients know it (contract §9).

use std::collections::BTreeMap;

use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::IntoResponse;
use serde::Serialize;
use utoipa::IntoResponses;
use utoipa::openapi::{ContentBuilder, Ref, RefOr, Response, ResponseBuilder};

use crate::bus::call::NoCall;
use crate::http::refusal::Refusal;
use crate::store::StoreError;

pub const JSON: HeaderValue = HeaderValue::from_static("application/json; charset=UTF-8");

/// A request about calls that is not done.
#[derive(Debug)]
pub struct CallRefusal {
    status: StatusCode,
    headers: Box<HeaderMap>,
    body: Body,
}

#[derive(Debug, Serialize, utoipa::ToSchema)]
#[schema(as = CallError)]
pub struct Body {
    /// Always true.
    error: bool,
    /// One line for each thing that is wrong.
    message: String,
    /// How many calls match, where a count was to be confirmed.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    count: Option<u64>,
    /// Until when they were accepted, in milliseconds since the epoch.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    until: Option<u64>,
}

impl CallRefusal {
    pub fn status(status: StatusCode, message: impl Into<String>) -> Self {
        let body = Body { error: true, message: message.into(), count: None, until: None };
        Self { status, headers: Box::default(), body }
    }

    pub fn bad_request(message: impl Into<String>) -> Self {
        Self::status(StatusCode::BAD_REQUEST, message)
    }

    pub fn unprocessable(message: impl Into<String>) -> Self {
        Self::status(StatusCode::UNPROCESSABLE_ENTITY, message)
    }

    pub fn not_found() -> Self {
        Self::status(StatusCode::NOT_FOUND, "there is no such call")
    }

    /// Another number of calls matches than was expected.
    pub fn count(count: u64, until: u64) -> Self {
        let message = format!(
            "{count} calls match: confirm it with `confirm={count}&until={until}` in the query"
        );
        let mut refusal = Self::status(StatusCode::CONFLICT, message);
        (refusal.body.count, refusal.body.until) = (Some(count), Some(until));
        refusal
    }
}

/// What any request about calls may come to.
impl IntoResponses for CallRefusal {
    fn responses() -> BTreeMap<String, RefOr<Response>> {
        let errors = [
            ("401", "no or wrong authorisation"),
            ("403", "this key may not do this"),
            ("429", "more than the client may send; or too many unknown tokens from this address"),
            ("500", "the store is damaged"),
            ("503", "the store is not available or full"),
        ];
        let response = |(status, description): (&str, &str)| {
            let body = ContentBuilder::new().schema(Some(Ref::from_schema_name("CallError")));
            let response = ResponseBuilder::new().description(description);
            let response = response.content("application/json", body.build());
            (status.to_owned(), response.build().into())
        };
        errors.map(response).into()
    }
}

impl From<Refusal> for CallRefusal {
    fn from(refusal: Refusal) -> Self {
        let headers = Box::new(refusal.headers());
        Self { headers, ..Self::status(refusal.status(), refusal.reason()) }
    }
}

impl From<StoreError> for CallRefusal {
    fn from(error: StoreError) -> Self {
        Refusal::from(error).into()
    }
}

impl From<NoCall> for CallRefusal {
    fn from(none: NoCall) -> Self {
        match none {
            NoCall::NotAnObject(reason) => Self::unprocessable(reason),
            NoCall::Faulty(_) => Self::bad_request(none.to_string()),
        }
    }
}

impl IntoResponse for CallRefusal {
    fn into_response(self) -> axum::response::Response {
        let Self { status, headers, body } = self;
        // Nothing in it can fail to be written.
        let body = serde_json::to_string(&body).unwrap_or_default();
        (status, *headers, [(header::CONTENT_TYPE, JSON)], body).into_response()
    }
}
