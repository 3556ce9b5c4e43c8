//! Google Pub/Sub: messages are published to a topic, some in one request, all or none of them.

use std::collections::BTreeMap;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use tokio::sync::OnceCell;
use url::Url;

use super::answer::{read_body, told};
use super::tokens::{NoToken, Tokens};

/// The most messages, and bytes of what they carry, that one request may have. Google takes 10 MB of JSON.
const MESSAGES_MAX: usize = 1000;
pub const BYTES_MAX: usize = 7_000_000;
/// How much of an answer is read.
const ANSWER_MAX: usize = 1024 * 1024;
/// How much of an error's text is shown, in characters.
const SHOWN: usize = 300;

/// What is published.
#[derive(Clone, Debug)]
pub struct PubSubMessage<'a> {
    pub data: Bytes,
    pub attributes: &'a BTreeMap<String, String>,
    /// Those of one key arrive in order, where the subscription asks for that.
    pub ordering_key: Option<&'a str>,
}

/// Why nothing of a request was published, as far as is known.
#[derive(Debug, thiserror::Error)]
pub enum PubSubError {
    #[error("Google Pub/Sub answered {status}: {text}")]
    Refused { status: u16, text: String },
    #[error("Google Pub/Sub: {0}")]
    Unanswered(String),
    #[error("{0}")]
    NoToken(#[from] NoToken),
    #[error("no project is known: set ROUTEMASTER_PUBSUB_PROJECT ({0})")]
    NoProject(String),
}

impl PubSubError {
    /// The status that was answered, if one was.
    pub fn status(&self) -> Option<u16> {
        match self {
            Self::Refused { status, .. } => Some(*status),
            _ => None,
        }
    }

    /// Whether the same would be refused again until somebody changes something.
    pub fn is_lasting(&self) -> bool {
        matches!(self.status(), Some(400 | 403 | 404))
    }
}

/// A project's Pub/Sub.
pub struct PubSub {
    client: reqwest::Client,
    endpoint: Url,
    project: OnceCell<String>,
    /// `None` for an emulator.
    tokens: Option<Tokens>,
}

#[derive(Serialize)]
struct Request<'a> {
    messages: Vec<RequestMessage<'a>>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct RequestMessage<'a> {
    data: String,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    attributes: &'a BTreeMap<String, String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    ordering_key: Option<&'a str>,
}

#[derive(Deserialize)]
struct ErrorBody {
    error: ErrorDetail,
}

#[derive(Deserialize)]
struct ErrorDetail {
    message: String,
}

impl PubSub {
    /// Without a project, the tokens' account says which.
    pub fn new(
        client: reqwest::Client,
        endpoint: Url,
        project: Option<String>,
        tokens: Option<Tokens>,
    ) -> Self {
        Self { client, endpoint, project: OnceCell::new_with(project), tokens }
    }

    /// Looks whether it lets us in; the project.
    ///
    /// # Errors
    /// If no token, or no project, is to be had.
    pub async fn look(&self) -> Result<String, PubSubError> {
        self.token().await?;
        self.project().await.map(str::to_owned)
    }

