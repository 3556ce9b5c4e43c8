//! The bus, and the client that this is to it.

use std::path::PathBuf;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, Method, StatusCode, header};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::{Batches, Error, Event, Pull, Subscription};

/// For a connection to stand, TLS included.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// For a request from its start to the end of the answer.
const TIMEOUT: Duration = Duration::from_secs(30);
/// The longest answer that is read, in bytes.
const ANSWER_MAX: usize = 16 * 1024 * 1024;
const POSITION: &str = "routemaster-event";

/// Where an event stands in all that was ever published: it grows from event to event. `GET /events/:position` tells what
/// became of one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Position(pub u64);

/// A bus, and the client that this is to it. Cheap to clone; clones share their connections.
#[derive(Clone, Debug)]
pub struct Bus {
    http: reqwest::Client,
    url: String,
    token: Token,
}

#[derive(Clone)]
struct Token(String);

impl std::fmt::Debug for Token {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Token(…)")
    }
}

/// What a [`Bus`] is made of.
pub struct Builder {
    url: String,
    token: String,
    ca_files: Vec<PathBuf>,
    timeout: Duration,
}

impl Builder {
    /// Trusts a certificate authority, a PEM file, beside the system's.
    pub fn ca_file(mut self, file: impl Into<PathBuf>) -> Self {
        self.ca_files.push(file.into());
        self
    }

    /// How long a request may take, from its start to the end of the answer; 30 s, unless it is said.
    pub fn timeout(self, timeout: Duration) -> Self {
        Self { timeout, ..self }
    }

    /// # Errors
    /// If the address is not `https://`, or a file cannot be used.
    pub fn build(self) -> Result<Bus, Error> {
        if !self.url.starts_with("https://") {
            return Err(Error::Settings("the bus is reached over https:// only".into()));
        }
        // Somebody else's choice stays.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let mut authorities = Vec::new();
        for file in &self.ca_files {
            let of_file = |error: &dyn std::fmt::Display| {
                Error::Settings(format!("{} cannot be used: {error}", file.display()))
            };
            let pem = std::fs::read(file).map_err(|error| of_file(&error))?;
            let bundle = reqwest::Certificate::from_pem_bundle(&pem);
            authorities.extend(bundle.map_err(|error| of_file(&error))?);
        }
        #[allow(clippy::disallowed_methods, reason = "the bus's own code is not at hand here")]
        let builder = reqwest::Client::builder();
        let http = builder
            .tls_certs_merge(authorities)
            .user_agent(concat!("routemaster-client/", env!("CARGO_PKG_VERSION")))
            .connect_timeout(CONNECT_TIMEOUT)
            .timeout(self.timeout)
            .redirect(reqwest::redirect::Policy::none())
            .https_only(true)
            .build()?;
        Ok(Bus::over(http, self.url, self.token))
    }
}

impl Bus {
    /// The bus at an address such as `https://bus.example:17890`, for the client of a token.
    pub fn builder(url: impl Into<String>, token: impl Into<String>) -> Builder {
        Builder { url: url.into(), token: token.into(), ca_files: Vec::new(), timeout: TIMEOUT }
    }

    /// As [`Bus::builder`], over an HTTP client that is there: its trust and its time-outs count.
    pub fn over(http: reqwest::Client, url: impl Into<String>, token: impl Into<String>) -> Self {
        let url = url.into().trim_end_matches('/').to_owned();
        Self { http, url, token: Token(token.into()) }
    }

    /// The same bus, for another client of it.
    pub fn with_token(&self, token: impl Into<String>) -> Self {
        Self { token: Token(token.into()), ..self.clone() }
    }

    /// Its address, without a slash at the end.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Publishes an event; the first publish to a topic makes it the caller's. It is stored when this returns; returns
    /// where it stands, if the bus is new enough to tell.
    ///
    /// # Errors
    /// Why it was not published, or nobody knows.
    pub async fn publish(&self, topic: &str, event: &Event<'_>) -> Result<Option<Position>, Error> {
        self.publish_json(topic, to_json(event)?, None).await
    }

