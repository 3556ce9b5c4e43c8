//! Signatures of what the bus sends, after Standard Webhooks (<https://www.standardwebhooks.com/>): a receiver
//! that shares a secret with the bus can tell that a request is the bus's, and that nobody changed it.

use routemaster_client::SigningSecret;

/// What is no secret, or one too many. The text is not repeated: it may be one all the same.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("must be `whsec_` and the base64 of 24 to 64 bytes, or an array of at most two of these")]
pub struct InvalidSecrets;

/// The secrets of one receiver: none, one, or two while it goes over from one to another.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SigningSecrets(Vec<SigningSecret>);

impl SigningSecrets {
    pub const MAX: usize = 2;

    pub fn parse(texts: &[impl AsRef<str>]) -> Result<Self, InvalidSecrets> {
        if texts.len() > Self::MAX {
            return Err(InvalidSecrets);
        }
        let secrets = texts.iter().map(|text| SigningSecret::parse(text.as_ref()));
        secrets.collect::<Result<_, _>>().map(Self).map_err(|_| InvalidSecrets)
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
    use base64::Engine;
    use base64::prelude::BASE64_STANDARD;

    use super::*;

    fn secret(byte: u8) -> String {
        SigningSecret::parse(&format!("whsec_{}", BASE64_STANDARD.encode([byte; 24])))
            .unwrap()
            .reveal()
    }

    #[test]
    fn two_secrets_make_two_signatures_and_are_never_shown_by_accident() {
        let secrets = SigningSecrets::parse(&[secret(2), secret(1)]).unwrap();
        assert_eq!(SigningSecrets::from_stored(&secrets.to_stored()), secrets);
        assert_eq!(secrets.signature("a", 1, b"b").unwrap().split(' ').count(), 2);
        assert_eq!(SigningSecrets::default().signature("a", 1, b"b"), None);
        assert!(!format!("{secrets:?}").contains("AQEB"));
    }

    #[test]
    fn one_too_many_or_none_at_all_is_refused() {
        assert_eq!(SigningSecrets::parse(&["whsec_MfKQ9r8G"]), Err(InvalidSecrets));
        let three = [secret(1), secret(2), secret(3)];
        assert_eq!(SigningSecrets::parse(&three), Err(InvalidSecrets));
    }
}
