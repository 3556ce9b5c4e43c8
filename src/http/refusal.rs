//! What goes wrong with a request, and the answer each gets.

use std::time::Duration;

use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};

use super::in_flight::NoRoom;
use super::limits::TooMany;
use crate::bus::json::Rejection;
use crate::store::StoreError;
use crate::telemetry::sparing::SparingLine;

/// A request that is not done. The body of the answer is one line that a person can act on.
#[derive(Debug, thiserror::Error)]
pub enum Refusal {
    #[error("{0}")]
    BadRequest(#[from] Rejection),
    #[error("authenticate with HTTP Basic: the user name is an allowed token")]
    Unauthorized,
    #[error("{0}")]
    Forbidden(&'static str),
    #[error("{0}")]
    NotFound(String),
    #[error("{0}")]
    Conflict(&'static str),
    #[error("{0}")]
    Unprocessable(&'static str),
    #[error("{0}")]
    Gone(&'static str),
    #[error(
        "the batch is out already: acknowledge or release it, or ask again when its lease is over"
    )]
    Out(Duration),
    #[error("the body did not arrive in time")]
    BodyTimeout,
    #[error("the body is larger than {max} bytes")]
    BodyTooLarge { max: usize },
    #[error("the body has a Content-Encoding: send it as it is")]
    EncodedBody,
    #[error("{0}")]
    MethodNotAllowed(&'static str),
    #[error("{0}")]
    TooMany(#[from] TooMany),
    #[error("{0}")]
    NoRoom(#[from] NoRoom),
    #[error("{0}")]
    Store(#[from] StoreError),
}

impl Refusal {
    pub fn bad_request(reason: impl std::fmt::Display) -> Self {
        Self::BadRequest(Rejection::new(reason))
    }

    /// The status that it is answered with.
    pub fn status(&self) -> StatusCode {
        match self {
            Self::BadRequest(_) => StatusCode::BAD_REQUEST,
            Self::Unauthorized => StatusCode::UNAUTHORIZED,
            Self::Forbidden(_) => StatusCode::FORBIDDEN,
            Self::NotFound(_) => StatusCode::NOT_FOUND,
            Self::Conflict(_) | Self::Out(_) => StatusCode::CONFLICT,
            Self::Gone(_) => StatusCode::GONE,
            Self::Unprocessable(_) => StatusCode::UNPROCESSABLE_ENTITY,
            Self::BodyTimeout => StatusCode::REQUEST_TIMEOUT,
            Self::BodyTooLarge { .. } => StatusCode::PAYLOAD_TOO_LARGE,
            Self::EncodedBody => StatusCode::UNSUPPORTED_MEDIA_TYPE,
            Self::MethodNotAllowed(_) => StatusCode::METHOD_NOT_ALLOWED,
            Self::TooMany(_) => StatusCode::TOO_MANY_REQUESTS,
            Self::NoRoom(_) | Self::Store(StoreError::Unavailable(_) | StoreError::Full(_)) => {
                StatusCode::SERVICE_UNAVAILABLE
            }
            Self::Store(StoreError::Corrupt(_)) => StatusCode::INTERNAL_SERVER_ERROR,
        }
    }

    /// The line for the client. What the store said is for the operator only.
    pub fn reason(&self) -> String {
        let Self::Store(error) = self else { return self.to_string() };
        if let Some(untold) = STORE_FAILED.is_due() {
            match error {
                // Nothing that passes by itself: an exception.
                StoreError::Corrupt(_) => {
                    tracing::error!(%error, untold, "failed to answer a request");
                }
                _ => tracing::warn!(%error, untold, "failed to answer a request"),
            }
        }
        match error {
            StoreError::Unavailable(_) => "the store is not available: try again".into(),
            StoreError::Full(_) => "the store is full: try again".into(),
            StoreError::Corrupt(_) => "the store is damaged: see the log".into(),
        }
    }
}

/// Without a store, each publish would be a line.
static STORE_FAILED: SparingLine = SparingLine::new();

/// When a client may try again if the store was not available, or there was no room.
const PAUSE_SECONDS: u64 = 1;
const CHALLENGE: HeaderValue = HeaderValue::from_static(r#"Basic realm="routemaster""#);

impl Refusal {
    /// What the answer has beside its status and its line.
    pub fn headers(&self) -> HeaderMap {
        let mut headers = HeaderMap::new();
        if self.status() == StatusCode::UNAUTHORIZED {
            headers.insert(header::WWW_AUTHENTICATE, CHALLENGE);
        }
        let retry_after = match self {
            Self::TooMany(too_many) => Some(too_many.seconds()),
            Self::Out(left) => Some(left.as_secs() + 1),
            Self::NoRoom(_) | Self::Store(StoreError::Unavailable(_) | StoreError::Full(_)) => {
                Some(PAUSE_SECONDS)
            }
            _ => None,
        };
        if let Some(seconds) = retry_after {
            headers.insert(header::RETRY_AFTER, seconds.into());
        }
        headers
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        (self.status(), self.headers(), format!("{}\n", self.reason())).into_response()
    }
}