    /// Publishes messages in their order, in as many requests as they need. If one fails, nothing after it is sent,
    /// so that what is sent again comes in order too.
    ///
    /// # Errors
    /// Why the first that failed did.
    pub async fn publish_all(
        &self,
        topic: &str,
        messages: &[PubSubMessage<'_>],
        timeout: Duration,
    ) -> Result<(), PubSubError> {
        let (mut from, mut bytes) = (0, 0);
        for (index, message) in messages.iter().enumerate() {
            let is_full = index - from >= MESSAGES_MAX || bytes + message.data.len() > BYTES_MAX;
            if index > from && is_full {
                self.publish(topic, &messages[from..index], timeout).await?;
                (from, bytes) = (index, 0);
            }
            bytes += message.data.len();
        }
        match &messages[from..] {
            [] => Ok(()),
            rest => self.publish(topic, rest, timeout).await,
        }
    }

    /// Publishes messages, all or none of them, in their order.
    ///
    /// # Errors
    /// Why they were not, or nobody knows.
    async fn publish(
        &self,
        topic: &str,
        messages: &[PubSubMessage<'_>],
        timeout: Duration,
    ) -> Result<(), PubSubError> {
        let publishing = self.publish_unbounded(topic, messages);
        let late =
            || PubSubError::Unanswered(format!("no answer within {} ms", timeout.as_millis()));
        tokio::time::timeout(timeout, publishing).await.unwrap_or_else(|_| Err(late()))
    }

    async fn publish_unbounded(
        &self,
        topic: &str,
        messages: &[PubSubMessage<'_>],
    ) -> Result<(), PubSubError> {
        let mut url = self.endpoint.clone();
        url.set_path(&format!("/v1/projects/{}/topics/{topic}:publish", self.project().await?));
        let body = body(messages)?;
        let token = self.token().await?;
        let mut answered = self.post(&url, body.clone(), token.as_deref()).await?;
        if let (Err((401, _)), Some(tokens), Some(token)) = (&answered, &self.tokens, &token) {
            tokens.refused(token).await;
            let token = tokens.token().await?;
            answered = self.post(&url, body, Some(&token)).await?;
        }
        answered.map_err(|(status, text)| PubSubError::Refused { status, text })
    }

    async fn project(&self) -> Result<&str, PubSubError> {
        let asked = self.project.get_or_try_init(|| async {
            match &self.tokens {
                Some(tokens) => tokens.project().await.map_err(|error| error.to_string()),
                None => Err("the emulator has none of its own".into()),
            }
        });
        asked.await.map(String::as_str).map_err(PubSubError::NoProject)
    }

    async fn token(&self) -> Result<Option<String>, NoToken> {
        match &self.tokens {
            Some(tokens) => tokens.token().await.map(Some),
            None => Ok(None),
        }
    }

    /// The status and text of an answer that is no success are the inner error.
    async fn post(
        &self,
        url: &Url,
        body: Bytes,
        token: Option<&str>,
    ) -> Result<Result<(), (u16, String)>, PubSubError> {
        let mut request =
            self.client.post(url.clone()).header("content-type", "application/json").body(body);
        if let Some(token) = token {
            request = request.bearer_auth(token);
        }
        let response =
            request.send().await.map_err(|error| PubSubError::Unanswered(told(&error)))?;
        let status = response.status();
        let text = read_body(response, ANSWER_MAX).await;
        Ok(if status.is_success() { Ok(()) } else { Err((status.as_u16(), error_text(&text))) })
    }
}

fn body(messages: &[PubSubMessage<'_>]) -> Result<Bytes, PubSubError> {
    let messages = messages
        .iter()
        .map(|message| RequestMessage {
            data: STANDARD.encode(&message.data),
            attributes: message.attributes,
            ordering_key: message.ordering_key,
        })
        .collect();
    let json = serde_json::to_vec(&Request { messages });
    json.map(Bytes::from).map_err(|error| PubSubError::Unanswered(error.to_string()))
}

/// What an error says in words, if it has some.
fn error_text(answer: &str) -> String {
    let said = serde_json::from_str::<ErrorBody>(answer).map(|body| body.error.message);
    let text = said.unwrap_or_else(|_| answer.to_owned());
    text.split_whitespace().collect::<Vec<_>>().join(" ").chars().take(SHOWN).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_errors_own_words_are_shown() {
        let google = r#"{"error":{"code":404,"message":"Resource not found\n (resource=a).","status":"NOT_FOUND"}}"#;
        assert_eq!(error_text(google), "Resource not found (resource=a).");
        assert_eq!(error_text("<html>\n no"), "<html> no");
        assert_eq!(error_text(&"x".repeat(1000)).len(), SHOWN);
    }

    #[test]
    fn a_request_has_what_pubsub_reads() {
        let attributes = BTreeMap::from([("a".to_owned(), "b".to_owned())]);
        let none = BTreeMap::new();
        let message = |attributes, ordering_key| PubSubMessage {
            data: Bytes::from_static(b"{}"),
            attributes,
            ordering_key,
        };
        let json = body(&[message(&attributes, Some("k")), message(&none, None)]).unwrap();
        assert_eq!(
            std::str::from_utf8(&json).unwrap(),
            r#"{"messages":[{"data":"e30=","attributes":{"a":"b"},"orderingKey":"k"},{"data":"e30="}]}"#
        );
    }
}
