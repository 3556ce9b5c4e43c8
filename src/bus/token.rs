//! Client tokens: the secret a client authenticates with, and the name it is shown under.

use std::fmt;
use std::sync::Arc;

/// A client's token: 1 to 64 of `[a-z0-9:_-]`.
///
/// It is a password. `Display` and `Debug` show [`ClientToken::label`], so that a token can
/// appear in a log line or a metric without being given away; [`ClientToken::reveal`] is the
/// only way to the whole of it.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ClientToken(Arc<str>);

/// Why a string is not a token. The string itself is not repeated: it may be a secret.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("a token is 1 to 64 of the characters a-z, 0-9, colon, underscore and hyphen")]
pub struct InvalidToken;

/// What stands between a service's name and the secret part of a token.
const NAME_END: &str = "--";
/// The longest service name: a token made for it still fits into 64 characters.
pub(super) const SERVICE_NAME_MAX: usize = 30;

impl ClientToken {
    /// The longest token, in characters (contract §1).
    pub const MAX: usize = 64;

    pub fn parse(token: &str) -> Result<Self, InvalidToken> {
        if (1..=Self::MAX).contains(&token.len()) && token.bytes().all(is_token_byte) {
            Ok(Self(token.into()))
        } else {
            Err(InvalidToken)
        }
    }

    /// Makes a token for a service: `<name>--<32 hex digits>`, 128 of its bits random.
    pub fn generate(name: &ServiceName) -> anyhow::Result<Self> {
        Ok(Self(format!("{}{NAME_END}{}", name.0, random_hex()?).into()))
    }

    /// Takes a token that was checked before it was stored.
    pub(crate) fn from_stored(token: &str) -> Self {
        Self(token.into())
    }

    /// The whole token, for comparing, storing and sending. Never for a log or a metric.
    pub fn reveal(&self) -> &str {
        &self.0
    }

    /// The part before `--`, which is no secret. A token without `--` has none.
    pub fn service_name(&self) -> Option<&str> {
        let (name, _secret) = self.0.split_once(NAME_END)?;
        (!name.is_empty()).then_some(name)
    }

    /// What may be shown of the token anywhere: its service's name, or its first characters.
    pub fn label(&self) -> String {
        match self.service_name() {
            Some(name) => name.to_owned(),
            None => format!("{}…", &self.0[..(self.0.len() / 2).min(4)]),
        }
    }
}

impl fmt::Display for ClientToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.label())
    }
}

impl fmt::Debug for ClientToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ClientToken({})", self.label())
    }
}

/// The name of a service that a token is made for: 1 to 30 of a token's characters.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServiceName(String);

/// Why a string is not a service's name.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error(
    "`name` must be 1 to {SERVICE_NAME_MAX} of the characters a-z, 0-9, colon, underscore and \
     hyphen, without `{NAME_END}`"
)]
pub struct InvalidServiceName;

impl ServiceName {
    pub fn parse(name: &str) -> Result<Self, InvalidServiceName> {
        let fits = (1..=SERVICE_NAME_MAX).contains(&name.len());
        if fits && name.bytes().all(is_token_byte) && !name.contains(NAME_END) {
            Ok(Self(name.to_owned()))
        } else {
            Err(InvalidServiceName)
        }
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// A token made through `/api_tokens`, with the name it was made for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ApiToken {
    pub name: String,
    pub token: ClientToken,
}

fn is_token_byte(byte: u8) -> bool {
    byte.is_ascii_lowercase() || byte.is_ascii_digit() || matches!(byte, b':' | b'_' | b'-')
}

/// 32 hexadecimal digits from the system's random source.
pub fn random_hex() -> anyhow::Result<String> {
    use ring::rand::SecureRandom;
    let mut bytes = [0u8; 16];
    ring::rand::SystemRandom::new()
        .fill(&mut bytes)
        .map_err(|_| anyhow::anyhow!("the system's random source failed"))?;
    Ok(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_never_shown_whole() {
        for (token, label) in [
            ("booking--0123456789abcdef0123456789abcdef", "booking"),
            ("demo", "de…"),
            ("a", "…"),
            ("--secret", "--se…"),
            ("s3cr3t-of-somebody", "s3cr…"),
        ] {
            let parsed = ClientToken::parse(token).unwrap();
            assert_eq!(parsed.to_string(), label);
            assert!(!format!("{parsed:?}").contains(token));
        }
    }

    #[test]
    fn a_generated_token_is_valid_and_carries_its_name() {
        let name = ServiceName::parse(&"n".repeat(SERVICE_NAME_MAX)).unwrap();
        let token = ClientToken::generate(&name).unwrap();
        assert_eq!(ClientToken::parse(token.reveal()), Ok(token.clone()));
        assert_eq!(token.service_name(), Some(name.as_str()));
        assert_ne!(token, ClientToken::generate(&name).unwrap());
    }

    #[test]
    fn upper_case_spaces_and_long_strings_are_no_tokens() {
        for bad in ["", "Demo", "a b", "é", "a,b", &"a".repeat(65)] {
            assert_eq!(ClientToken::parse(bad), Err(InvalidToken), "{bad:?}");
        }
    }
}
