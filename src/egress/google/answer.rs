//! What Google answered, or why it did not.

use crate::causes;

/// A body as far as it is read; what does not come is no failure.
pub(super) async fn read_body(mut response: reqwest::Response, max: usize) -> String {
    let mut read = Vec::new();
    while let Ok(Some(part)) = response.chunk().await {
        read.extend_from_slice(&part[..part.len().min(max - read.len())]);
        if read.len() >= max {
            break;
        }
    }
    String::from_utf8_lossy(&read).into_owned()
}

/// Why a request has no answer, without its URL.
pub(super) fn told(error: &reqwest::Error) -> String {
    match error.is_timeout() {
        true => "no answer in time".into(),
        false => causes::root(error).to_string(),
    }
}
