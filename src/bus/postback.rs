//! Postbacks: one endpoint and many objects whose values are put into its URL (contract §10).

use std::fmt;

use serde::Deserialize;
use serde::de::{DeserializeSeed, Deserializer, Error as _, SeqAccess, Visitor};
use serde_json::value::RawValue;
use url::Url;

use super::call::{CallRequest, destination};
use super::json::{Members, Rejection, parse_object};
use super::user_info;

/// The postbacks of one request.
#[derive(Clone, Debug)]
pub struct Postbacks {
    pub endpoint: Endpoint,
    /// Each an object, as it was sent.
    pub data: Vec<Box<RawValue>>,
}

/// Where postbacks go, and how.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint {
    pub method: Method,
    url: Template,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Method {
    Get,
    Post,
}

/// A URL with places for values. What is no place stays byte for byte.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Template(Vec<Part>);

#[derive(Clone, Debug, PartialEq, Eq)]
enum Part {
    Text(String),
    Key(String),
}

/// The longest URL with its keys, in bytes: none without is sent that is longer.
const URL_MAX: usize = 65_534;
/// The longest object, in bytes of JSON.
const OBJECT_MAX: usize = 1024 * 1024;

#[derive(Deserialize)]
struct Body {
    endpoint: EndpointBody,
    data: Box<RawValue>,
}

/// The objects of a request, up to a number of them.
struct Objects<'a> {
    max: usize,
    objects: &'a mut Vec<Box<RawValue>>,
}

impl<'de> DeserializeSeed<'de> for Objects<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_seq(self)
    }
}

impl<'de> Visitor<'de> for Objects<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an array")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut array: A) -> Result<(), A::Error> {
        while let Some(object) = array.next_element()? {
            self.objects.push(object);
            if self.objects.len() > self.max {
                return Err(A::Error::custom("too many"));
            }
        }
        Ok(())
    }
}

/// Why there are no postbacks in a body.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoPostbacks {
    #[error("{0}")]
    Rejected(#[from] Rejection),
    #[error("more than {0} objects in one request")]
    TooMany(usize),
}

#[derive(Deserialize)]
struct EndpointBody {
    method: String,
    url: String,
}

impl Postbacks {
    /// Reads the body of a request with so many objects at most, and tries each on the URL.
    ///
    /// # Errors
    /// What is wrong first; of an object with its index.
    pub fn parse(json: &[u8], max: usize) -> Result<Self, NoPostbacks> {
        let Body { endpoint, data } = parse_object(json)?;
        let (mut objects, mut reader) =
            (Vec::new(), serde_json::Deserializer::from_str(data.get()));
        let read = Objects { max, objects: &mut objects }.deserialize(&mut reader);
        // What is kept for each is many times what an empty one takes in the body.
        if objects.len() > max {
            return Err(NoPostbacks::TooMany(max));
        }
        read.map_err(|_| Rejection::new("`data` must be an array of objects"))?;
        let data = objects;
        let endpoint = Endpoint::parse(&endpoint.method, &endpoint.url)?;
        for (index, object) in data.iter().enumerate() {
            if object.get().len() > OBJECT_MAX {
                let reason = format_args!("`data[{index}]` is longer than {OBJECT_MAX} bytes");
                return Err(Rejection::new(reason).into());
            }
            endpoint
                .values(object)
                .map_err(|error| Rejection::new(format_args!("`data[{index}]`: {error}")))?;
        }
        Ok(Self { endpoint, data })
    }
}

