//! Calls: single HTTP requests that the bus makes until they succeed (contract §9).

mod fields;
mod headers;
mod kept;
mod payload;
mod state;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use ring::digest::{SHA256, digest};
use serde::{Deserialize, Serialize};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;
use url::Url;

use super::clock::Clock;
use super::hex::hex;
use super::json::whole_number;
use super::token::{ClientToken, random_hex};
use super::trace::TraceParent;
use fields::Fields;
use headers::Headers;
pub use kept::{NotKept, Order};
pub use state::{CallKind, CallState};

/// The most a call may be put off, and the most that any of its times may be: a year.
const TIME_MAX: Duration = Duration::from_secs(366 * 24 * 3600);
/// How long one attempt may take.
const TIMEOUT: std::ops::RangeInclusive<u64> = 100..=3_600_000;
const METHODS: [&str; 9] =
    ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "CONNECT", "TRACE"];

/// What names a call: the caller's own, or one that is made, of 32 characters.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct CallId(Arc<str>);

/// The request that a call makes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CallRequest {
    pub method: String,
    /// Absolute, `http` or `https`, without user info and fragment.
    pub url: String,
    /// Names in lower case.
    pub headers: Vec<(String, String)>,
    pub body: String,
}

/// When a call is made for the first time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub enum Due {
    In(Duration),
    /// In milliseconds since the epoch; what is past is now.
    At(u64),
}

/// For how long a call that fails is made again.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Persistence {
    /// Whether it is made again at all.
    pub requeue: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_attempts: Option<u32>,
    /// Milliseconds from when it was accepted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub give_up_after: Option<u64>,
}

/// A call as it was asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Call {
    /// The caller's own, if it gave one.
    pub id: Option<CallId>,
    pub request: CallRequest,
    pub persistence: Persistence,
    pub due: Due,
    /// How long one attempt may take, if the caller has said so.
    pub timeout: Option<Duration>,
}

/// Which fields a call may have.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Dialect {
    /// The five of the original's clients.
    Original,
    Ours,
}

/// Why there is no call in a body.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoCall {
    /// It is no JSON object: one line.
    #[error("{0}")]
    NotAnObject(String),
    /// One line a fault, each of which names its field.
    #[error("{}", .0.join("\n"))]
    Faulty(Vec<String>),
}

impl CallId {
    /// The longest, in characters.
    pub const MAX: usize = 128;
    /// How long one is that was made.
    pub const MADE: usize = 32;

    /// `None` unless it is 1 to 128 of `[A-Za-z0-9._:-]`.
    pub fn parse(text: &str) -> Option<Self> {
        let is_allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"._:-".contains(&byte);
        let fits = (1..=Self::MAX).contains(&text.len());
        (fits && text.bytes().all(is_allowed)).then(|| Self(text.into()))
    }

    /// One that nobody else has, of [`CallId::MADE`] characters. It begins with the time, so that stores find
    /// what belongs together in one place.
    ///
    /// # Errors
    /// If there is no randomness.
    pub fn made() -> anyhow::Result<Self> {
        let random = random_hex()?;
        let now_ms = Clock::system().now_ms() & 0xffff_ffff_ffff;
        Ok(Self(format!("{now_ms:012x}{}", &random[..Self::MADE - 12]).into()))
    }

    /// The one for what a client names by a key: the same for the same, of [`CallId::MADE`] characters. Of
    /// several, each has a place among so many.
    pub fn of_key(client: &ClientToken, key: &str, place: Option<(usize, usize)>) -> Self {
        let of = place.map_or(String::new(), |(index, count)| format!("{index} of {count}"));
        let hash = digest(&SHA256, format!("{}\n{of}\n{key}", client.reveal()).as_bytes());
        Self(hex(hash.as_ref())[..Self::MADE].into())
    }

    /// What a store has kept.
    pub(crate) fn from_stored(text: &str) -> Self {
        Self(text.into())
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for CallId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for CallId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "CallId({})", self.0)
    }
}

impl CallRequest {
    /// The values of headers that only the receiver may see.
    pub fn credentials(&self) -> Vec<String> {
        let is_secret = |(name, _): &&(String, String)| is_secret_header(name);
        self.headers.iter().filter(is_secret).map(|(_, value)| value.clone()).collect()
    }

    /// What it queues behind.
    pub fn destination(&self) -> String {
        destination(&self.url)
    }
}

/// Parts of names of headers whose values carry credentials.
const SECRET_PARTS: [&str; 8] =
    ["auth", "cookie", "token", "secret", "key", "password", "credential", "signature"];

/// Whether nobody but the receiver may see the value of a header, by its name in lower case.
pub fn is_secret_header(name: &str) -> bool {
    SECRET_PARTS.iter().any(|part| name.contains(part))
}

