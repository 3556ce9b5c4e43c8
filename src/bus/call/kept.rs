//! A call as a store keeps it: its title, which is method and URL, and the rest as its content.

use std::borrow::Cow;
use std::time::Duration;

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::{Call, CallKind, CallRequest, NoCall, Persistence};
use crate::bus::json::Rejection;
use crate::bus::postback::Endpoint;

/// What to do for a call that is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Order {
    pub request: CallRequest,
    pub persistence: Persistence,
    /// How long one attempt may take, if the caller has said so.
    pub timeout: Option<Duration>,
}

/// Why what is kept is no call.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotKept {
    #[error("the body that was accepted holds no call: {0}")]
    Unread(NoCall),
    #[error("{0}")]
    Postback(#[from] Rejection),
    #[error("what is kept of this call cannot be read")]
    Damaged,
}

/// The content of a call.
#[derive(Serialize, Deserialize)]
struct Content<'a> {
    headers: Cow<'a, [(String, String)]>,
    body: Cow<'a, str>,
    persistence: Persistence,
    /// Milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    timeout: Option<u64>,
}

impl CallRequest {
    /// Method and URL.
    pub fn title(&self) -> String {
        format!("{} {}", self.method, self.url)
    }
}

impl Call {
    /// All but the title.
    pub fn content(&self) -> Bytes {
        let content = Content {
            headers: self.request.headers.as_slice().into(),
            body: self.request.body.as_str().into(),
            persistence: self.persistence,
            timeout: self.timeout.map(|timeout| timeout.as_millis() as u64),
        };
        // Nothing in it can fail to be written.
        serde_json::to_vec(&content).unwrap_or_default().into()
    }
}

impl Order {
    /// Reads what is kept. Postbacks all have the same persistence and default value.
    ///
    /// # Errors
    /// If there is no call in it.
    pub fn read(
        kind: CallKind,
        title: &str,
        content: &[u8],
        postbacks: (Persistence, &str),
    ) -> Result<Self, NotKept> {
        let (method, url) = title.split_once(' ').unwrap_or_default();
        match kind {
            CallKind::Unread => match Call::parse(content, super::Dialect::Original) {
                Ok(Call { request, persistence, timeout, .. }) => {
                    Ok(Self { request, persistence, timeout })
                }
                Err(none) => Err(NotKept::Unread(none)),
            },
            CallKind::Call => {
                let content: Content<'_> =
                    serde_json::from_slice(content).map_err(|_| NotKept::Damaged)?;
                let Content { headers, body, persistence, timeout } = content;
                let (method, url) = (method.to_owned(), url.to_owned());
                let (headers, body) = (headers.into_owned(), body.into_owned());
                let request = CallRequest { method, url, headers, body };
                let timeout = timeout.map(Duration::from_millis);
                Ok(Self { request, persistence, timeout })
            }
            // A message says nothing of where it goes.
            CallKind::Message => Err(NotKept::Damaged),
            CallKind::Postback => {
                let (persistence, default) = postbacks;
                let endpoint = Endpoint::parse(method, url)?;
                let object: &RawValue =
                    serde_json::from_slice(content).map_err(|_| NotKept::Damaged)?;
                let request = endpoint.request(object, default)?;
                Ok(Self { request, persistence, timeout: None })
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::Dialect;
    use super::*;

    const PERSISTENCE: Persistence =
        Persistence { requeue: true, max_attempts: Some(5), give_up_after: None };

    fn read(kind: CallKind, title: &str, content: &[u8]) -> Result<Order, NotKept> {
        Order::read(kind, title, content, (PERSISTENCE, "none"))
    }

    #[test]
    fn a_call_is_read_as_it_was_kept() {
        let json = br#"{"url":"https://a.example/x?a=b c".."#;
        assert!(Call::parse(json, Dialect::Ours).is_err());
        let json = br#"{"url":"https://a.example/x?a=b","method":"put","headers":{"A":"\u00fc"},
            "body":"{\"a\":\"\\n\"}","requeue":true,"max_attempts":3,"timeout":500}"#;
        let call = Call::parse(json, Dialect::Ours).unwrap();
        let order = read(CallKind::Call, &call.request.title(), &call.content()).unwrap();
        assert_eq!(order.request, call.request);
        assert_eq!((order.persistence, order.timeout), (call.persistence, call.timeout));
        assert_eq!(call.request.title(), "PUT https://a.example/x?a=b");
        assert_eq!(read(CallKind::Call, "GET http://a", b"{}"), Err(NotKept::Damaged));
    }

    #[test]
    fn a_postback_is_made_from_its_endpoint_and_its_object() {
        let order =
            read(CallKind::Postback, "GET http://a.example/{x}?y={y}", br#"{"x":"1 2"}"#).unwrap();
        assert_eq!(order.request.title(), "GET http://a.example/1%202?y=none");
        assert_eq!(order.persistence, PERSISTENCE);
    }

    #[test]
    fn what_was_taken_unread_is_told_if_it_is_no_call() {
        let error = read(CallKind::Unread, "", b"no json").unwrap_err().to_string();
        assert!(error.starts_with("the body that was accepted holds no call: "), "{error}");
        assert!(read(CallKind::Unread, "", br#"{"url":"http://a.example"}"#).is_ok());
    }
}
