//! The headers of what is signed.

use std::time::{SystemTime, UNIX_EPOCH};

use http::{HeaderMap, HeaderValue};

use crate::bus::signature::SigningSecrets;

/// Names what is sent now, as Standard Webhooks does, and signs it if there is something to sign it with.
pub fn name_and_sign(headers: &mut HeaderMap, secrets: &SigningSecrets, id: &str, body: &[u8]) {
    let Ok(name) = HeaderValue::from_str(id) else { return };
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    headers.insert("webhook-id", name);
    headers.insert("webhook-timestamp", now.into());
    let signature = secrets.signature(id, now, body);
    if let Some(Ok(signature)) = signature.map(HeaderValue::try_from) {
        headers.insert("webhook-signature", signature);
    }
}

/// Does so only if there is something to sign it with. What its sender has set of these headers is replaced then:
/// nobody else signs for it.
pub fn sign(headers: &mut HeaderMap, secrets: &SigningSecrets, id: &str, body: &[u8]) {
    if !secrets.is_empty() {
        name_and_sign(headers, secrets, id, body);
    }
}