impl Endpoint {
    /// # Errors
    /// If a method or URL is not allowed.
    pub fn parse(method: &str, url: &str) -> Result<Self, Rejection> {
        let method = match method.to_ascii_uppercase().as_str() {
            "GET" => Method::Get,
            "POST" => Method::Post,
            _ => return Err(Rejection::new("`endpoint.method` must be GET or POST")),
        };
        let wrong = |what: &str| Rejection::new(format_args!("`endpoint.url` {what}"));
        if url.len() > URL_MAX {
            return Err(wrong("is longer than 65,534 bytes"));
        }
        let (origin, rest) = split(url)
            .ok_or_else(|| wrong("must be an absolute http:// or https:// URL with a host"))?;
        if origin.contains(['{', '}']) {
            return Err(wrong("must not have a {key} before its path"));
        }
        let is_sent = |url: &str| url.parse::<http::Uri>().is_ok() && Url::parse(url).is_ok();
        let mut template = Template(vec![Part::Text(origin.to_owned())]);
        template.0.extend(parts(rest));
        if !is_sent(&template.filled(|_| String::new())) {
            return Err(wrong("is one that no request can be sent to"));
        }
        Ok(Self { method, url: template })
    }

    /// Method and URL, the latter as it was written.
    pub fn title(&self) -> String {
        let method = match self.method {
            Method::Get => "GET",
            Method::Post => "POST",
        };
        format!("{method} {self}")
    }

    /// What its calls queue behind.
    pub fn destination(&self) -> String {
        destination(&self.to_string())
    }

    /// The values of an object.
    ///
    /// # Errors
    /// If it is no object, or a value that the URL names is an array or an object.
    fn values(&self, object: &RawValue) -> Result<Members, Rejection> {
        let members: Members = parse_object(object.get().as_bytes())?;
        for key in self.url.keys() {
            if let Some(b'[' | b'{') = members.last(key).and_then(|v| v.get().bytes().next()) {
                let reason = format_args!("`{key}` must be a string, a number, a boolean or null");
                return Err(Rejection::new(reason));
            }
        }
        Ok(members)
    }

    /// The request for an object; what it has no value for gets the default.
    ///
    /// # Errors
    /// If there are no values in it.
    pub fn request(&self, object: &RawValue, default: &str) -> Result<CallRequest, Rejection> {
        let members = self.values(object)?;
        let url = self.url.filled(|key| encoded(&value(&members, key, default)));
        let (url, user_info) = user_info::taken_out(&url);
        let mut headers = Vec::new();
        if let Some(user_info) = user_info {
            let (user, password) = user_info.split_once(':').unwrap_or((user_info, ""));
            let authorization = user_info::authorization(user, password);
            headers.push(("authorization".to_owned(), authorization));
        }
        let (method, body) = match self.method {
            Method::Get => ("GET", String::new()),
            Method::Post => {
                headers.push(("content-type".to_owned(), "application/json".to_owned()));
                ("POST", object.get().to_owned())
            }
        };
        Ok(CallRequest { method: method.to_owned(), url, headers, body })
    }
}

/// Scheme, user info, host and port, and what follows; the scheme is `http` or `https`, the host not empty.
fn split(url: &str) -> Option<(&str, &str)> {
    let (scheme, _) = url.split_once("://")?;
    let is_http = scheme.eq_ignore_ascii_case("http") || scheme.eq_ignore_ascii_case("https");
    let end = user_info::authority_end(url);
    (is_http && end > scheme.len() + 3).then(|| url.split_at(end))
}

/// Cuts a text at its places: `{`, one or more characters but braces, `}`.
fn parts(mut rest: &str) -> Vec<Part> {
    let (mut parts, mut text) = (Vec::new(), String::new());
    while let Some(open) = rest.find('{') {
        let after = &rest[open + 1..];
        match after.find(['{', '}']) {
            Some(end) if end > 0 && after.as_bytes()[end] == b'}' => {
                text.push_str(&rest[..open]);
                parts.push(Part::Text(std::mem::take(&mut text)));
                parts.push(Part::Key(after[..end].to_owned()));
                rest = &after[end + 1..];
            }
            _ => {
                text.push_str(&rest[..=open]);
                rest = after;
            }
        }
    }
    text.push_str(rest);
    parts.push(Part::Text(text));
    parts
}

