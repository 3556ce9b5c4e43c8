//! A client of the bus: what it sends, and what it is told.

use std::path::Path;
use std::time::Duration;

use base64::Engine;
use reqwest::header::HeaderMap;
use reqwest::{Method, Version};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use serde_json::{Value, json};

use super::bus::CLIENTS;
use super::description::description;
use super::receiver::Receiver;

/// Longer than the bus may take for anything.
const REQUEST_LIMIT: Duration = Duration::from_secs(15);

/// Speaks with one process of the bus, with one token. Cheap to clone.
#[derive(Clone)]
pub struct Client {
    http: reqwest::Client,
    base: String,
    authorization: Option<String>,
    /// By which name the bus is asked, if not by that of this machine.
    host: Option<String>,
    /// Whether the answers must be as the API's description says.
    described: bool,
}

/// An answer of the bus, read to its end.
#[derive(Debug)]
pub struct Reply {
    pub status: u16,
    pub version: Version,
    pub headers: HeaderMap,
    pub body: String,
}

impl Reply {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).and_then(|value| value.to_str().ok())
    }

    pub fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|_| panic!("this is no JSON: {self:?}"))
    }

    /// Requires this status.
    #[track_caller]
    pub fn expect(self, status: u16) -> Self {
        assert_eq!(self.status, status, "{self:?}");
        self
    }

    /// Requires this status, and a reason in one line of text for a person to read.
    #[track_caller]
    pub fn expect_reason(self, status: u16) -> String {
        assert_eq!(self.status, status, "{self:?}");
        let content_type = self.header("content-type").unwrap_or_default();
        assert!(content_type.starts_with("text/plain"), "{self:?}");
        let reason = self.body.trim_end().to_owned();
        assert!(!reason.is_empty() && !reason.contains(['\n', '\r']), "{self:?}");
        reason
    }
}

/// An answer that is read line by line.
pub struct Lines {
    response: reqwest::Response,
    read: String,
}

impl Lines {
    /// The next line that is not empty.
    pub async fn next(&mut self) -> String {
        loop {
            if let Some((line, rest)) = self.read.split_once('\n') {
                let (line, rest) = (line.to_owned(), rest.to_owned());
                self.read = rest;
                if !line.is_empty() {
                    return line;
                }
                continue;
            }
            let chunk = self.response.chunk().await.expect("more of the answer");
            self.read += std::str::from_utf8(&chunk.expect("it does not end")).expect("text");
        }
    }

    /// Whether something more comes within this time.
    pub async fn comes_within(&mut self, time: Duration) -> bool {
        match tokio::time::timeout(time, self.response.chunk()).await {
            Ok(chunk) => {
                let chunk = chunk.expect("more of the answer").expect("it does not end");
                self.read += std::str::from_utf8(&chunk).expect("text");
                true
            }
            Err(_) => false,
        }
    }
}

impl Client {
    /// A client over HTTP/1.1 that trusts this authority only.
    pub fn new(base: &str, ca: &Path) -> Self {
        Self::speaking(base, ca, b"http/1.1")
    }

    /// A client that offers one protocol only.
    #[allow(clippy::disallowed_methods, reason = "clients of the bus are not built by the bus")]
    pub fn speaking(base: &str, ca: &Path, protocol: &[u8]) -> Self {
        let http = reqwest::Client::builder()
            .timeout(REQUEST_LIMIT)
            .redirect(reqwest::redirect::Policy::none())
            .no_proxy();
        let http = if base.starts_with("https") {
            let mut roots = rustls::RootCertStore::empty();
            for certificate in CertificateDer::pem_file_iter(ca).unwrap() {
                roots.add(certificate.unwrap()).unwrap();
            }
            let tls = rustls::ClientConfig::builder().with_root_certificates(roots);
            let mut tls = tls.with_no_client_auth();
            tls.alpn_protocols = vec![protocol.to_vec()];
            http.tls_backend_preconfigured(tls)
        } else {
            let unused = rustls::ClientConfig::builder()
                .with_root_certificates(rustls::RootCertStore::empty())
                .with_no_client_auth();
            http.tls_backend_preconfigured(unused)
        };
        Self {
            http: http.build().unwrap(),
            base: base.to_owned(),
            authorization: None,
            host: None,
            described: true,
        }
    }

    /// For a server that has some routes of the API only.
    pub fn beside_the_api(self) -> Self {
        Self { described: false, ..self }
    }

    pub fn with_token(&self, token: &str) -> Self {
        self.with_authorization(&basic(&format!("{token}:x")))
    }

    /// Asks for the bus by another name than that of this machine.
    pub fn for_host(self, host: &str) -> Self {
        Self { host: Some(host.to_owned()), ..self }
    }

    /// Sends this as the whole `Authorization` header.
    pub fn with_authorization(&self, header: &str) -> Self {
        Self { authorization: Some(header.to_owned()), ..self.clone() }
    }

    pub async fn get(&self, path: &str) -> Reply {
        self.request(Method::GET, path).await
    }

    pub async fn delete(&self, path: &str) -> Reply {
        self.request(Method::DELETE, path).await
    }

    pub async fn post(&self, path: &str, body: impl Into<reqwest::Body>) -> Reply {
        let headers = [("content-type", "application/json")];
        let reply = self.try_send(Method::POST, path, &headers, body).await;
        reply.unwrap_or_else(|error| panic!("POST {path} was not answered: {error:?}"))
    }

