//! The services that exceptions can be reported to, and what each needs to be told in settings.

use super::exception::{Exception, Origin};
use super::honeybadger::Honeybadger;
use super::new_relic::NewRelic;
use super::report::Report;
use super::sentry::Sentry;
use crate::config::{ExceptionService, SettingError, Settings};

/// A service with all that is needed to report to it.
pub enum Service {
    Sentry(Sentry),
    Honeybadger(Honeybadger),
    NewRelic(NewRelic),
}

impl Service {
    /// The service that the settings choose; none for `print`.
    ///
    /// # Errors
    /// If a setting that the service needs is missing, or is not what it needs.
    pub fn new(settings: &Settings) -> Result<Option<Self>, SettingError> {
        let service = match settings.exception_service {
            ExceptionService::Print => return Ok(None),
            ExceptionService::Sentry => Self::Sentry(Sentry::new(settings)?),
            ExceptionService::Honeybadger => Self::Honeybadger(Honeybadger::new(settings)?),
            ExceptionService::NewRelic => Self::NewRelic(NewRelic::new(settings)?),
        };
        Ok(Some(service))
    }

    /// Writes an exception as the service wants it.
    pub fn report(&self, exception: &Exception, origin: &Origin) -> anyhow::Result<Report> {
        match self {
            Self::Sentry(sentry) => sentry.report(exception, origin),
            Self::Honeybadger(honeybadger) => honeybadger.report(exception, origin),
            Self::NewRelic(new_relic) => new_relic.report(exception, origin),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Sources;

    fn service(pairs: &[(&str, &str)]) -> Result<Option<Service>, SettingError> {
        let find = |name: &str| {
            pairs.iter().find(|(key, _)| *key == name).map(|(_, value)| (*value).to_owned())
        };
        Service::new(&Settings::load(&Sources { flags: &|_| None, environment: &find })?)
    }

    fn report(pairs: &[(&str, &str)]) -> Report {
        service(pairs).unwrap().unwrap().report(&Exception::example(), &Origin::example()).unwrap()
    }

    #[test]
    fn print_reports_to_nobody() {
        assert!(matches!(service(&[]), Ok(None)));
    }

    #[test]
    fn what_a_service_needs_is_said() {
        const URL: &str = "EXCEPTION_SERVICE_URL";
        let events = "https://insights-collector.newrelic.com/v1/accounts/1/events";
        for (pairs, needed) in [
            (&[("EXCEPTION_SERVICE", "sentry")][..], URL),
            (&[("EXCEPTION_SERVICE", "sentry"), (URL, "https://sentry.io/1")], URL),
            (&[("EXCEPTION_SERVICE", "sentry"), (URL, "https://key@sentry.io/")], URL),
            (&[("EXCEPTION_SERVICE", "honeybadger")], "HONEYBADGER_API_KEY"),
            (&[("EXCEPTION_SERVICE", "new_relic"), ("NEW_RELIC_LICENSE_KEY", "key")], URL),
            (&[("EXCEPTION_SERVICE", "new_relic"), (URL, events)], "NEW_RELIC_LICENSE_KEY"),
            (&[("EXCEPTION_SERVICE", "new_relic"), (URL, "https://key@newrelic.com")], URL),
        ] {
            let error = service(pairs).err().unwrap_or_else(|| panic!("{pairs:?} was taken"));
            let error = error.to_string();
            assert!(error.starts_with("EXCEPTION_SERVICE=") && error.contains(needed), "{error}");
            assert!(!error.contains("key@"), "{error}");
        }
    }

    #[test]
    fn a_key_comes_from_its_setting_or_from_the_url_but_is_not_sent_in_the_url() {
        let own = ("HONEYBADGER_API_KEY", "own");
        let chosen = ("EXCEPTION_SERVICE", "honeybadger");
        let url = ("EXCEPTION_SERVICE_URL", "https://from-url:x@eu-api.honeybadger.io/");
        for (pairs, host, key) in [
            (&[chosen, own][..], "api.honeybadger.io", "own"),
            (&[chosen, url], "eu-api.honeybadger.io", "from-url"),
            (&[chosen, url, own], "eu-api.honeybadger.io", "own"),
        ] {
            let report = report(pairs);
            assert_eq!(report.url.as_str(), format!("https://{host}/v1/notices"));
            assert_eq!(report.headers["x-api-key"], key);
            assert!(report.headers["x-api-key"].is_sensitive());
        }
    }
}
