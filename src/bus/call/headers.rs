//! The headers that a call is to be sent with.

use http::{HeaderName, HeaderValue};
use serde_json::value::RawValue;
use url::Url;

use super::fields::{Fields, repeated};
use crate::bus::json::Members;
use crate::bus::user_info;

/// What belongs to a connection, and not to a request.
const HOP_BY_HOP: [&str; 9] = [
    "connection",
    "keep-alive",
    "proxy-authenticate",
    "proxy-authorization",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
];
/// What follows from the URL and the body, whatever the caller says; ignored as in the original.
const IGNORED: [&str; 2] = ["host", "content-length"];

pub struct Headers(Vec<(String, String)>);

impl Headers {
    pub fn read(fields: &mut Fields) -> Self {
        let Some(raw) = fields.get("headers") else { return Self(Vec::new()) };
        let Ok(members) = serde_json::from_str::<Members>(raw.get()) else {
            fields.fault("headers", "must be an object");
            return Self(Vec::new());
        };
        for name in repeated(&members) {
            fields.fault("headers", format_args!("have `{name}` twice"));
        }
        let mut headers = Vec::with_capacity(members.0.len());
        for (name, value) in members.0 {
            match header(&name, &value) {
                Ok(Some(header)) => headers.push(header),
                Ok(None) => {}
                Err(reason) => fields.fault("headers", format_args!("have `{name}`, {reason}")),
            }
        }
        Self(headers)
    }

    /// Lets the user info of a URL be the authorisation, unless a header is.
    pub fn authorise_by(&mut self, url: &Url) {
        let has_none = url.username().is_empty() && url.password().is_none();
        if has_none || self.get("authorization").is_some() {
            return;
        }
        let (user, password) = (url.username(), url.password().unwrap_or_default());
        self.0.push(("authorization".into(), user_info::authorization(user, password)));
    }

    pub fn content_type(&self) -> Option<&str> {
        self.get("content-type")
    }

    pub fn into_pairs(self) -> Vec<(String, String)> {
        self.0
    }

    fn get(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }
}

/// A header as it is sent; nothing if it is ignored.
fn header(name: &str, value: &RawValue) -> Result<Option<(String, String)>, &'static str> {
    let name = HeaderName::try_from(name).map_err(|_| "which is no name of a header")?;
    if IGNORED.contains(&name.as_str()) {
        return Ok(None);
    }
    if HOP_BY_HOP.contains(&name.as_str()) {
        return Err("which belongs to a connection and not to a request");
    }
    let text = text(value).ok_or("which must be a string, a whole number or a boolean")?;
    HeaderValue::try_from(&text).map_err(|_| "whose value HTTP does not allow")?;
    Ok(Some((name.as_str().to_owned(), text)))
}

fn text(value: &RawValue) -> Option<String> {
    let written = value.get();
    match written.as_bytes().first()? {
        b'"' => serde_json::from_str(written).ok(),
        b't' | b'f' => Some(written.to_owned()),
        _ => written.parse::<i128>().ok().map(|number| number.to_string()),
    }
}
