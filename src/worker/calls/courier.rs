//! Makes one call (contract §9): the caller's request, through redirects, to its last answer.

use std::time::Duration;

use bytes::Bytes;
use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use http::{Method, Request, Response, StatusCode, Uri};
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use tokio::time::Instant;
use url::Url;

use crate::bus::call::CallRequest;
use crate::bus::signature::SigningSecrets;
use crate::bus::user_info;
use crate::egress::client::USER_AGENT;
use crate::egress::outbound::{SendError, read_beginning};
use crate::egress::retry_after::retry_after;
use crate::egress::rules::Denied;
use crate::egress::signing::sign;
use crate::worker::receivers::Receivers;

/// How many redirects are followed.
const REDIRECTS_MAX: usize = 10;
/// What only the origin may see that it was meant for.
const CREDENTIALS: [HeaderName; 3] =
    [header::AUTHORIZATION, header::COOKIE, header::PROXY_AUTHORIZATION];
/// What belongs to a body.
const OF_A_BODY: [HeaderName; 4] = [
    header::CONTENT_TYPE,
    header::CONTENT_ENCODING,
    header::CONTENT_LANGUAGE,
    header::CONTENT_LOCATION,
];

/// Makes calls over pooled connections.
pub struct CallCourier {
    receivers: Receivers,
    /// Whether `http` URLs are allowed.
    plain_targets: bool,
    /// How much of an answer is read, in bytes.
    beginning: usize,
}

/// What a call was answered with in the end.
#[derive(Debug)]
pub struct Answer {
    pub status: StatusCode,
    /// The first bytes of its body.
    pub beginning: Vec<u8>,
    /// How long the receiver asks to be left alone.
    pub retry_after: Option<Duration>,
}

/// Why a call has no answer that counts.
#[derive(Debug, thiserror::Error)]
pub enum CallError {
    #[error("{0}")]
    Denied(#[from] Denied),
    #[error("http:// is not allowed here (ROUTEMASTER_PLAIN_TARGETS=no)")]
    Plain,
    #[error("it is one that no request can be sent to")]
    Unsendable,
    #[error("redirected more than {REDIRECTS_MAX} times")]
    TooManyRedirects,
    #[error("redirected to {0:?}, which is no http:// or https:// URL")]
    BadRedirect(String),
    #[error("redirected to a place that is not allowed: {0}")]
    RedirectDenied(Denied),
    #[error("this process has as many files open as it may")]
    NoFiles,
    #[error("{0}")]
    Unanswered(SendError),
    #[error("its answer was broken off, or has more than {0} bytes")]
    UnreadAnswer(usize),
}

/// A request on its way, which redirects change.
struct Hop {
    method: Method,
    url: Url,
    /// As it is sent: path and query byte for byte as the caller wrote them.
    uri: Uri,
    headers: HeaderMap,
    body: Bytes,
}

impl CallCourier {
    pub fn new(receivers: Receivers, plain_targets: bool, beginning: usize) -> Self {
        Self { receivers, plain_targets, beginning }
    }

    /// Makes a call; whether its answer is a success, the caller judges.
    ///
    /// # Errors
    /// Why there is no answer within `timeout`.
    pub async fn make(
        &self,
        request: CallRequest,
        id: &str,
        attempt: u32,
        signed_with: &SigningSecrets,
        timeout: Duration,
    ) -> Result<Answer, CallError> {
        let mut hop = Hop::first(request, id, attempt).ok_or(CallError::Unsendable)?;
        self.check(&hop.url)?;
        let until = Instant::now() + timeout;
        for _ in 0..=REDIRECTS_MAX {
            let left = until.saturating_duration_since(Instant::now());
            let client = self.receivers.pools.client_for(&hop.url);
            let mut request = hop.request();
            sign(request.headers_mut(), signed_with, id, &hop.body);
            let sent = client.send_once(request, left).await;
            let response = sent.map_err(|error| unanswered(error, timeout))?;
            let Some(location) = redirect(&response) else {
                return Ok(self.answer(response).await);
            };
            let followed = hop.follow(response.status(), &location);
            read_beginning(response.into_body(), 0).await;
            hop = followed?;
            self.check(&hop.url).map_err(|error| match error {
                CallError::Denied(denied) => CallError::RedirectDenied(denied),
                other => other,
            })?;
        }
        Err(CallError::TooManyRedirects)
    }

