//! Who forwards a topic's messages, and where to.

use std::ops::RangeInclusive;
use std::time::Duration;

use url::Url;

use super::params::{NotTaken, Params};
use super::topic::{MessageTopicName, address};
use crate::bus::pubsub::{PUBSUB_TOPIC_RULE, is_pubsub_topic};
use crate::bus::signature::{InvalidSecrets, SigningSecrets};
use crate::bus::subscription::Change;
use crate::bus::subscription::options::secret_change;

/// Seconds that an attempt may take, and that the first pause may last.
const SECONDS: RangeInclusive<u64> = 1..=3600;
/// Messages in one request to Google Pub/Sub, which takes no more.
const CHUNK: RangeInclusive<u64> = 1..=1000;
const ATTEMPTS: RangeInclusive<u64> = 1..=1_000_000;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum TargetKind {
    Http,
    PubSub,
}

impl TargetKind {
    /// The original's word for it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Http => "http",
            Self::PubSub => "pubsub",
        }
    }

    pub fn parse(text: &str) -> Option<Self> {
        [Self::Http, Self::PubSub].into_iter().find(|kind| kind.as_str() == text)
    }
}

/// Where messages go.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum PublisherTarget {
    Http(Url),
    /// A topic of the project that the settings name.
    PubSub(String),
}

impl PublisherTarget {
    pub fn kind(&self) -> TargetKind {
        match self {
            Self::Http(_) => TargetKind::Http,
            Self::PubSub(_) => TargetKind::PubSub,
        }
    }

    pub fn as_str(&self) -> &str {
        match self {
            Self::Http(url) => url.as_str(),
            Self::PubSub(topic) => topic,
        }
    }
}

/// How messages are forwarded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Terms {
    /// Whether it forwards at all; what comes meanwhile waits.
    pub active: bool,
    /// How long one attempt may take.
    pub timeout: Duration,
    /// The pause after the first failure; it doubles up to an hour.
    pub retry: Duration,
    /// How many messages one request to Google Pub/Sub has, at most.
    pub chunk_size: u32,
    /// After how many attempts a message is given up; nothing: after the setting's.
    pub max_attempts: Option<u32>,
    /// What is signed with them; of messages that go by HTTP.
    pub secrets: SigningSecrets,
}

impl Default for Terms {
    fn default() -> Self {
        Self {
            active: false,
            timeout: Duration::from_secs(5),
            retry: Duration::from_secs(30),
            chunk_size: 20,
            max_attempts: None,
            secrets: SigningSecrets::default(),
        }
    }
}

/// A publisher as it was asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewPublisher {
    pub topic: MessageTopicName,
    pub target: PublisherTarget,
    /// Whether it leaves out what came before it.
    pub from_now: bool,
    pub terms: Terms,
}

/// What is to be different.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PublisherChange {
    /// Of the same kind as before.
    pub target: Option<String>,
    pub active: Option<bool>,
    pub timeout: Option<Duration>,
    pub retry: Option<Duration>,
    pub chunk_size: Option<u32>,
    pub max_attempts: Option<u32>,
    pub secrets: Change<SigningSecrets>,
}

impl NewPublisher {
    /// # Errors
    /// Everything that is wrong with it.
    pub fn parse(json: &[u8]) -> Result<Self, NotTaken> {
        let mut params = Params::read(json)?;
        let topic = params.text("topic");
        let kind = params.text("type").and_then(|text| {
            let kind = TargetKind::parse(&text);
            if kind.is_none() {
                params.fault("type", "is invalid");
            }
            kind
        });
        let target = match kind {
            Some(TargetKind::Http) => address(&mut params, "target").map(PublisherTarget::Http),
            Some(TargetKind::PubSub) => pubsub_topic(&mut params).map(PublisherTarget::PubSub),
            None => params.text("target").map(PublisherTarget::PubSub),
        };
        let from_now = params.switch("from_now").unwrap_or(true);
        let change = PublisherChange::read(&mut params);
        params.finish()?;
        match (topic, target) {
            (Some(topic), Some(target)) => Ok(Self {
                topic: MessageTopicName::from_checked(&topic),
                target,
                from_now,
                terms: change.applied_to(Terms::default()),
            }),
            // Whatever is not there was noted as a fault.
            _ => Err(NotTaken::Faulty(Default::default())),
        }
    }
}

impl PublisherChange {
    /// What a request wants to be different of a publisher of this kind.
    ///
    /// # Errors
    /// Everything that is wrong with it.
    pub fn parse(json: &[u8], kind: TargetKind) -> Result<Self, NotTaken> {
        let mut params = Params::read(json)?;
        let mut change = Self::read(&mut params);
        if params.get("target").is_some() {
            change.target = match kind {
                TargetKind::Http => address(&mut params, "target").map(String::from),
                TargetKind::PubSub => pubsub_topic(&mut params),
            };
        }
        params.finish()?;
        Ok(change)
    }