/// What calls to a URL queue behind: its scheme, host and port.
pub(super) fn destination(url: &str) -> String {
    let Ok(url) = Url::parse(url) else { return String::new() };
    let port = url.port_or_known_default().unwrap_or_default();
    format!("{}://{}:{port}", url.scheme(), url.host_str().unwrap_or_default())
}

impl Call {
    /// Reads a call.
    ///
    /// # Errors
    /// Everything that is wrong with it.
    pub fn parse(json: &[u8], dialect: Dialect) -> Result<Self, NoCall> {
        let mut fields = Fields::read(json)?;
        let mut headers = Headers::read(&mut fields);
        let method = fields.text("method").unwrap_or_else(|| "GET".into()).to_ascii_uppercase();
        if !METHODS.contains(&&*method) {
            fields.fault("method", format_args!("must be one of {}", METHODS.join(", ")));
        }
        let url = fields.text("url");
        let url = match &url {
            None => {
                fields.fault("url", "is missing");
                None
            }
            Some(text) => target(text).map_err(|reason| fields.fault("url", reason)).ok(),
        };
        if let Some(url) = &url {
            headers.authorise_by(url);
        }
        let body = payload::read(&mut fields, headers.content_type());
        // As in the original.
        let requeue = fields.switch("requeue").unwrap_or(true);
        let mut call = Self {
            id: None,
            request: CallRequest {
                method,
                url: String::new(),
                headers: headers.into_pairs(),
                body,
            },
            persistence: Persistence { requeue, ..Persistence::default() },
            due: Due::In(Duration::ZERO),
            timeout: None,
        };
        if dialect == Dialect::Ours {
            call.read_ours(&mut fields);
        }
        match (url, fields.finish()) {
            (Some(mut url), Ok(())) => {
                // Neither is sent, and the first is shown nowhere.
                let _ = url.set_username("").and_then(|()| url.set_password(None));
                url.set_fragment(None);
                call.request.url = url.into();
                Ok(call)
            }
            (_, finished) => Err(NoCall::Faulty(finished.err().unwrap_or_default())),
        }
    }

    fn read_ours(&mut self, fields: &mut Fields) {
        let max = TIME_MAX.as_millis() as u64;
        if let Some(id) = fields.text("id") {
            self.id = CallId::parse(&id);
            if self.id.is_none() {
                fields.fault("id", "must be 1 to 128 of the characters A-Z a-z 0-9 . _ : -");
            }
        }
        self.timeout = fields.number("timeout", TIMEOUT).map(Duration::from_millis);
        self.persistence.max_attempts =
            fields.number("max_attempts", 1..=1_000_000).map(|attempts| attempts as u32);
        self.persistence.give_up_after = fields.number("give_up_after", 1..=max);
        let (delay, at) = (fields.number("delay", 0..=max), fields.text("at"));
        if delay.is_some() && at.is_some() {
            fields.fault("delay", "and `at` exclude each other");
        }
        if let Some(delay) = delay {
            self.due = Due::In(Duration::from_millis(delay));
        }
        if let Some(at) = at {
            match moment(&at) {
                Some(at_ms) => self.due = Due::At(at_ms),
                None => fields.fault("at", "must be a time such as 2026-12-01T08:30:00Z"),
            }
        }
    }

    /// The same, as part of a trace; unless it says itself which one it is part of.
    pub fn in_trace(mut self, trace: Option<TraceParent>) -> Self {
        let headers = &mut self.request.headers;
        if let Some(trace) = trace
            && !headers.iter().any(|(name, _)| name.eq_ignore_ascii_case(TRACE_HEADER))
        {
            headers.push((TRACE_HEADER.to_owned(), trace.next_hop().to_string()));
        }
        self
    }

    /// What two calls have in common that ask for the same.
    pub fn fingerprint(&self) -> String {
        let Self { request, persistence, due, timeout, .. } = self;
        let CallRequest { method, url, headers, body } = request;
        // A request that comes again comes in another trace.
        let is_trace = |name: &str| name.eq_ignore_ascii_case(TRACE_HEADER);
        let mut headers: Vec<_> = headers.iter().filter(|(name, _)| !is_trace(name)).collect();
        headers.sort();
        let content = (method, url, headers, body, persistence, due, timeout);
        let content = serde_json::to_vec(&content).unwrap_or_default();
        let hash = digest(&SHA256, &content);
        hex(hash.as_ref())[..32].to_owned()
    }
}

const TRACE_HEADER: &str = "traceparent";