    /// Sends one request, whatever it is answered with.
    ///
    /// # Errors
    /// Why there is no answer within `timeout`.
    pub async fn send(
        &self,
        request: Request<Full<Bytes>>,
        url: &Url,
        timeout: Duration,
    ) -> Result<Answer, CallError> {
        self.check(url)?;
        let client = self.receivers.pools.client_for(url);
        let sent = client.send_once(request, timeout).await;
        let response = sent.map_err(|error| unanswered(error, timeout))?;
        Ok(self.answer(response).await)
    }

    /// Sends one request, and reads what it is answered with, up to so many bytes.
    ///
    /// # Errors
    /// Why there is no answer within `timeout`, or that it is too long.
    pub async fn fetch(
        &self,
        request: Request<Full<Bytes>>,
        url: &Url,
        timeout: Duration,
        max: usize,
    ) -> Result<(StatusCode, Bytes), CallError> {
        self.check(url)?;
        let until = Instant::now() + timeout;
        let client = self.receivers.pools.client_for(url);
        let sent = client.send_once(request, timeout).await;
        let response = sent.map_err(|error| unanswered(error, timeout))?;
        let status = response.status();
        let body = Limited::new(response.into_body(), max).collect();
        match tokio::time::timeout_at(until, body).await {
            Ok(Ok(body)) => Ok((status, body.to_bytes())),
            Ok(Err(_)) => Err(CallError::UnreadAnswer(max)),
            Err(_) => Err(CallError::Unanswered(SendError::TimedOut(timeout))),
        }
    }

    async fn answer(&self, response: Response<Incoming>) -> Answer {
        let status = response.status();
        let retry_after = retry_after(status, response.headers());
        let beginning = read_beginning(response.into_body(), self.beginning).await;
        Answer { status, beginning, retry_after }
    }

    /// The resolver never sees an address in a URL, and a rule may be newer than a call.
    fn check(&self, url: &Url) -> Result<(), CallError> {
        if url.scheme() == "http" && !self.plain_targets {
            return Err(CallError::Plain);
        }
        Ok(self.receivers.rules.check(url)?)
    }
}

fn unanswered(error: SendError, timeout: Duration) -> CallError {
    if error.is_for_lack_of_files() {
        return CallError::NoFiles;
    }
    CallError::Unanswered(match error {
        // All hops share it.
        SendError::TimedOut(_) => SendError::TimedOut(timeout),
        other => other,
    })
}

/// Where a response redirects to, if it is one that clients follow.
fn redirect<B>(response: &Response<B>) -> Option<String> {
    if !matches!(response.status().as_u16(), 301 | 302 | 303 | 307 | 308) {
        return None;
    }
    let location = response.headers().get(header::LOCATION)?;
    Some(String::from_utf8_lossy(location.as_bytes()).into_owned())
}

impl Hop {
    /// `None` if there is something in the request that cannot be sent.
    fn first(request: CallRequest, id: &str, attempt: u32) -> Option<Self> {
        let url = Url::parse(&request.url).ok()?;
        let mut headers = HeaderMap::with_capacity(request.headers.len() + 3);
        headers.insert("idempotency-key", HeaderValue::from_str(id).ok()?);
        headers.insert(header::USER_AGENT, HeaderValue::from_static(USER_AGENT));
        for (name, value) in &request.headers {
            let name = HeaderName::try_from(name).ok()?;
            let mut value = HeaderValue::try_from(value).ok()?;
            value.set_sensitive(CREDENTIALS.contains(&name));
            headers.insert(name, value);
        }
        headers.insert("routemaster-attempt", attempt.into());
        Some(Self {
            method: request.method.parse().ok()?,
            uri: uri(&url, Some(&request.url))?,
            url,
            headers,
            body: request.body.into(),
        })
    }

    fn request(&self) -> Request<Full<Bytes>> {
        let mut request = Request::new(Full::new(self.body.clone()));
        *request.method_mut() = self.method.clone();
        *request.uri_mut() = self.uri.clone();
        *request.headers_mut() = self.headers.clone();
        request
    }

