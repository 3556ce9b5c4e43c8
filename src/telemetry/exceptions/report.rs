//! A report: what is posted to a service, and what the services have in common about it.

use reqwest::header::{CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue};
use url::Url;

use crate::config::{SettingError, Settings};

/// One POST.
pub struct Report {
    pub url: Url,
    pub headers: HeaderMap,
    pub body: Vec<u8>,
}

/// The headers of a report: its type, and the one that proves who sends it.
pub fn headers(
    content_type: &'static str,
    key_name: &'static str,
    key: &str,
) -> anyhow::Result<HeaderMap> {
    let mut key = HeaderValue::from_str(key)?;
    key.set_sensitive(true);
    Ok(HeaderMap::from_iter([
        (CONTENT_TYPE, HeaderValue::from_static(content_type)),
        (HeaderName::from_static(key_name), key),
    ]))
}

/// The key of a service: a setting of its own, else the user of `EXCEPTION_SERVICE_URL`.
pub fn key(setting: &Option<String>, settings: &Settings) -> Option<String> {
    let user = settings.exception_service_url.as_ref().map(Url::username);
    setting.clone().or_else(|| user.filter(|user| !user.is_empty()).map(str::to_owned))
}

/// A URL without user and password: they are for a header, or for nobody.
pub fn without_user(mut url: Url) -> Url {
    // Refused for URLs without a host only, which no setting allows.
    let _ = url.set_username("");
    let _ = url.set_password(None);
    url
}

/// A setting is missing, or does not fit the chosen service.
pub fn needs(service: &str, needed: &str) -> SettingError {
    SettingError::Conflict(format!("EXCEPTION_SERVICE={service} needs {needed}"))
}
