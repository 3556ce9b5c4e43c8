//! Signatures of what the bus sends, after Standard Webhooks (<https://www.standardwebhooks.com/>): a receiver
//! that shares a secret with the bus can tell that a request is the bus's, and that nobody changed it.

use std::fmt;
use std::sync::Arc;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use ring::hmac;

/// What is shared with a receiver: `whsec_` and the base64 of 24 to 64 bytes.
#[derive(Clone, PartialEq, Eq)]
pub struct SigningSecret(Arc<[u8]>);

/// What is no secret. The text is not repeated: it may be one all the same.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("must be `whsec_` and the base64 of 24 to 64 bytes, or an array of at most two of these")]
pub struct InvalidSecret;

const PREFIX: &str = "whsec_";

impl SigningSecret {
    pub fn parse(text: &str) -> Result<Self, InvalidSecret> {
        let encoded = text.strip_prefix(PREFIX).ok_or(InvalidSecret)?;
        let bytes = BASE64_STANDARD.decode(encoded).map_err(|_| InvalidSecret)?;
        if !(24..=64).contains(&bytes.len()) {
            return Err(InvalidSecret);
        }
        Ok(Self(bytes.into()))
    }

    /// The secret itself, for its owner and for storing.
    pub fn reveal(&self) -> String {
        format!("{PREFIX}{}", BASE64_STANDARD.encode(&self.0))
    }

    /// The signature of a body that is sent under an id at a time, in seconds since the epoch.
    fn sign(&self, id: &str, timestamp: u64, body: &[u8]) -> String {
        let mut context = hmac::Context::with_key(&hmac::Key::new(hmac::HMAC_SHA256, &self.0));
        context.update(format!("{id}.{timestamp}.").as_bytes());
        context.update(body);
        format!("v1,{}", BASE64_STANDARD.encode(context.sign()))
    }
}

impl fmt::Debug for SigningSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SigningSecret(…)")
    }
}

/// The secrets of one receiver: none, one, or two while it goes over from one to another.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SigningSecrets(Vec<SigningSecret>);

impl SigningSecrets {
    pub const MAX: usize = 2;

    pub fn parse(texts: &[impl AsRef<str>]) -> Result<Self, InvalidSecret> {
        if texts.len() > Self::MAX {
            return Err(InvalidSecret);
        }
        let secrets = texts.iter().map(|text| SigningSecret::parse(text.as_ref()));
        secrets.collect::<Result<_, _>>().map(Self)
    }

    /// Takes what was checked before it was stored; what cannot be read is none.
    pub(crate) fn from_stored(text: &str) -> Self {
        Self(text.split_whitespace().filter_map(|one| SigningSecret::parse(one).ok()).collect())
    }

    /// As they are stored, with a space between them.
    pub fn to_stored(&self) -> String {
        self.reveal().join(" ")
    }

    pub fn reveal(&self) -> Vec<String> {
        self.0.iter().map(SigningSecret::reveal).collect()
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// What `webhook-signature` says: a signature for each secret; `None` if there is none.
    pub fn signature(&self, id: &str, timestamp: u64, body: &[u8]) -> Option<String> {
        let signatures = self.0.iter().map(|secret| secret.sign(id, timestamp, body));
        (!self.is_empty()).then(|| signatures.collect::<Vec<_>>().join(" "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The example of the specification.
    #[test]
    fn a_body_is_signed_as_the_specification_shows() {
        let secrets = SigningSecrets::parse(&["whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"]).unwrap();
        let body = br#"{"test": 2432232314}"#;
        assert_eq!(
            secrets.signature("msg_p5jXN8AQM9LWM0D4loKWxJek", 1_614_265_330, body).unwrap(),
            "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="
        );
        assert_eq!(SigningSecrets::default().signature("a", 1, body), None);
    }

    #[test]
    fn two_secrets_make_two_signatures_and_are_never_shown_by_accident() {
        let (old, new) = (SigningSecret([1; 24].into()), SigningSecret([2; 64].into()));
        let texts = [new.reveal(), old.reveal()];
        let secrets = SigningSecrets::parse(&texts).unwrap();
        assert_eq!(SigningSecrets::from_stored(&secrets.to_stored()), secrets);
        assert_eq!(secrets.signature("a", 1, b"b").unwrap().split(' ').count(), 2);
        assert!(!format!("{secrets:?}").contains("AQEB"));
    }

    #[test]
    fn what_is_too_short_too_long_or_not_base64_is_refused() {
        for text in ["", "whsec_", "whsec_MfKQ9r8G", "MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", "whsec_%"]
        {
            assert_eq!(SigningSecrets::parse(&[text]), Err(InvalidSecret), "{text}");
        }
        let long = format!("whsec_{}", BASE64_STANDARD.encode([0; 65]));
        assert_eq!(SigningSecrets::parse(&[long]), Err(InvalidSecret));
        let good = SigningSecret([1; 24].into()).reveal();
        assert_eq!(SigningSecrets::parse(&[&good, &good, &good]), Err(InvalidSecret));
    }
}