    /// Publishes several events, in their order, all or none of them. Returns where the first one stands; the others
    /// follow it one by one.
    ///
    /// # Errors
    /// Why none was published, or nobody knows.
    pub async fn publish_all(
        &self,
        topic: &str,
        events: &[Event<'_>],
    ) -> Result<Option<Position>, Error> {
        self.publish_json(topic, to_json(&events)?, None).await
    }

    /// As [`Bus::publish_all`]; the same events under the same key within 24 hours are stored once, however often this is
    /// called: so it can be called again when nobody knows.
    ///
    /// # Errors
    /// Also if other events were published under the key.
    pub async fn publish_once(
        &self,
        topic: &str,
        events: &[Event<'_>],
        key: &str,
    ) -> Result<Option<Position>, Error> {
        self.publish_json(topic, to_json(&events)?, Some(key)).await
    }

    async fn publish_json(
        &self,
        topic: &str,
        json: Bytes,
        key: Option<&str>,
    ) -> Result<Option<Position>, Error> {
        let mut request = self.request(Method::POST, &format!("/topics/{topic}"), Some(json));
        if let Some(key) = key {
            request = request.header("idempotency-key", key);
        }
        Ok(read(request).await?.done()?.position())
    }

    /// Makes this the client's subscription.
    ///
    /// # Errors
    /// Why it was not done, or nobody knows.
    pub async fn subscribe(&self, subscription: &Subscription) -> Result<(), Error> {
        let json = to_json(subscription)?;
        self.send(Method::POST, "/subscription", Some(json)).await?.done().map(drop)
    }

    /// Ends the client's subscription, with all that waits for it.
    ///
    /// # Errors
    /// Why it was not done, or nobody knows.
    pub async fn unsubscribe(&self) -> Result<(), Error> {
        self.send(Method::DELETE, "/subscription", None).await?.done().map(drop)
    }

    /// The batches of a subscription that pulls them, one after the other.
    pub fn batches(&self) -> Batches {
        Batches::new(self.clone(), Pull::default())
    }

    /// Does something that there is no method for. `path` begins with a slash.
    ///
    /// # Errors
    /// If there was no whole answer.
    pub async fn send(
        &self,
        method: Method,
        path: &str,
        json: Option<Bytes>,
    ) -> Result<Answer, Error> {
        read(self.request(method, path, json)).await
    }

    fn request(&self, method: Method, path: &str, json: Option<Bytes>) -> reqwest::RequestBuilder {
        let request = self.http.request(method, format!("{}{path}", self.url));
        let request = request.basic_auth(&self.token.0, None::<&str>);
        match json {
            Some(json) => request.header(header::CONTENT_TYPE, "application/json").body(json),
            None => request,
        }
    }
}

fn to_json(value: &impl Serialize) -> Result<Bytes, Error> {
    let json = serde_json::to_vec(value).map_err(|error| Error::Settings(error.to_string()))?;
    Ok(json.into())
}

async fn read(request: reqwest::RequestBuilder) -> Result<Answer, Error> {
    let mut response = request.send().await?;
    let mut body = Vec::new();
    while let Some(part) = response.chunk().await? {
        if body.len() + part.len() > ANSWER_MAX {
            return Err(Error::TooLong(ANSWER_MAX));
        }
        body.extend_from_slice(&part);
    }
    let (status, headers) = (response.status(), response.headers().clone());
    Ok(Answer { status, headers, body })
}

/// What the bus answered.
#[derive(Clone, Debug)]
pub struct Answer {
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub body: Vec<u8>,
}

impl Answer {
    /// # Errors
    /// If the bus has not done what was asked.
    pub fn done(self) -> Result<Self, Error> {
        if self.status.is_success() { Ok(self) } else { Err(Error::Refused(Box::new(self))) }
    }

    /// How long to wait before the next try, if the bus says so.
    pub fn retry_after(&self) -> Option<Duration> {
        let seconds = self.headers.get(header::RETRY_AFTER)?.to_str().ok()?.trim().parse().ok()?;
        Some(Duration::from_secs(seconds))
    }

    /// Whether the same request may well get another answer a little later.
    pub fn may_pass(&self) -> bool {
        matches!(
            self.status,
            StatusCode::TOO_MANY_REQUESTS
                | StatusCode::BAD_GATEWAY
                | StatusCode::SERVICE_UNAVAILABLE
                | StatusCode::GATEWAY_TIMEOUT
        )
    }

    /// Of a publication: where its first event stands.
    pub fn position(&self) -> Option<Position> {
        self.headers.get(POSITION)?.to_str().ok()?.parse().ok().map(Position)
    }

    /// The first line of the body, fit to be shown; the status's name if there is none.
    pub fn reason(&self) -> String {
        #[derive(serde::Deserialize)]
        struct Told {
            message: String,
        }
        // Calls are refused with JSON, and messages with another one.
        let told = serde_json::from_slice(&self.body).map(|Told { message }| message).ok();
        let told = told.map(|message| message.replace('\n', "; "));
        let told = told.or_else(|| errors_of_messages(&self.body));
        let text = told.unwrap_or_else(|| String::from_utf8_lossy(&self.body).into_owned());
        let line = text.lines().next().unwrap_or_default().trim();
        if line.is_empty() {
            let name = self.status.canonical_reason().unwrap_or("no reason given");
            return format!("{} {name}", self.status.as_u16());
        }
        line.chars().filter(|c| !c.is_control()).take(300).collect()
    }

    /// Reads the body, for a route that answers JSON.
    ///
    /// # Errors
    /// If it is not of this form.
    pub fn json<T: DeserializeOwned>(&self) -> Result<T, Error> {
        serde_json::from_slice(&self.body).map_err(|error| Error::Misunderstood(error.to_string()))
    }
}

/// What is wrong with which field.
fn errors_of_messages(body: &[u8]) -> Option<String> {
    let body: serde_json::Value = serde_json::from_slice(body).ok()?;
    match &body["data"]["errors"] {
        serde_json::Value::String(text) => Some(text.clone()),
        serde_json::Value::Object(fields) => {
            let field = |(name, what): (&String, &serde_json::Value)| {
                let what: Vec<&str> =
                    what.as_array().into_iter().flatten().filter_map(|one| one.as_str()).collect();
                let name = if name == "detail" { String::new() } else { format!("`{name}` ") };
                format!("{name}{}", what.join(", "))
            };
            Some(fields.iter().map(field).collect::<Vec<_>>().join("; "))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(status: u16, body: &str) -> Answer {
        let status = StatusCode::from_u16(status).unwrap();
        Answer { status, headers: HeaderMap::new(), body: body.into() }
    }

    #[test]
    fn a_reason_is_one_line() {
        assert_eq!(answer(400, "no\u{1b}\nmore").reason(), "no");
        assert_eq!(answer(400, "").reason(), "400 Bad Request");
        assert_eq!(answer(400, r#"{"error":true,"message":"a\nb"}"#).reason(), "a; b");
        let of_messages = r#"{"data":{"errors":{"detail":["no"],"name":["is taken"]}}}"#;
        assert_eq!(answer(400, of_messages).reason(), "no; `name` is taken");
    }

    #[test]
    fn a_refusal_says_why_and_whether_to_try_again() {
        let error = answer(503, "full\n").done().unwrap_err();
        assert_eq!(error.to_string(), "the bus refused this with 503: full");
        assert!(error.may_pass());
        assert!(!answer(403, "no").done().unwrap_err().may_pass());
        assert!(answer(204, "").done().is_ok());
    }

    #[test]
    fn plain_http_is_refused_and_a_token_is_never_shown() {
        let plain = Bus::builder("http://bus.example", "s3cret").build();
        assert!(plain.is_err_and(|error| error.to_string().contains("https://")));
        let bus = Bus::builder("https://bus.example/", "s3cret").build().unwrap();
        assert_eq!(bus.url(), "https://bus.example");
        assert!(!format!("{bus:?}").contains("s3cret"));
    }
}