impl Template {
    fn filled(&self, value: impl Fn(&str) -> String) -> String {
        self.0.iter().fold(String::new(), |filled, part| {
            filled
                + &match part {
                    Part::Text(text) => text.clone(),
                    Part::Key(key) => value(key),
                }
        })
    }

    fn keys(&self) -> impl Iterator<Item = &str> {
        self.0.iter().filter_map(|part| match part {
            Part::Key(key) => Some(key.as_str()),
            Part::Text(_) => None,
        })
    }
}

/// The endpoint's URL as it was written, which is how it is shown and kept.
impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.url.filled(|key| format!("{{{key}}}")))
    }
}

/// The text of a member: a string's characters, a number's or a boolean's JSON.
fn value(members: &Members, key: &str, default: &str) -> String {
    match members.last(key).map(RawValue::get) {
        None | Some("null") => default.to_owned(),
        Some(json) if json.starts_with('"') => serde_json::from_str(json).unwrap_or_default(),
        Some(json) => json.to_owned(),
    }
}

/// Each byte but those that a URL never gives a meaning to as `%XX`.
fn encoded(text: &str) -> String {
    text.bytes().fold(String::with_capacity(text.len()), |encoded, byte| match byte {
        b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => {
            encoded + char::from(byte).encode_utf8(&mut [0; 4])
        }
        _ => encoded + &format!("%{byte:02X}"),
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn body(method: &str, url: &str, data: &str) -> String {
        format!(r#"{{"endpoint":{{"method":"{method}","url":"{url}"}},"data":{data}}}"#)
    }

    fn requests(method: &str, url: &str, data: &str) -> Vec<CallRequest> {
        let postbacks = Postbacks::parse(body(method, url, data).as_bytes(), 1_000).unwrap();
        let request = |object: &RawValue| postbacks.endpoint.request(object, "").unwrap();
        postbacks.data.iter().map(|object| request(object)).collect()
    }

    fn url(url: &str, object: &str) -> String {
        requests("GET", url, &format!("[{object}]")).remove(0).url
    }

    #[test]
    fn the_originals_example_to_the_byte() {
        let requests = requests(
            "get",
            "http://sample_domain_endpoint.com/data?title={mascot}&image={location}&foo={bar}",
            r#"[{"mascot":"Gopher","location":"https://blog.golang.org/gopher/gopher.png"}]"#,
        );
        let expected = CallRequest {
            method: "GET".into(),
            url: "http://sample_domain_endpoint.com/data?title=Gopher\
                  &image=https%3A%2F%2Fblog.golang.org%2Fgopher%2Fgopher.png&foo="
                .into(),
            headers: vec![],
            body: String::new(),
        };
        assert_eq!(requests, [expected]);
    }

    #[test]
    fn values_are_put_in_once_and_never_scanned() {
        for (template, object, expected) in [
            ("http://a/{x}", r#"{"x":"{y}","y":"no"}"#, "http://a/%7By%7D"),
            ("http://a/{x}/{x}?{x}#{x}", r#"{"x":1}"#, "http://a/1/1?1#1"),
            ("http://a/?q={x}", r#"{"x":true}"#, "http://a/?q=true"),
            ("http://a/?q={x}", r#"{"x":1.50e3}"#, "http://a/?q=1.50e3"),
            ("http://a/?q={x}", r#"{"x":"ü /~"}"#, "http://a/?q=%C3%BC%20%2F~"),
            ("http://a/?q={x}", r#"{"x":null}"#, "http://a/?q="),
            ("http://a/?q={X}", r#"{"x":"other"}"#, "http://a/?q="),
            ("http://a/{}{{x}}", r#"{"x":"1"}"#, "http://a/{}{1}"),
            ("http://a/{x", r#"{"x":"1"}"#, "http://a/{x"),
            ("http://a/%7Bx%7D?b=%zz", r#"{"x":"1"}"#, "http://a/%7Bx%7D?b=%zz"),
            ("HTTP://A:80?{a b}", r#"{"a b":"1"}"#, "HTTP://A:80?1"),
        ] {
            assert_eq!(url(template, object), expected, "{template}");
        }
    }

    #[test]
    fn a_post_sends_the_object_as_it_was_sent() {
        let object = r#"{ "a": 1.0,  "b":["ü"]}"#;
        let requests = requests("POST", "https://a.example/{a}", &format!("[{object}, {{}}]"));
        assert_eq!(requests[0].body, object);
        assert_eq!(requests[0].url, "https://a.example/1.0");
        assert_eq!(requests[0].headers, [("content-type".into(), "application/json".into())]);
        assert_eq!(requests[1].url, "https://a.example/");
        let parse =
            |data: &str| Postbacks::parse(body("GET", "https://a.example", data).as_bytes(), 2);
        assert!(parse("[]").is_ok() && parse("[{},{}]").is_ok());
        assert_eq!(parse("[{},{},{},7]").unwrap_err(), NoPostbacks::TooMany(2));
        let huge = format!(r#"[{{"a":"{}"}}]"#, "x".repeat(OBJECT_MAX));
        assert!(parse(&huge).unwrap_err().to_string().contains("`data[0]` is longer"));
    }

    #[test]
    fn user_info_becomes_basic_authorisation() {
        let request = requests("POST", "https://bob:p%40ss@a.example/{x}?@", "[{}]").remove(0);
        assert_eq!(request.url, "https://a.example/?@");
        assert_eq!(request.headers[0], ("authorization".into(), "Basic Ym9iOnBAc3M=".into()));
    }

    #[test]
    fn what_is_wrong_is_told_with_its_place() {
        let refused =
            |json: &str| Postbacks::parse(json.as_bytes(), 1_000).unwrap_err().to_string();
        for (json, said) in [
            ("", "empty"),
            ("[]", "object"),
            (r#"{"data":[]}"#, "endpoint"),
            (r#"{"endpoint":{"method":"GET"},"data":[]}"#, "url"),
            (&body("PUT", "http://a", "[]"), "`endpoint.method`"),
            (&body("GET", "ftp://a", "[]"), "`endpoint.url`"),
            (&body("GET", "/data", "[]"), "`endpoint.url`"),
            (&body("GET", "http:///data", "[]"), "`endpoint.url`"),
            (&body("GET", "http://{host}/", "[]"), "before its path"),
            (&body("GET", "http://a:{port}/", "[]"), "before its path"),
            (&body("GET", "http://{u}@a/", "[]"), "before its path"),
            (&body("GET", "{s}://a/", "[]"), "`endpoint.url`"),
            (&body("GET", "http://a b/", "[]"), "no request"),
            (&body("GET", "http://a/", "{}"), "`data` must be an array"),
            (&body("GET", "http://a/", "[{},7]"), "`data[1]`"),
            (&body("GET", "http://a/{x}", r#"[{},{},{"x":[1]}]"#), "`data[2]`: `x`"),
            (&body("GET", "http://a/{x}", r#"[{"x":{}}]"#), "`data[0]`: `x`"),
        ] {
            let reason = refused(json);
            assert!(reason.contains(said), "{json}: {reason}");
        }
        // What the URL does not name may be anything.
        let good = body("GET", "http://a/", r#"[{"x":[1]}]"#);
        assert!(Postbacks::parse(good.as_bytes(), 1).is_ok());
    }

    proptest! {
        #[test]
        fn every_value_comes_out_as_it_went_in(value in "\\PC{0,40}") {
            let object = serde_json::json!({ "x": value }).to_string();
            let url = url("https://a.example/?q={x}&end", &object);
            let (_, query) = url.split_once('?').unwrap();
            prop_assert_eq!(query.matches('&').count(), 1);
            let read = url::form_urlencoded::parse(query.as_bytes()).next().unwrap().1;
            prop_assert_eq!(read, value);
        }
    }
}
