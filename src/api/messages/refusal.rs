//! How a request about messages is refused: every error has `data.errors`, which Postoffice's clients read.

use std::collections::BTreeMap;

use axum::Json;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use utoipa::openapi::{ContentBuilder, Ref, RefOr, ResponseBuilder};
use utoipa::{IntoResponses, ToSchema};

use crate::bus::message::{Faults, NotTaken};
use crate::http::refusal::Refusal;
use crate::store::StoreError;

/// A request about messages that is not done.
#[derive(Debug)]
pub struct MessageRefusal {
    status: StatusCode,
    headers: Box<HeaderMap>,
    errors: Errors,
}

/// What is wrong, by field; or one text.
#[derive(Debug, Serialize, ToSchema)]
#[serde(untagged)]
pub enum Errors {
    Fields(BTreeMap<&'static str, Vec<String>>),
    Text(String),
}

#[derive(Serialize, ToSchema)]
#[schema(as = MessageError)]
pub struct Body {
    data: BodyData,
}

#[derive(Serialize, ToSchema)]
#[schema(as = MessageErrorData)]
struct BodyData {
    errors: Errors,
}

impl MessageRefusal {
    fn fields(status: StatusCode, Faults(fields): Faults) -> Self {
        Self { status, headers: Box::default(), errors: Errors::Fields(fields) }
    }

    /// What concerns no field of the request.
    pub fn detail(status: StatusCode, text: impl std::fmt::Display) -> Self {
        Self::fields(status, Faults::one("detail", text))
    }

    /// One field that is wrong.
    pub fn field(name: &'static str, what: impl std::fmt::Display) -> Self {
        Self::fields(StatusCode::BAD_REQUEST, Faults::one(name, what))
    }

    /// A field whose value is somebody else's.
    pub fn taken(name: &'static str) -> Self {
        Self::fields(StatusCode::CONFLICT, Faults::one(name, "has already been taken"))
    }

    /// One text, where the original had no fields.
    pub fn text(status: StatusCode, text: &str) -> Self {
        Self { status, headers: Box::default(), errors: Errors::Text(text.to_owned()) }
    }
}

impl From<NotTaken> for MessageRefusal {
    fn from(not_taken: NotTaken) -> Self {
        match not_taken {
            NotTaken::NoObject(rejection) => Self::detail(StatusCode::BAD_REQUEST, rejection),
            NotTaken::Faulty(faults) => Self::fields(StatusCode::BAD_REQUEST, faults),
            NotTaken::TooMany(max) => {
                let text = format!("at most {max} messages are taken at once (MAX_BULK_MESSAGES)");
                Self::text(StatusCode::NOT_ACCEPTABLE, &text)
            }
            NotTaken::TooLarge => {
                let text = "these messages come to more than 16 MB, because each has the attributes: send fewer at once";
                Self::text(StatusCode::PAYLOAD_TOO_LARGE, text)
            }
        }
    }
}

impl From<Refusal> for MessageRefusal {
    fn from(refusal: Refusal) -> Self {
        let headers = Box::new(refusal.headers());
        Self { headers, ..Self::detail(refusal.status(), refusal.reason()) }
    }
}

impl From<StoreError> for MessageRefusal {
    fn from(error: StoreError) -> Self {
        Refusal::from(error).into()
    }
}

impl IntoResponse for MessageRefusal {
    fn into_response(self) -> Response {
        let body = Body { data: BodyData { errors: self.errors } };
        (self.status, *self.headers, Json(body)).into_response()
    }
}

/// What any request about messages may come to.
impl IntoResponses for MessageRefusal {
    fn responses() -> BTreeMap<String, RefOr<utoipa::openapi::Response>> {
        let errors = [
            ("400", "what is wrong, by field"),
            ("401", "no or wrong authorisation"),
            ("403", "this key may not do this"),
            ("429", "more than the client may send; or too many unknown tokens from this address"),
            ("500", "the store is damaged"),
            ("503", "the store is not available or full"),
        ];
        let response = |(status, description): (&str, &str)| {
            let body = ContentBuilder::new().schema(Some(Ref::from_schema_name("MessageError")));
            let response = ResponseBuilder::new().description(description);
            let response = response.content("application/json", body.build());
            (status.to_owned(), response.build().into())
        };
        errors.map(response).into()
    }
}
