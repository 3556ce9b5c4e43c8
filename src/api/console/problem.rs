//! What keeps a page from being shown, and the page that says so.

use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use maud::html;
use serde_json::Value;

use super::document;
use crate::http::refusal::Refusal;
use crate::store::StoreError;

/// Why something was not done, in words for whoever wanted it.
#[derive(Clone, Debug)]
pub struct Problem {
    pub status: StatusCode,
    pub text: String,
}

impl Problem {
    pub fn new(status: StatusCode, text: impl Into<String>) -> Self {
        Self { status, text: text.into() }
    }

    pub fn bad_request(text: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, text)
    }

    pub fn forbidden(text: impl Into<String>) -> Self {
        Self::new(StatusCode::FORBIDDEN, text)
    }

    pub fn not_found(text: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_FOUND, text)
    }

    pub fn too_long() -> Self {
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, "there is more than a page can show")
    }

    pub fn not_understood() -> Self {
        let text = "the bus answered something that the console does not know: please report it";
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, text)
    }

    /// The status of a form that is shown again because of this.
    pub fn form_status(&self) -> StatusCode {
        if self.status.is_client_error() { StatusCode::UNPROCESSABLE_ENTITY } else { self.status }
    }

    /// An answer of the API that says no. Its interfaces do so in three shapes.
    pub fn of_answer(status: StatusCode, body: &[u8]) -> Self {
        let words = match serde_json::from_slice::<Value>(body) {
            Ok(value) => words_of(&value),
            Err(_) => Some(String::from_utf8_lossy(body).trim().to_owned()),
        };
        let words = words.filter(|words| !words.is_empty());
        Self::new(status, words.unwrap_or_else(|| format!("the bus answered {status}")))
    }
}

/// `{"message"}`, or `{"data": {"errors"}}` with a text or with one for each field.
fn words_of(value: &Value) -> Option<String> {
    if let Some(message) = value["message"].as_str() {
        return Some(message.to_owned());
    }
    let errors = &value["data"]["errors"];
    if let Some(fields) = errors.as_object() {
        let each = fields.iter().map(|(field, problem)| match problem {
            Value::String(text) => format!("{field} {text}"),
            Value::Array(texts) => {
                let texts: Vec<_> = texts.iter().filter_map(Value::as_str).collect();
                format!("{field} {}", texts.join(", "))
            }
            other => format!("{field} {other}"),
        });
        let each: Vec<_> = each.map(|line| line.replace("detail ", "")).collect();
        return Some(each.join("; "));
    }
    errors.as_str().map(str::to_owned)
}

impl From<Refusal> for Problem {
    fn from(refusal: Refusal) -> Self {
        Self::new(refusal.status(), refusal.to_string())
    }
}

impl From<StoreError> for Problem {
    fn from(error: StoreError) -> Self {
        Refusal::from(error).into()
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let title = match self.status {
            StatusCode::NOT_FOUND => "Not there",
            StatusCode::FORBIDDEN => "Not allowed",
            StatusCode::TOO_MANY_REQUESTS => "Too often",
            StatusCode::SERVICE_UNAVAILABLE => "Not available just now",
            status if status.is_server_error() => "It did not work",
            _ => "Not understood",
        };
        let body = html! {
            h1 { (title) }
            p { (self.text) }
            p { a href="/console" { "To the overview" } }
        };
        document::bare(self.status, title, &body)
    }
}

pub async fn no_such_page() -> Problem {
    Problem::not_found("There is no such page.")
}

/// What `GET /` is answered with, if not for people.
pub fn only_posted() -> impl IntoResponse {
    let error =
        serde_json::json!({ "error": true, "message": "this route has other methods: see Allow" });
    (StatusCode::METHOD_NOT_ALLOWED, [("allow", "POST")], axum::Json(error))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_words_of_all_three_interfaces_are_told() {
        let words = |body: &str| Problem::of_answer(StatusCode::CONFLICT, body.as_bytes()).text;
        assert_eq!(words("it is paused\n"), "it is paused");
        assert_eq!(words(r#"{"error":true,"message":"3 calls match"}"#), "3 calls match");
        let fields = r#"{"data":{"errors":{"name":["is invalid","is long"],"target":"is taken"}}}"#;
        assert_eq!(words(fields), "name is invalid, is long; target is taken");
        assert_eq!(
            words(r#"{"data":{"errors":{"detail":"as many as it may"}}}"#),
            "as many as it may"
        );
        assert_eq!(words(""), "the bus answered 409 Conflict");
    }
}
