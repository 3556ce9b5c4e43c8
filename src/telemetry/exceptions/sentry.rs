//! Sentry: an envelope with one event, posted to the project that a DSN names.

use std::borrow::Cow;

use sentry_types::Dsn;
use sentry_types::protocol::v7::{Envelope, Event, Exception as Error, Frame, Level, Stacktrace};
use serde_json::Value;

use super::exception::{Exception, Origin};
use super::report::{Report, headers, needs};
use crate::config::{SettingError, Settings};

pub struct Sentry {
    dsn: Dsn,
}

impl Sentry {
    pub fn new(settings: &Settings) -> Result<Self, SettingError> {
        let what = "EXCEPTION_SERVICE_URL: the DSN of a project, https://<key>@<host>/<project>";
        let url = settings.exception_service_url.as_ref();
        let url = url.ok_or_else(|| needs("sentry", what))?;
        let dsn = url.as_str().parse();
        Ok(Self { dsn: dsn.map_err(|error| needs("sentry", &format!("{what} ({error})")))? })
    }

    pub fn report(&self, exception: &Exception, origin: &Origin) -> anyhow::Result<Report> {
        let mut body = Vec::new();
        Envelope::from(event(exception, origin)).to_writer(&mut body)?;
        let auth = self.dsn.to_auth(Some(concat!("routemaster/", env!("CARGO_PKG_VERSION"))));
        Ok(Report {
            url: self.dsn.envelope_api_url(),
            headers: headers("application/x-sentry-envelope", "x-sentry-auth", &auth.to_string())?,
            body,
        })
    }
}

fn event(exception: &Exception, origin: &Origin) -> Event<'static> {
    let frame = Frame {
        filename: Some(exception.place.file.clone()),
        lineno: Some(exception.place.line.into()),
        module: Some(exception.target.into()),
        in_app: Some(true),
        ..Frame::default()
    };
    let error = Error {
        ty: exception.class.clone(),
        value: Some(exception.error.clone()),
        module: Some(exception.target.into()),
        stacktrace: Some(Stacktrace { frames: vec![frame], ..Stacktrace::default() }),
        ..Error::default()
    };
    let extra = exception.fields.iter();
    Event {
        // What an event is without a level: it is left out of the JSON.
        level: Level::Error,
        timestamp: exception.at,
        platform: Cow::Borrowed("native"),
        logger: Some(exception.target.into()),
        server_name: Some(origin.hostname.clone().into()),
        release: Some(origin.release.into()),
        exception: vec![error].into(),
        tags: [("role".to_owned(), origin.role.to_owned())].into(),
        extra: extra.map(|(&name, text)| (name.into(), Value::from(text.as_str()))).collect(),
        ..Event::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_exception_becomes_an_envelope_with_one_event() {
        let sentry =
            Sentry { dsn: "https://public:secret@sentry.example/base/42".parse().unwrap() };
        let report = sentry.report(&Exception::example(), &Origin::example()).unwrap();
        assert_eq!(report.url.as_str(), "https://sentry.example/base/api/42/envelope/");
        let auth = report.headers["x-sentry-auth"].to_str().unwrap();
        assert!(auth.starts_with("Sentry sentry_key=public, sentry_version=7"), "{auth}");
        assert!(auth.contains("sentry_secret=secret"), "{auth}");
        let envelope = Envelope::from_slice(&report.body).unwrap();
        let event = envelope.event().unwrap();
        assert_eq!((envelope.uuid(), event.level), (Some(&event.event_id), Level::Error));
        assert_eq!(event.timestamp, Exception::example().at);
        assert_eq!(event.release.as_deref(), Some("routemaster@1.2.3"));
        assert_eq!(event.server_name.as_deref(), Some("bus-1"));
        assert_eq!(event.tags["role"], "web");
        assert_eq!(event.extra["store"], "Redis, redis://localhost:6379");
        let error = &event.exception.values[0];
        assert_eq!(error.ty, "failed to reach the store; trying on");
        assert_eq!(error.value.as_deref(), Some("Connection refused"));
        let frame = &error.stacktrace.as_ref().unwrap().frames[0];
        assert_eq!(frame.filename.as_deref(), Some("src/store/redis/connection.rs"));
        assert_eq!(frame.lineno, Some(184));
    }
}