    /// The request that a redirect asks for.
    fn follow(&self, status: StatusCode, location: &str) -> Result<Self, CallError> {
        let bad = || CallError::BadRedirect(location.chars().take(200).collect());
        let mut url = self.url.join(location).map_err(|_| bad())?;
        if !matches!(url.scheme(), "http" | "https") || !url.has_host() {
            return Err(bad());
        }
        let _ = url.set_username("").and_then(|()| url.set_password(None));
        let mut headers = self.headers.clone();
        if url.origin() != self.url.origin() {
            CREDENTIALS.iter().for_each(|name| drop(headers.remove(name)));
        }
        let keeps = matches!(status.as_u16(), 307 | 308);
        let becomes_get = !keeps && self.method != Method::GET && self.method != Method::HEAD;
        if becomes_get {
            OF_A_BODY.iter().for_each(|name| drop(headers.remove(name)));
        }
        Ok(Self {
            method: if becomes_get { Method::GET } else { self.method.clone() },
            uri: uri(&url, None).ok_or_else(bad)?,
            url,
            headers,
            body: if becomes_get { Bytes::new() } else { self.body.clone() },
        })
    }
}

/// What is sent for a URL: its host as the rules have seen it, and what follows as it was written.
fn uri(url: &Url, written: Option<&str>) -> Option<Uri> {
    let rest =
        written.and_then(|written| written[user_info::authority_end(written)..].split('#').next());
    let own = url[url::Position::BeforePath..url::Position::AfterQuery].to_owned();
    let rest = match rest {
        Some(rest) if rest.starts_with('/') => rest.to_owned(),
        Some(rest) => format!("/{rest}"),
        None => own,
    };
    let authority = &url[url::Position::BeforeHost..url::Position::AfterPort];
    Uri::builder().scheme(url.scheme()).authority(authority).path_and_query(rest).build().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hop(method: &str, url: &str) -> Hop {
        let header = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        let request = CallRequest {
            method: method.into(),
            url: url.into(),
            headers: vec![
                header("authorization", "Basic abc"),
                header("content-type", "text/plain"),
                header("x-other", "kept"),
            ],
            body: "body".into(),
        };
        Hop::first(request, "one", 2).unwrap()
    }

    #[test]
    fn a_url_is_sent_byte_for_byte_to_the_host_that_was_checked() {
        for (url, sent) in [
            ("HTTP://A.example:80?x", "http://a.example/?x"),
            ("http://a.example", "http://a.example/"),
            (
                "https://u:p@a.example:8443/%7Bx/../y?a=%zz&b={c}#d",
                "https://a.example:8443/%7Bx/../y?a=%zz&b={c}",
            ),
            ("http://0x7f.1/a", "http://127.0.0.1/a"),
            ("http://[::1]:80/", "http://[::1]/"),
        ] {
            assert_eq!(hop("GET", url).uri.to_string(), sent, "{url}");
        }
    }

    #[test]
    fn a_redirect_is_followed_as_clients_do() {
        let post = hop("POST", "https://a.example/x/y?z");
        for (status, location, method, url) in [
            (302, "/b", "GET", "https://a.example/b"),
            (303, "b?c", "GET", "https://a.example/x/b?c"),
            (301, "//b.example/", "GET", "https://b.example/"),
            (307, "http://a.example/", "POST", "http://a.example/"),
            (308, "?d", "POST", "https://a.example/x/y?d"),
        ] {
            let status = StatusCode::from_u16(status).unwrap();
            let next = post.follow(status, location).unwrap();
            assert_eq!((next.method.as_str(), next.uri.to_string()), (method, url.to_owned()));
            let keeps = method == "POST";
            assert_eq!(next.body.is_empty(), !keeps);
            assert_eq!(next.headers.contains_key("content-type"), keeps);
            let is_same = url.starts_with("https://a.example");
            assert_eq!(next.headers.contains_key("authorization"), is_same, "{url}");
            assert_eq!(next.headers["x-other"], "kept");
        }
        let head = hop("HEAD", "https://a.example").follow(StatusCode::FOUND, "/b").unwrap();
        assert_eq!(head.method, Method::HEAD);
        for bad in ["ftp://a.example/", "file:///etc/passwd", "http://"] {
            assert!(post.follow(StatusCode::FOUND, bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn what_the_caller_gives_wins_but_for_the_number_of_the_attempt() {
        let header = |name: &str| (name.to_owned(), "mine".to_owned());
        let request = CallRequest {
            method: "GET".into(),
            url: "http://a.example".into(),
            headers: ["user-agent", "idempotency-key", "routemaster-attempt"].map(header).into(),
            body: String::new(),
        };
        let hop = Hop::first(request, "one", 2).unwrap();
        assert_eq!(
            (&hop.headers["user-agent"], &hop.headers["idempotency-key"]),
            (&"mine".parse().unwrap(), &"mine".parse().unwrap())
        );
        assert_eq!(hop.headers["routemaster-attempt"], "2");
    }
}
