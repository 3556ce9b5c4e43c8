//! User name and password as HTTP carries them (RFC 7617).

use base64::Engine;
use base64::prelude::BASE64_STANDARD;

/// The value of an `authorization` header.
pub fn authorization(user: &[u8], password: &[u8]) -> String {
    let pair = [user, b":", password].concat();
    format!("Basic {}", BASE64_STANDARD.encode(pair))
}
