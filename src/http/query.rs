//! What the query of a request says.

use axum::http::Uri;

use super::refusal::Refusal;

/// Whether a switch in the query is on; `false` if it is not there.
///
/// # Errors
/// If its value is neither `true` nor `false`.
pub fn flag(uri: &Uri, name: &str) -> Result<bool, Refusal> {
    let pairs = url::form_urlencoded::parse(uri.query().unwrap_or_default().as_bytes());
    match pairs.filter(|(key, _)| key == name).map(|(_, value)| value).last().as_deref() {
        None | Some("false") => Ok(false),
        Some("true") => Ok(true),
        Some(_) => Err(Refusal::bad_request(format!("`{name}` must be true or false"))),
    }
}
