//! What the query of a request says.

use std::ops::RangeInclusive;
use std::time::Duration;

use axum::http::Uri;

use super::refusal::Refusal;

/// The value of a parameter, the last one if there are several.
pub fn text(uri: &Uri, name: &str) -> Option<String> {
    let pairs = url::form_urlencoded::parse(uri.query().unwrap_or_default().as_bytes());
    pairs.filter(|(key, _)| key == name).map(|(_, value)| value.into_owned()).last()
}

/// A whole number in the query; `None` if it is not there.
///
/// # Errors
/// If it is none, or not an allowed one.
pub fn number(uri: &Uri, name: &str, allowed: RangeInclusive<u64>) -> Result<Option<u64>, Refusal> {
    let Some(value) = text(uri, name) else { return Ok(None) };
    let number = value.parse().ok().filter(|number| allowed.contains(number));
    let (from, to) = allowed.into_inner();
    let wrong = || format!("`{name}` must be a whole number from {from} to {to}");
    number.map(Some).ok_or_else(|| Refusal::bad_request(wrong()))
}

/// For how long a list may be looked for, if the query says so.
///
/// # Errors
/// If it is no allowed time.
pub fn within(uri: &Uri) -> Result<Option<Duration>, Refusal> {
    Ok(number(uri, "within", 1..=1000)?.map(Duration::from_millis))
}

/// Whether a switch in the query is on; `false` if it is not there.
///
/// # Errors
/// If its value is neither `true` nor `false`.
pub fn flag(uri: &Uri, name: &str) -> Result<bool, Refusal> {
    match text(uri, name).as_deref() {
        None | Some("false") => Ok(false),
        Some("true") => Ok(true),
        Some(_) => Err(Refusal::bad_request(format!("`{name}` must be true or false"))),
    }
}
