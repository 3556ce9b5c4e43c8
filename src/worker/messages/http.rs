//! Messages to a service: a POST each.

use std::time::Duration;

use bytes::Bytes;
use http::header::{self, HeaderValue};
use http::{HeaderMap, Method, Request, Uri};
use http_body_util::Full;
use url::Url;

use crate::bus::message::MessageContent;
use crate::bus::message::Terms;
use crate::bus::user_info;
use crate::egress::client::USER_AGENT;
use crate::egress::signing::sign;
use crate::worker::calls::{Answer, CallCourier, CallError};

/// A request that carries a message.
pub struct MessageRequest {
    url: Url,
    request: Request<Full<Bytes>>,
    pub bytes: usize,
    /// What nobody else may see.
    pub secret: Option<String>,
}

impl MessageRequest {
    /// `None` if there is something in the target that no request can be sent to.
    pub fn new(
        target: &str,
        terms: &Terms,
        id: &str,
        attempt: u32,
        content: &MessageContent,
    ) -> Option<Self> {
        let (target, user) = user_info::taken_out(target);
        let url = Url::parse(&target).ok()?;
        let mut headers = HeaderMap::with_capacity(5);
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
        headers.insert(header::USER_AGENT, HeaderValue::from_static(USER_AGENT));
        headers.insert("message-id", HeaderValue::from_str(id).ok()?);
        headers.insert("routemaster-attempt", attempt.into());
        if let Some(trace) = content.trace {
            let trace = trace.next_hop().to_string();
            headers.insert("traceparent", HeaderValue::from_str(&trace).ok()?);
        }
        let secret = user.map(|user| {
            let (user, password) = user.split_once(':').unwrap_or((user, ""));
            user_info::authorization(user, password)
        });
        if let Some(secret) = &secret {
            let mut value = HeaderValue::from_str(secret).ok()?;
            value.set_sensitive(true);
            headers.insert(header::AUTHORIZATION, value);
        }
        let body = content.http_body();
        sign(&mut headers, &terms.secrets, id, &body);
        let bytes = body.len();
        let uri = Uri::builder()
            .scheme(url.scheme())
            .authority(&url[url::Position::BeforeHost..url::Position::AfterPort])
            .path_and_query(&url[url::Position::BeforePath..url::Position::AfterQuery])
            .build()
            .ok()?;
        let mut request = Request::new(Full::new(body));
        *request.method_mut() = Method::POST;
        *request.uri_mut() = uri;
        *request.headers_mut() = headers;
        Some(Self { url, request, bytes, secret })
    }

    /// Sends it.
    ///
    /// # Errors
    /// Why there is no answer within `timeout`.
    pub async fn send(self, courier: &CallCourier, timeout: Duration) -> Result<Answer, CallError> {
        courier.send(self.request, &self.url, timeout).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_says_which_message_it_carries() {
        let content = br#"{"payload":{"a":1},"attributes":{"b":"c"}}"#;
        let content = MessageContent::from_bytes(content).unwrap();
        let target = "https://u:p%40@a.example:8443/x?y=1";
        let made = MessageRequest::new(target, &Terms::default(), "17", 2, &content).unwrap();
        assert_eq!(made.request.uri(), "https://a.example:8443/x?y=1");
        assert_eq!(made.secret.as_deref(), Some("Basic dTpwQA=="));
        let header = |name: &str| made.request.headers()[name].to_str().unwrap();
        assert_eq!((header("message-id"), header("routemaster-attempt")), ("17", "2"));
        assert_eq!(header("authorization"), "Basic dTpwQA==");
        assert_eq!(made.bytes, r#"{"a":1,"attributes":{"b":"c"}}"#.len());
    }
}