/// The URL that a call goes to.
fn target(text: &str) -> Result<Url, &'static str> {
    if text.chars().any(|c| c.is_whitespace() || c.is_control() || c == '\\') {
        return Err("must not contain white space, control characters or backslashes");
    }
    let (scheme, rest) = text.split_once("://").unwrap_or_default();
    if !matches!(&*scheme.to_ascii_lowercase(), "http" | "https") {
        return Err("must be an absolute http:// or https:// URL");
    }
    // The URL standard would take the first part of the path for it.
    if rest.starts_with('/') {
        return Err("must have a host");
    }
    let url = Url::parse(text).map_err(|_| "is no URL")?;
    if !url.has_host() {
        return Err("must have a host");
    }
    // What the URL standard takes and HTTP does not.
    if url.as_str().parse::<http::Uri>().is_err() {
        return Err("is one that no request can be sent to");
    }
    Ok(url)
}

/// A time in RFC 3339, in milliseconds since the epoch, within what may be asked for.
fn moment(text: &str) -> Option<u64> {
    let at = OffsetDateTime::parse(text, &Rfc3339).ok()?;
    let ms = u64::try_from(at.unix_timestamp_nanos() / 1_000_000).ok()?;
    // Which year this is, the store's clock knows; none that calls are for is beyond 9999.
    (ms <= 253_402_300_799_999).then_some(ms)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ours(json: &str) -> Result<Call, NoCall> {
        Call::parse(json.as_bytes(), Dialect::Ours)
    }

    /// The faults of a call with these fields, but for a good URL.
    fn faults(fields: &str) -> Vec<String> {
        match ours(&format!(r#"{{"url":"https://a.example/x",{fields}}}"#)) {
            Err(NoCall::Faulty(faults)) => faults,
            other => panic!("{fields}: {other:?}"),
        }
    }

    #[test]
    fn a_call_is_read_as_the_originals_clients_write_it() {
        let call = ours(
            r#"{"URL":"HTTPS://bob:p%40ss@A.example:443/x?q=1#top","Method":"post",
                "headers":{"X-Number":7,"X-Yes":true,"Accept":"text/plain","Host":"b","Content-Length":"9"},
                "body":"{\"a\":1}","requeue":true,"unknown":[1]}"#,
        )
        .unwrap();
        assert_eq!(call.request.method, "POST");
        assert_eq!(call.request.url, "https://a.example/x?q=1");
        assert_eq!(call.request.destination(), "https://a.example:443");
        let header = |name: &str| {
            let found = call.request.headers.iter().find(|(known, _)| known == name);
            found.map(|(_, value)| value.as_str())
        };
        assert_eq!(header("x-number"), Some("7"));
        assert_eq!(header("x-yes"), Some("true"));
        assert_eq!(header("authorization"), Some("Basic Ym9iOnBAc3M="));
        assert_eq!((header("host"), header("content-length")), (None, None));
        assert_eq!(call.request.body, r#"{"a":1}"#);
        assert!(call.persistence.requeue);
        let plain = ours(r#"{"url":"http://[::1]:8080"}"#).unwrap();
        assert_eq!(plain.request.method, "GET");
        assert_eq!(plain.request.destination(), "http://[::1]:8080");
        assert_eq!((plain.due, plain.persistence.requeue), (Due::In(Duration::ZERO), true));
    }

    #[test]
    fn ids_that_are_made_have_one_length_and_those_of_a_key_are_the_same() {
        let (one, other) = (CallId::made().unwrap(), CallId::made().unwrap());
        assert_ne!(one, other);
        let (shop, bob) = (ClientToken::parse("shop").unwrap(), ClientToken::parse("bob").unwrap());
        let of_key = |client, place| CallId::of_key(client, "key", place);
        assert_eq!(of_key(&shop, None), of_key(&shop, None));
        let different = [
            of_key(&shop, None),
            of_key(&bob, None),
            of_key(&shop, Some((0, 2))),
            of_key(&shop, Some((0, 3))),
        ];
        for (index, id) in different.iter().enumerate() {
            assert!(!different[..index].contains(id));
            assert_eq!(id.as_str().len(), CallId::MADE);
        }
        assert_eq!(one.as_str().len(), CallId::MADE);
        assert!(CallId::parse(one.as_str()).is_some());
    }

    #[test]
    fn the_original_knows_five_fields_only() {
        let json = r#"{"url":"https://a.example","delay":5,"id":"no good id","timeout":1}"#;
        let call = Call::parse(json.as_bytes(), Dialect::Original).unwrap();
        assert_eq!((call.due, call.id, call.timeout), (Due::In(Duration::ZERO), None, None));
    }

    #[test]
    fn times_and_limits_are_read() {
        let call = ours(
            r#"{"url":"https://a.example","id":"order:17","at":"2026-12-01T09:30:00.5+01:00",
                "timeout":1000.0,"max_attempts":3,"give_up_after":60000,"delay":null}"#,
        )
        .unwrap();
        assert_eq!(call.due, Due::At(1_796_113_800_500));
        assert_eq!(call.timeout, Some(Duration::from_secs(1)));
        let expected =
            Persistence { requeue: true, max_attempts: Some(3), give_up_after: Some(60_000) };
        assert_eq!((call.persistence, call.id.unwrap().as_str()), (expected, "order:17"));
    }

    #[test]
    fn what_is_no_object_is_another_matter() {
        for json in ["", "  ", "[1", "nul", "[]", "\"a\"", "7", "{\"url\":"] {
            assert!(matches!(ours(json), Err(NoCall::NotAnObject(_))), "{json}");
        }
    }

    #[test]
    fn each_fault_is_a_line_that_names_its_field() {
        for (fields, named) in [
            (r#""method":"FETCH""#, "`method`"),
            (r#""method":7"#, "`method`"),
            (r#""headers":[]"#, "`headers`"),
            (r#""headers":{"a b":"c"}"#, "`a b`"),
            (r#""headers":{"a":null}"#, "`a`"),
            (r#""headers":{"a":1.5}"#, "`a`"),
            (r#""headers":{"a":"b\nc"}"#, "`a`"),
            (r#""headers":{"Connection":"close"}"#, "`Connection`"),
            (r#""headers":{"Transfer-Encoding":"chunked"}"#, "`Transfer-Encoding`"),
            (r#""headers":{"A":"1","a":"2"}"#, "`a`"),
            (r#""body":"neither""#, "`body`"),
            (r#""body":"<a><b></a>""#, "`body`"),
            (r#""requeue":"yes""#, "`requeue`"),
            (r#""URL":"https://b.example""#, "`URL`"),
            (r#""id":"a b""#, "`id`"),
            (r#""timeout":99"#, "`timeout`"),
            (r#""max_attempts":0"#, "`max_attempts`"),
            (r#""give_up_after":"5""#, "`give_up_after`"),
            (r#""delay":-1"#, "`delay`"),
            (r#""at":"tomorrow""#, "`at`"),
            (r#""at":"2026-12-01T09:30:00""#, "`at`"),
            (r#""at":"2026-12-01T09:30:00Z","delay":5"#, "`delay`"),
        ] {
            let faults = faults(fields);
            assert_eq!(faults.len(), 1, "{fields}: {faults:?}");
            assert!(faults[0].contains(named), "{fields}: {faults:?}");
        }
        let several = faults(r#""method":"FETCH","requeue":7,"timeout":1"#);
        assert_eq!(several.len(), 3, "{several:?}");
    }

    #[test]
    fn very_many_fields_or_headers_are_no_work_for_seconds() {
        let members: Vec<String> = (0..100_000).map(|number| format!("\"x{number}\":1")).collect();
        let members = members.join(",");
        let started = std::time::Instant::now();
        assert!(ours(&format!(r#"{{"url":"https://a.example",{members}}}"#)).is_ok());
        let headers = format!(r#"{{"url":"https://a.example","headers":{{{members}}}}}"#);
        assert!(ours(&headers).is_ok());
        let twice = faults(&format!(r#""headers":{{{members},{members}}}"#));
        assert!(twice.len() <= 20, "{} faults", twice.len());
        assert!(started.elapsed() < Duration::from_secs(5), "{:?}", started.elapsed());
    }

    #[test]
    fn a_url_is_absolute_and_has_a_host() {
        for url in ["", "/x", "a.example", "ftp://a.example", "http://", "https:///x", "http://a b"]
        {
            let json = format!(r#"{{"url":"{url}"}}"#);
            let Err(NoCall::Faulty(faults)) = ours(&json) else { panic!("{url} was taken") };
            assert!(faults[0].contains("`url`"), "{url}: {faults:?}");
        }
        let Err(NoCall::Faulty(faults)) = ours("{}") else { panic!("no url was taken") };
        assert_eq!(faults, ["`url` is missing"]);
    }

    #[test]
    fn what_asks_for_the_same_has_the_same_fingerprint() {
        let one = ours(r#"{"url":"https://a.example","headers":{"A":"1","B":"2"},"id":"x"}"#);
        let same = ours(r#"{"headers":{"b":2,"a":1},"url":"https://A.example/","more":1}"#);
        let other = ours(r#"{"url":"https://a.example","headers":{"A":"1","B":"3"}}"#);
        let [one, same, other] = [one, same, other].map(|call| call.unwrap().fingerprint());
        assert_eq!(one, same);
        assert_ne!(one, other);
        assert_eq!(one.len(), 32);
    }
}
