//! What callers authenticate with: client tokens, the root key, and the names they are shown under.

use std::fmt;
use std::sync::Arc;

use ring::digest::{SHA256, digest};

use super::hex::hex;

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
/// The longest name that a token is made for: `<name>--<32 hex digits>` still fits into 64 characters.
const GENERATED_NAME_MAX: usize = 30;
/// The longest service name.
pub const SERVICE_NAME_MAX: usize = ClientToken::MAX;

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
    ///
    /// # Errors
    /// If the name does not leave room for that, or holds what would end it early.
    pub fn generate(name: &ServiceName) -> Result<Self, NotGenerated> {
        if name.0.len() > GENERATED_NAME_MAX || name.0.contains(NAME_END) {
            return Err(NotGenerated::NameNeedsToken);
        }
        let secret = random_hex().map_err(|error| NotGenerated::NoRandomness(error.to_string()))?;
        Ok(Self(format!("{}{NAME_END}{secret}", name.0).into()))
    }

    /// Takes a token that was checked before it was stored.
    pub(crate) fn from_stored(token: &str) -> Self {
        Self(token.into())
    }

    /// The whole token, for comparing, storing and sending. Never for a log or a metric.
    pub fn reveal(&self) -> &str {
        &self.0
    }

    /// Names the token where neither it nor its label may stand, such as in an address: the beginning of its SHA-256, as 24
    /// hexadecimal digits.
    pub fn short_hash(&self) -> String {
        hex(&digest(&SHA256, self.0.as_bytes()).as_ref()[..12])
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
            None if PSEUDO_CLIENTS.contains(&&*self.0) => self.0.to_string(),
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

/// Why no token was made for a name.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum NotGenerated {
    #[error(
        "`name` must have at most {GENERATED_NAME_MAX} characters and no `{NAME_END}` when a token is \
         made for it: choose another name, or give the token as well"
    )]
    NameNeedsToken,
    #[error("{0}")]
    NoRandomness(String),
}

/// The key of the bus's owner: 1 to 256 printable characters but the colon, at which the user name of
/// HTTP Basic ends. It is a password, and is shown nowhere.
#[derive(Clone, PartialEq, Eq)]
pub struct RootKey(Arc<str>);

impl RootKey {
    /// The longest key, in characters.
    pub const MAX: usize = 256;

    pub fn parse(key: &str) -> Option<Self> {
        let is_allowed = |c: char| c != ':' && !c.is_control();
        let fits = (1..=Self::MAX).contains(&key.chars().count());
        (fits && key.chars().all(is_allowed)).then(|| Self(key.into()))
    }

    /// The key itself, for comparing and sending.
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for RootKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("RootKey(…)")
    }
}

/// Whose calls are that come without a client's token: by the key of the original's clients, by nobody
/// in particular, by the holder of the root key. No client has such a token.
pub const PSEUDO_CLIENTS: [&str; 5] = ["calls-key", "open", "root", MESSAGES_CLIENT, NEWS_CLIENT];
/// Who publishes the bus's own news.
pub const NEWS_CLIENT: &str = "routemaster_news";
/// Whose calls are that forward messages.
pub const MESSAGES_CLIENT: &str = "messages";

/// What a caller sends as the user name of HTTP Basic.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum UserName {
    Client(ClientToken),
    /// It can be no client's token.
    Root(RootKey),
}

impl UserName {
    /// `None` if neither a token nor a root key can look like this.
    pub fn parse(text: &str) -> Option<Self> {
        let token = ClientToken::parse(text).ok().map(Self::Client);
        token.or_else(|| RootKey::parse(text).map(Self::Root))
    }

    /// The secret itself.
    pub fn reveal(&self) -> &str {
        match self {
            Self::Client(token) => token.reveal(),
            Self::Root(key) => key.reveal(),
        }
    }
}

/// As it may be shown.
impl fmt::Display for UserName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Client(token) => token.fmt(f),
            Self::Root(_) => f.write_str("…"),
        }
    }
}

/// The name of a service that a token is for: 1 to 64 of a token's characters.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServiceName(String);

/// Why a string is not a service's name.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error(
    "`name` must be 1 to {SERVICE_NAME_MAX} of the characters a-z, 0-9, colon, underscore and hyphen"
)]
pub struct InvalidServiceName;

impl ServiceName {
    pub fn parse(name: &str) -> Result<Self, InvalidServiceName> {
        let fits = (1..=SERVICE_NAME_MAX).contains(&name.len());
        if fits && name.bytes().all(is_token_byte) {
            Ok(Self(name.to_owned()))
        } else {
            Err(InvalidServiceName)
        }
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// A token that the store knows, with the name it was made for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ApiToken {
    pub name: String,
    pub token: ClientToken,
    /// Whose it is: what belongs to a client is kept under the token that it had first.
    pub client: ClientToken,
    /// Until when it lets its client in, in milliseconds since the epoch, if another one took its place.
    pub until_ms: Option<u64>,
}

impl ApiToken {
    /// The first token of a client.
    pub fn new(name: String, token: ClientToken) -> Self {
        Self { name, client: token.clone(), token, until_ms: None }
    }

    pub fn is_over(&self, now_ms: u64) -> bool {
        self.until_ms.is_some_and(|until_ms| until_ms <= now_ms)
    }
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
    Ok(hex(&bytes))
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
        let name = ServiceName::parse(&"n".repeat(GENERATED_NAME_MAX)).unwrap();
        let token = ClientToken::generate(&name).unwrap();
        assert_eq!(ClientToken::parse(token.reveal()), Ok(token.clone()));
        assert_eq!(token.service_name(), Some(name.as_str()));
        assert_ne!(token, ClientToken::generate(&name).unwrap());
    }

    #[test]
    fn a_name_that_no_token_can_carry_needs_one_that_is_given() {
        for name in ["a--b", &"n".repeat(GENERATED_NAME_MAX + 1), &"n".repeat(64)] {
            let parsed = ServiceName::parse(name).unwrap();
            assert_eq!(ClientToken::generate(&parsed), Err(NotGenerated::NameNeedsToken));
        }
        assert_eq!(ServiceName::parse(&"n".repeat(65)), Err(InvalidServiceName));
    }

    #[test]
    fn a_root_key_is_anything_printable_but_a_colon() {
        for good in ["CHANGE-ME", "p@ss w0rd!", "ключ", &"k".repeat(256)] {
            let key = RootKey::parse(good).expect(good);
            assert_eq!(key.reveal(), good);
            assert!(!format!("{key:?}").contains(good));
        }
        for bad in ["", "a:b", "a\nb", "a\0", &"k".repeat(257)] {
            assert_eq!(RootKey::parse(bad), None, "{bad:?}");
        }
    }

    #[test]
    fn a_user_name_is_a_token_wherever_it_can_be_one() {
        let token = ClientToken::parse("demo").unwrap();
        assert_eq!(UserName::parse("demo"), Some(UserName::Client(token)));
        let root = UserName::parse("CHANGE-ME").unwrap();
        assert_eq!((root.reveal(), root.to_string().as_str()), ("CHANGE-ME", "…"));
        assert_eq!(UserName::parse("a:B"), None);
    }

    #[test]
    fn upper_case_spaces_and_long_strings_are_no_tokens() {
        for bad in ["", "Demo", "a b", "é", "a,b", &"a".repeat(65)] {
            assert_eq!(ClientToken::parse(bad), Err(InvalidToken), "{bad:?}");
        }
    }
}
