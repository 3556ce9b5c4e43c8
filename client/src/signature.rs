//! Signatures of what the bus sends, after [Standard Webhooks](https://www.standardwebhooks.com/): a receiver that shares
//! a secret with the bus can tell that a request is the bus's, and that nobody has changed it.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use http::HeaderMap;
use ring::hmac;
use subtle::ConstantTimeEq;

/// How far the time of a request may be from the receiver's own: the specification's five minutes.
pub const TOLERANCE: Duration = Duration::from_secs(300);

/// What is shared between the bus and a receiver: `whsec_` and the base64 of 24 to 64 bytes.
#[derive(Clone, PartialEq, Eq)]
pub struct SigningSecret(Arc<[u8]>);

/// What is no secret. The text is not repeated: it may be one all the same.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("a secret must be `whsec_` and the base64 of 24 to 64 bytes")]
pub struct InvalidSecret;

const PREFIX: &str = "whsec_";
const VERSION: &str = "v1,";

impl SigningSecret {
    /// # Errors
    /// If the text is no secret.
    pub fn parse(text: &str) -> Result<Self, InvalidSecret> {
        let encoded = text.strip_prefix(PREFIX).ok_or(InvalidSecret)?;
        let bytes = BASE64_STANDARD.decode(encoded).map_err(|_| InvalidSecret)?;
        if !(24..=64).contains(&bytes.len()) {
            return Err(InvalidSecret);
        }
        Ok(Self(bytes.into()))
    }

    /// The secret itself.
    pub fn reveal(&self) -> String {
        format!("{PREFIX}{}", BASE64_STANDARD.encode(&self.0))
    }

    /// The signature of a body that is sent under an id at a time, in seconds since the epoch.
    pub fn sign(&self, id: &str, timestamp: u64, body: &[u8]) -> String {
        let mut context = hmac::Context::with_key(&hmac::Key::new(hmac::HMAC_SHA256, &self.0));
        context.update(format!("{id}.{timestamp}.").as_bytes());
        context.update(body);
        format!("{VERSION}{}", BASE64_STANDARD.encode(context.sign()))
    }
}

impl fmt::Debug for SigningSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SigningSecret(…)")
    }
}

/// Why a request is not taken for the bus's.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum SignatureError {
    #[error("the header `{0}` is missing, or cannot be read")]
    Missing(&'static str),
    #[error("it was signed too long ago, or in time to come: an old one may be sent by anybody")]
    NotNow,
    #[error("no signature is made with a secret that is known here")]
    Wrong,
}

/// Verifies what the bus sends.
///
/// ```
/// use routemaster_client::{SigningSecret, Verifier};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let secret = SigningSecret::parse("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")?;
/// let verifier = Verifier::new([secret]);
/// # let (headers, body) = (http::HeaderMap::new(), b"");
/// if let Err(error) = verifier.verify(&headers, body) {
///     // Answer 401, and do nothing else.
/// }
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct Verifier {
    secrets: Vec<SigningSecret>,
}

impl Verifier {
    /// Whatever is signed with one of these secrets is the bus's.
    pub fn new(secrets: impl IntoIterator<Item = SigningSecret>) -> Self {
        Self { secrets: secrets.into_iter().collect() }
    }

    /// Verifies a request by its headers `webhook-id`, `webhook-timestamp` and `webhook-signature`, and its whole body.
    ///
    /// # Errors
    /// Why it may be anybody's.
    pub fn verify(&self, headers: &HeaderMap, body: &[u8]) -> Result<(), SignatureError> {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        self.verify_at(headers, body, now.as_secs())
    }

    fn verify_at(&self, headers: &HeaderMap, body: &[u8], now: u64) -> Result<(), SignatureError> {
        let header = |name: &'static str| {
            let value = headers.get(name).and_then(|value| value.to_str().ok());
            value.ok_or(SignatureError::Missing(name))
        };
        let id = header("webhook-id")?;
        let timestamp: u64 = header("webhook-timestamp")?
            .parse()
            .map_err(|_| SignatureError::Missing("webhook-timestamp"))?;
        let signatures = header("webhook-signature")?;
        if timestamp.abs_diff(now) > TOLERANCE.as_secs() {
            return Err(SignatureError::NotNow);
        }
        let is_made_with = |secret: &SigningSecret| {
            let expected = secret.sign(id, timestamp, body);
            let is_it = |given: &str| bool::from(given.as_bytes().ct_eq(expected.as_bytes()));
            signatures.split(' ').any(is_it)
        };
        self.secrets.iter().any(is_made_with).then_some(()).ok_or(SignatureError::Wrong)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: u64 = 1_614_265_330;

    fn secret(byte: u8) -> SigningSecret {
        SigningSecret([byte; 24].into())
    }

    fn headers(timestamp: &str, signature: &str) -> HeaderMap {
        let all = [
            ("webhook-id", "msg_p5jXN8AQM9LWM0D4loKWxJek"),
            ("webhook-timestamp", timestamp),
            ("webhook-signature", signature),
        ];
        let pairs = all.map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap()));
        pairs.into_iter().collect()
    }

    /// The example of the specification.
    #[test]
    fn a_body_is_signed_as_the_specification_shows_and_verified() {
        let secret = SigningSecret::parse("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw").unwrap();
        let body = br#"{"test": 2432232314}"#;
        let signature = secret.sign("msg_p5jXN8AQM9LWM0D4loKWxJek", NOW, body);
        assert_eq!(signature, "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=");
        let verifier = Verifier::new([self::secret(1), secret]);
        let two = format!("v1,AAAA {signature}");
        let good = headers(&NOW.to_string(), &two);
        assert_eq!(verifier.verify_at(&good, body, NOW + 299), Ok(()));
        assert_eq!(verifier.verify_at(&good, body, NOW + 301), Err(SignatureError::NotNow));
        assert_eq!(verifier.verify_at(&good, body, NOW - 301), Err(SignatureError::NotNow));
        assert_eq!(verifier.verify_at(&good, b"{}", NOW), Err(SignatureError::Wrong));
        let other = Verifier::new([self::secret(1)]);
        assert_eq!(other.verify_at(&good, body, NOW), Err(SignatureError::Wrong));
        assert_eq!(Verifier::new([]).verify_at(&good, body, NOW), Err(SignatureError::Wrong));
        let later = headers(&(NOW + 1).to_string(), &two);
        assert_eq!(verifier.verify_at(&later, body, NOW), Err(SignatureError::Wrong));
    }

    #[test]
    fn what_is_missing_or_nonsense_is_told() {
        let verifier = Verifier::new([secret(1)]);
        let missing = SignatureError::Missing("webhook-id");
        assert_eq!(verifier.verify(&HeaderMap::new(), b""), Err(missing));
        let missing = SignatureError::Missing("webhook-timestamp");
        assert_eq!(verifier.verify(&headers("soon", "v1,AAAA"), b""), Err(missing));
    }

    #[test]
    fn what_is_too_short_too_long_or_not_base64_is_no_secret_and_none_is_shown() {
        let long = format!("whsec_{}", BASE64_STANDARD.encode([0; 65]));
        for text in
            ["", "whsec_", "whsec_MfKQ9r8G", "MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", "whsec_%", &long]
        {
            assert_eq!(SigningSecret::parse(text), Err(InvalidSecret), "{text}");
        }
        assert_eq!(SigningSecret::parse(&secret(7).reveal()), Ok(secret(7)));
        assert!(!format!("{:?}", secret(1)).contains("AQEB"));
    }
}
