//! `Idempotency-Key`: what makes a request that comes again the same one.

use axum::http::HeaderMap;

use super::refusal::Refusal;

/// The key that names a request, if it has one.
///
/// # Errors
/// If it is none.
pub fn key(headers: &HeaderMap) -> Result<Option<&str>, Refusal> {
    let Some(key) = headers.get("idempotency-key") else { return Ok(None) };
    let key = key.to_str().ok().filter(|key| (1..=255).contains(&key.len()));
    let wrong = "the header `Idempotency-Key` must be 1 to 255 visible ASCII characters";
    key.map(Some).ok_or_else(|| Refusal::bad_request(wrong))
}