    fn read(params: &mut Params) -> Self {
        let small = |number: u64| u32::try_from(number).unwrap_or(u32::MAX);
        Self {
            target: None,
            active: params.switch("active"),
            timeout: params.number("seconds_timeout", SECONDS).map(Duration::from_secs),
            retry: params.number("seconds_retry", SECONDS).map(Duration::from_secs),
            chunk_size: params.number("chunk_size", CHUNK).map(small),
            max_attempts: params.number("max_attempts", ATTEMPTS).map(small),
            secrets: secrets(params),
        }
    }

    pub fn applied_to(&self, terms: Terms) -> Terms {
        Terms {
            active: self.active.unwrap_or(terms.active),
            timeout: self.timeout.unwrap_or(terms.timeout),
            retry: self.retry.unwrap_or(terms.retry),
            chunk_size: self.chunk_size.unwrap_or(terms.chunk_size),
            max_attempts: self.max_attempts.or(terms.max_attempts),
            secrets: self.secrets.clone().apply(Some(terms.secrets)).unwrap_or_default(),
        }
    }
}

/// `secret`, as in a subscription.
fn secrets(params: &mut Params) -> Change<SigningSecrets> {
    let value = params.get("secret").and_then(|value| serde_json::from_str(value.get()).ok());
    secret_change(value).unwrap_or_else(|_| {
        params.fault("secret", InvalidSecrets);
        Change::Keep
    })
}

/// The name of a topic as Google has them.
fn pubsub_topic(params: &mut Params) -> Option<String> {
    let topic = params.text("target")?;
    if is_pubsub_topic(&topic) {
        return Some(topic);
    }
    params.fault("target", PUBSUB_TOPIC_RULE);
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bus::message::Faults;

    fn parse(json: &str) -> Result<NewPublisher, NotTaken> {
        NewPublisher::parse(json.as_bytes())
    }

    fn faults(json: &str) -> Vec<(&'static str, String)> {
        match parse(json) {
            Err(NotTaken::Faulty(Faults(faults))) => {
                faults.into_iter().map(|(field, told)| (field, told.join(", "))).collect()
            }
            other => panic!("{json}: {other:?}"),
        }
    }

    #[test]
    fn publishers_of_the_django_client_are_taken() {
        let http = parse(
            r#"{"active":true,"target":"http://www.some_url.com","topic":"some_topic","type":"http",
                "seconds_timeout":20,"seconds_retry":60,"from_now":true}"#,
        )
        .unwrap();
        assert_eq!(http.target.as_str(), "http://www.some_url.com/");
        assert_eq!(
            (http.topic.as_str(), http.from_now, http.terms.active),
            ("some_topic", true, true)
        );
        assert_eq!((http.terms.timeout.as_secs(), http.terms.retry.as_secs()), (20, 60));

        let pubsub =
            parse(r#"{"active":"false","target":"another_topic","topic":"t","type":"pubsub"}"#)
                .unwrap();
        assert_eq!(pubsub.target, PublisherTarget::PubSub("another_topic".into()));
        assert_eq!((pubsub.terms, pubsub.from_now), (Terms::default(), true));
    }

    #[test]
    fn everything_that_is_wrong_is_told() {
        assert_eq!(
            faults(r#"{"type":"ftp","seconds_timeout":"soon","chunk_size":0,"from_now":2}"#),
            [
                ("chunk_size", "must be 1 to 1000".into()),
                ("from_now", "is invalid".into()),
                ("seconds_timeout", "is invalid".into()),
                ("target", "can't be blank".into()),
                ("topic", "can't be blank".into()),
                ("type", "is invalid".to_owned()),
            ]
        );
        let wrong_target = |target: &str, kind: &str| {
            faults(&format!(r#"{{"topic":"t","target":"{target}","type":"{kind}"}}"#))[0].0
                == "target"
        };
        assert!(wrong_target("gopher://a", "http") && wrong_target(" ", "http"));
        assert!(wrong_target("projects/p/topics/t", "pubsub") && wrong_target("1ab", "pubsub"));
    }

    #[test]
    fn a_change_leaves_what_it_does_not_name() {
        let change = PublisherChange::parse(
            br#"{"active":"1","target":"b.example","seconds_retry":null}"#,
            TargetKind::Http,
        )
        .unwrap();
        assert_eq!(change.target.as_deref(), Some("http://b.example/"));
        let terms = change.applied_to(Terms { chunk_size: 7, ..Terms::default() });
        assert_eq!(terms, Terms { active: true, chunk_size: 7, ..Terms::default() });
        assert!(PublisherChange::parse(br#"{"target":" "}"#, TargetKind::Http).is_err());
    }
}