    pub async fn put(&self, path: &str, body: impl Into<reqwest::Body>) -> Reply {
        let reply = self.try_send(Method::PUT, path, &[], body).await;
        reply.unwrap_or_else(|error| panic!("PUT {path} was not answered: {error:?}"))
    }

    pub async fn request(&self, method: Method, path: &str) -> Reply {
        self.request_with(method, path, &[]).await
    }

    pub async fn request_with(
        &self,
        method: Method,
        path: &str,
        headers: &[(&str, &str)],
    ) -> Reply {
        let reply = self.try_send(method.clone(), path, headers, "").await;
        reply.unwrap_or_else(|error| panic!("{method} {path} was not answered: {error:?}"))
    }

    /// Opens an answer that does not end, and reads it line by line.
    pub async fn stream(&self, path: &str, accept: &str) -> Lines {
        self.stream_with(path, &[("accept", accept)]).await
    }

    pub async fn stream_with(&self, path: &str, headers: &[(&str, &str)]) -> Lines {
        let mut request = self.http.get(format!("{}{path}", self.base));
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        if let Some(authorization) = &self.authorization {
            request = request.header("authorization", authorization);
        }
        let response = request.send().await.expect("an answer");
        assert_eq!(response.status(), 200, "{response:?}");
        Lines { response, read: String::new() }
    }

    /// Sends a request that may remain without an answer.
    pub async fn try_send(
        &self,
        method: Method,
        path: &str,
        headers: &[(&str, &str)],
        body: impl Into<reqwest::Body>,
    ) -> reqwest::Result<Reply> {
        let mut request =
            self.http.request(method.clone(), format!("{}{path}", self.base)).body(body);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        if let Some(authorization) = &self.authorization {
            request = request.header("authorization", authorization);
        }
        if let Some(host) = &self.host {
            request = request.header("host", host);
        }
        let response = request.send().await?;
        let (status, version) = (response.status().as_u16(), response.version());
        let headers = response.headers().clone();
        let reply = Reply { status, version, headers, body: response.text().await? };
        if self.described {
            description().check(&method, path, &reply);
        }
        Ok(reply)
    }

    /// Publishes; the answer may be anything.
    pub async fn publish(&self, topic: &str, event: &Value) -> Reply {
        self.post(&format!("/topics/{topic}"), event.to_string()).await
    }

    /// Publishes; whether it was accepted. No answer counts as no.
    pub async fn try_publish(&self, topic: &str, event: &Value) -> bool {
        let path = format!("/topics/{topic}");
        let reply = self.try_send(Method::POST, &path, &[], event.to_string()).await;
        reply.is_ok_and(|reply| reply.status == 204)
    }

    /// Publishes events with these numbers, one after the other.
    pub async fn publishes(&self, topic: &str, numbers: impl IntoIterator<Item = u64>) {
        for number in numbers {
            self.publish(topic, &event(number)).await.expect(204);
        }
    }

    /// Makes this client the publisher of a topic, before anybody subscribes to it.
    pub async fn claims(&self, topic: &str) {
        self.publish(topic, &json!({"type": "noop", "url": "https://a.example/claim"}))
            .await
            .expect(204);
    }

    /// Subscribes a receiver; `more` is merged into the subscription.
    pub async fn subscribes(&self, receiver: &Receiver, topics: &[&str], more: Value) {
        let mut body = json!({"topics": topics, "callback": receiver.url()});
        for (name, value) in more.as_object().expect("fields of a subscription") {
            body[name] = value.clone();
        }
        self.post("/subscription", body.to_string()).await.expect(204);
    }

    /// The tokens that this client, root, has made: those of the settings are listed beside them.
    pub async fn made_tokens(&self) -> Vec<Value> {
        let reply = self.get("/api_tokens").await;
        if reply.status == 204 {
            return vec![];
        }
        let mut tokens: Vec<Value> = serde_json::from_value(reply.expect(200).json()).unwrap();
        tokens.retain(|token| !CLIENTS.contains(&token["token"].as_str().unwrap()));
        tokens
    }

    /// What monitoring tells about a topic; `null` if it does not exist.
    pub async fn topic(&self, name: &str) -> Value {
        let topics = self.get("/topics").await.expect(200).json();
        find(&topics, "name", name)
    }

    /// What monitoring tells about a subscriber; `null` if it has no subscription.
    pub async fn subscription(&self, subscriber: &str) -> Value {
        let subscriptions = self.get("/subscriptions").await.expect(200).json();
        find(&subscriptions, "subscriber", subscriber)
    }

    /// How many events wait for a subscriber.
    pub async fn queued(&self, subscriber: &str) -> Option<u64> {
        self.subscription(subscriber).await["events"]["queued"].as_u64()
    }
}

fn find(list: &Value, key: &str, value: &str) -> Value {
    let list = list.as_array().expect("monitoring answers with a list");
    list.iter().find(|entry| entry[key] == value).cloned().unwrap_or_default()
}

/// The value of an `Authorization` header for `user:password`.
pub fn basic(credentials: &str) -> String {
    format!("Basic {}", base64::engine::general_purpose::STANDARD.encode(credentials))
}

/// An event that is known by its number.
pub fn event(number: u64) -> Value {
    json!({"type": "update", "url": format!("https://a.example/{number}")})
}

/// The number of an event made by [`event`].
pub fn numbered(event: &Value) -> u64 {
    let url = event["url"].as_str().unwrap_or_default();
    let number = url.rsplit('/').next().and_then(|number| number.parse().ok());
    number.unwrap_or_else(|| panic!("this event has no number: {event}"))
}
