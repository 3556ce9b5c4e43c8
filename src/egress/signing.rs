//! The headers of what is signed.

use std::time::{SystemTime, UNIX_EPOCH};

use http::{HeaderMap, HeaderValue};

use crate::bus::signature::SigningSecrets;

/// Signs a request that is sent now, if there is something to sign it with. What its sender has set of these
/// headers is replaced: nobody else signs for it.
pub fn sign(headers: &mut HeaderMap, secrets: &SigningSecrets, id: &str, body: &[u8]) {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    let Some(signature) = secrets.signature(id, now, body) else { return };
    let signed = HeaderValue::from_str(id).ok().zip(HeaderValue::from_str(&signature).ok());
    if let Some((id, signature)) = signed {
        headers.insert("webhook-id", id);
        headers.insert("webhook-timestamp", now.into());
        headers.insert("webhook-signature", signature);
    }
}
