//! Message topics.

use std::fmt;
use std::sync::Arc;

use url::Url;

use super::params::{NotTaken, Params};

/// Any text of 1 to 255 characters that is not blank.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct MessageTopicName(Arc<str>);

impl MessageTopicName {
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// One that was checked before.
    pub(crate) fn from_checked(name: &str) -> Self {
        Self(name.into())
    }
}

impl fmt::Display for MessageTopicName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A topic as it was asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewTopic {
    pub name: MessageTopicName,
    /// Where messages can be fetched that got lost on their way here.
    pub origin_host: Url,
    pub recovery_enabled: bool,
}

impl NewTopic {
    /// One that the bus makes for itself, whose messages come from nowhere else.
    pub fn internal(name: &MessageTopicName, origin_host: Url) -> Self {
        Self { name: name.clone(), origin_host, recovery_enabled: false }
    }

    /// # Errors
    /// Everything that is wrong with it.
    pub fn parse(json: &[u8]) -> Result<Self, NotTaken> {
        let mut params = Params::read(json)?;
        let name = params.text("name").map(|name| MessageTopicName(name.into()));
        let origin_host = address(&mut params, "origin_host");
        let recovery_enabled = params.switch("recovery_enabled").unwrap_or(false);
        params.finish()?;
        match (name, origin_host) {
            (Some(name), Some(origin_host)) => Ok(Self { name, origin_host, recovery_enabled }),
            // Whatever is not there was noted as a fault.
            _ => Err(NotTaken::Faulty(Default::default())),
        }
    }
}

/// The URL that a parameter says; without a scheme, `http://` is meant.
pub(super) fn address(params: &mut Params, name: &'static str) -> Option<Url> {
    let text = params.text(name)?;
    let url = url_of(&text);
    if url.is_none() {
        params.fault(name, "must be a http:// or https:// URL");
    }
    url
}

fn url_of(text: &str) -> Option<Url> {
    let text = text.trim();
    let with_scheme = match text.split_once("://") {
        Some((scheme, _)) if scheme.chars().all(|c| c.is_ascii_alphanumeric()) => text.to_owned(),
        _ => format!("http://{}", text.trim_start_matches('/')),
    };
    let url = Url::parse(&with_scheme).ok()?;
    (matches!(url.scheme(), "http" | "https") && url.has_host()).then_some(url)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bus::message::Faults;

    fn parse(json: &str) -> Result<NewTopic, NotTaken> {
        NewTopic::parse(json.as_bytes())
    }

    #[test]
    fn a_topic_of_the_django_client_is_taken() {
        let json = r#"{"name":"some topic/ü","origin_host":"example.com/messages/","recovery_enabled":"true"}"#;
        let topic = parse(json).unwrap();
        assert_eq!(topic.name.as_str(), "some topic/ü");
        assert_eq!(topic.origin_host.as_str(), "http://example.com/messages/");
        assert!(topic.recovery_enabled);
        let topic = parse(r#"{"name":"a","origin_host":"https://example.com:8443"}"#).unwrap();
        assert_eq!((topic.origin_host.port(), topic.recovery_enabled), (Some(8443), false));
    }

    #[test]
    fn everything_that_is_wrong_is_told() {
        let Err(NotTaken::Faulty(Faults(faults))) =
            parse(r#"{"name":"","origin_host":"ftp://a","recovery_enabled":"perhaps"}"#)
        else {
            panic!("it was taken");
        };
        assert_eq!(faults["name"], ["can't be blank"]);
        assert_eq!(faults["origin_host"], ["must be a http:// or https:// URL"]);
        assert_eq!(faults["recovery_enabled"], ["is invalid"]);
        for host in ["http://", "a b", "::"] {
            assert!(parse(&format!(r#"{{"name":"a","origin_host":"{host}"}}"#)).is_err(), "{host}");
        }
    }
}
