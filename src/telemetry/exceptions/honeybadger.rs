//! Honeybadger: a notice, posted as JSON.

use std::time::UNIX_EPOCH;

use serde_json::json;
use url::Url;

use super::exception::{Exception, Origin};
use super::report::{Report, headers, key, needs, without_user};
use crate::config::{SettingError, Settings};

/// Where notices go if the setting names no other place.
const API: &str = "https://api.honeybadger.io";

pub struct Honeybadger {
    notices: Url,
    key: String,
}

impl Honeybadger {
    pub fn new(settings: &Settings) -> Result<Self, SettingError> {
        let key = key(&settings.honeybadger_api_key, settings);
        let key = key.ok_or_else(|| needs("honeybadger", "HONEYBADGER_API_KEY"))?;
        let url = settings.exception_service_url.as_ref();
        let base = url.map_or_else(|| API.to_owned(), |url| without_user(url.clone()).into());
        let notices = format!("{}/v1/notices", base.trim_end_matches('/')).parse();
        let what = "an EXCEPTION_SERVICE_URL such as https://api.honeybadger.io";
        Ok(Self { notices: notices.map_err(|_| needs("honeybadger", what))?, key })
    }

    pub fn report(&self, exception: &Exception, origin: &Origin) -> anyhow::Result<Report> {
        let mut context = json!(exception.fields);
        context["role"] = origin.role.into();
        context["target"] = exception.target.into();
        context["release"] = origin.release.into();
        let place = &exception.place;
        let notice = json!({
            "notifier": {"name": "routemaster", "version": env!("CARGO_PKG_VERSION")},
            "error": {
                "class": exception.class,
                "message": exception.error,
                "backtrace": [{
                    "file": place.file,
                    "number": place.line.to_string(),
                    "method": exception.target,
                }],
            },
            "request": {"component": exception.target, "context": context},
            "server": {
                "hostname": origin.hostname,
                "pid": origin.pid,
                "time": exception.at.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs(),
                "revision": origin.release,
            },
        });
        Ok(Report {
            url: self.notices.clone(),
            headers: headers("application/json", "x-api-key", &self.key)?,
            body: serde_json::to_vec(&notice)?,
        })
    }
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;

    #[test]
    fn an_exception_becomes_a_notice() {
        let honeybadger = Honeybadger { notices: API.parse().unwrap(), key: "key".into() };
        let report = honeybadger.report(&Exception::example(), &Origin::example()).unwrap();
        let notice: Value = serde_json::from_slice(&report.body).unwrap();
        assert_eq!(notice["error"]["class"], "failed to reach the store; trying on");
        assert_eq!(notice["error"]["message"], "Connection refused");
        let frame = &notice["error"]["backtrace"][0];
        assert_eq!(frame["file"], "src/store/redis/connection.rs");
        assert_eq!(frame["number"], "184");
        assert_eq!(notice["request"]["context"]["store"], "Redis, redis://localhost:6379");
        assert_eq!(notice["request"]["context"]["role"], "web");
        assert_eq!(notice["server"]["hostname"], "bus-1");
        assert_eq!(notice["server"]["time"], 1_700_000_000);
    }
}
