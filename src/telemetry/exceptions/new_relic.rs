//! New Relic: a custom event, posted to the Event API of an account.
//!
//! The Event API takes flat objects only. The names of log fields get a prefix, so that none of
//! them is a name that New Relic keeps for itself.

use std::time::UNIX_EPOCH;

use serde_json::{Map, Value, json};
use url::Url;

use super::exception::{Exception, Origin, beginning};
use super::report::{Report, headers, key, needs, without_user};
use crate::config::{SettingError, Settings};

/// The type to ask for in a query: `SELECT * FROM RoutemasterException`.
const EVENT_TYPE: &str = "RoutemasterException";
/// The longest text of an attribute, in characters. In bytes it is a little shorter.
const TEXT_MAX: usize = 4096;

pub struct NewRelic {
    events: Url,
    key: String,
}

impl NewRelic {
    pub fn new(settings: &Settings) -> Result<Self, SettingError> {
        // The account is in the path, so that there can be no default.
        let url = settings.exception_service_url.clone().map(without_user);
        let is_events = |url: &Url| url.path().trim_end_matches('/').ends_with("/events");
        let events = url.filter(is_events).ok_or_else(|| {
            let what = "EXCEPTION_SERVICE_URL: \
                        https://insights-collector.newrelic.com/v1/accounts/<account>/events";
            needs("new_relic", what)
        })?;
        let key = key(&settings.new_relic_license_key, settings);
        let key = key.ok_or_else(|| needs("new_relic", "NEW_RELIC_LICENSE_KEY"))?;
        Ok(Self { events, key })
    }

    pub fn report(&self, exception: &Exception, origin: &Origin) -> anyhow::Result<Report> {
        let text = |text: &str| Value::from(beginning(text, TEXT_MAX));
        let mut event = Map::from_iter(
            exception.fields.iter().map(|(name, value)| (format!("field.{name}"), text(value))),
        );
        let time = exception.at.duration_since(UNIX_EPOCH).unwrap_or_default();
        for (name, value) in [
            ("eventType", EVENT_TYPE.into()),
            ("timestamp", time.as_secs().into()),
            ("error.class", text(&exception.class)),
            ("error.message", text(&exception.error)),
            ("logger", exception.target.into()),
            ("file", text(&exception.place.file)),
            ("line", exception.place.line.into()),
            ("release", origin.release.into()),
            ("role", origin.role.into()),
            ("hostname", text(&origin.hostname)),
            ("pid", origin.pid.into()),
        ] {
            event.insert(name.into(), value);
        }
        Ok(Report {
            url: self.events.clone(),
            headers: headers("application/json", "api-key", &self.key)?,
            body: serde_json::to_vec(&json!([event]))?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_exception_becomes_one_flat_event() {
        let events: Url = "https://new-relic.example/v1/accounts/1/events".parse().unwrap();
        let new_relic = NewRelic { events, key: "key".into() };
        let long = Exception { error: "e".repeat(TEXT_MAX + 1), ..Exception::example() };
        let report = new_relic.report(&long, &Origin::example()).unwrap();
        assert_eq!(report.headers["api-key"], "key");
        let list: Value = serde_json::from_slice(&report.body).unwrap();
        let event = list[0].as_object().unwrap();
        assert_eq!(event["eventType"], "RoutemasterException");
        assert_eq!(event["timestamp"], 1_700_000_000);
        assert_eq!(event["error.class"], "failed to reach the store; trying on");
        assert_eq!(event["error.message"].as_str().unwrap().len(), TEXT_MAX);
        assert_eq!(event["file"], "src/store/redis/connection.rs");
        assert_eq!(event["line"], 184);
        assert_eq!(event["field.store"], "Redis, redis://localhost:6379");
        assert!(event.values().all(|value| value.is_string() || value.is_number()), "{event:?}");
    }
}
