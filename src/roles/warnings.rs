//! What in the settings is dangerous, or has no effect: for the log of a process that starts, and
//! for `routemaster doctor`.

use std::fmt;

use super::serving::Serving;
use super::welcome::allows_default_client;
use crate::config::{
    ExceptionService, Interface, KeyWindow, MetricService, Role, Settings, default_of, environment,
};
use crate::files;
use crate::shell;

/// Something that is allowed and hardly meant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Warning {
    /// What is so, and what comes of it.
    pub found: String,
    /// What to do about it.
    pub advice: String,
}

impl Warning {
    fn new(found: impl Into<String>, advice: impl Into<String>) -> Self {
        Self { found: found.into(), advice: advice.into() }
    }
}

impl fmt::Display for Warning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}; {}", self.found, self.advice)
    }
}

/// What is dangerous or has no effect in a process with this role.
pub fn of(settings: &Settings, role: Role) -> Vec<Warning> {
    let mut warnings = Vec::new();
    if role != Role::Web && !settings.ssl_verify {
        warnings.push(Warning::new(
            "ROUTEMASTER_SSL_VERIFY is off: anybody can pose as a callback",
            "let ROUTEMASTER_CALLBACK_CA_FILE name the authority of the callbacks instead",
        ));
    }
    warnings.extend(of_secrets(settings));
    warnings.extend(of_the_originals(environment::names()));
    warnings.extend(without_effect(settings));
    match Serving::of(role, settings) {
        Some(serving) => warnings.extend(of_a_server(settings, serving)),
        None if settings.metrics == MetricService::Prometheus => warnings.push(Warning::new(
            "METRIC_COLLECTION_SERVICE=prometheus without ROUTEMASTER_METRICS_PORT: nobody can \
             read this worker's metrics",
            "set ROUTEMASTER_METRICS_PORT",
        )),
        None => {}
    }
    warnings
}

fn of_a_server(settings: &Settings, serving: Serving) -> Vec<Warning> {
    let mut warnings = Vec::new();
    if allows_default_client(settings) && !settings.bind.is_loopback() {
        let client = default_of("ROUTEMASTER_CLIENTS");
        let can = if serving == Serving::Api { "publish" } else { "read metrics" };
        warnings.push(Warning::new(
            format!(
                "the client `{client}` is allowed and ROUTEMASTER_BIND is not this machine alone: \
                 anybody who reaches it can {can}"
            ),
            "set ROUTEMASTER_CLIENTS",
        ));
    }
    if !settings.tls && !settings.trust_proxy {
        warnings.push(Warning::new(
            "ROUTEMASTER_TLS=off without ROUTEMASTER_TRUST_PROXY=true: every request is \
             redirected to HTTPS, which nobody serves",
            "set ROUTEMASTER_TRUST_PROXY=true if a proxy ends TLS, else leave ROUTEMASTER_TLS on",
        ));
    }
    if serving == Serving::Api {
        warnings.extend(of_calls(settings));
    }
    if settings.uses_development_certificate() {
        warnings.push(Warning::new(
            "using a development certificate, which is good for localhost only",
            "set ROUTEMASTER_TLS_CERT and ROUTEMASTER_TLS_KEY",
        ));
    }
    warnings
}

/// Who may bring calls without much ado.
fn of_calls(settings: &Settings) -> Vec<Warning> {
    let mut warnings = Vec::new();
    for interface in Interface::ALL.into_iter().filter(|interface| settings.is_open(*interface)) {
        warnings.push(Warning::new(
            format!(
                "{} need no authorisation: anybody who reaches the bus may send them",
                interface.name()
            ),
            "leave ROUTEMASTER_OPEN out, and AUTHORIZATION_KEY if it is empty",
        ));
    }
    if settings.calls_key().is_some_and(|(_, window)| window == KeyWindow::Any) {
        warnings.push(Warning::new(
            "a hash for calls is good for ever: whoever has seen one can make calls",
            "set ROUTEMASTER_CALLS_KEY in place of AUTHORIZATION_KEY, or ROUTEMASTER_CALLS_KEY_WINDOW=300",
        ));
    }
    for address in settings.plain_bind.iter().filter(|address| !address.ip().is_loopback()) {
        warnings.push(Warning::new(
            format!("ROUTEMASTER_PLAIN_BIND={address} takes calls without TLS from other machines"),
            "let clients use https:// as soon as they can",
        ));
    }
    warnings
}

/// Settings of the originals that mean nothing here.
fn of_the_originals(names: impl Iterator<Item = String>) -> Vec<Warning> {
    let mut without_meaning: Vec<String> =
        names.filter(|name| name.starts_with("QUEUE_") || name.starts_with("RABBITMQ_")).collect();
    without_meaning.sort();
    without_meaning.dedup();
    if without_meaning.is_empty() {
        return Vec::new();
    }
    vec![Warning::new(
        format!("{} mean nothing here", without_meaning.join(", ")),
        "calls are in the bus's own store, and a worker makes ROUTEMASTER_MAX_CALLS at once",
    )]
}

/// Secrets that are easily guessed or read.
fn of_secrets(settings: &Settings) -> Vec<Warning> {
    let mut warnings = Vec::new();
    let keys = [
        ("ROUTEMASTER_ROOT_KEY", &settings.root_key),
        ("ROUTEMASTER_MONITOR_KEY", &settings.monitor_key),
    ];
    for (name, key) in keys {
        let length = key.as_ref().map(|key| key.reveal().chars().count());
        if let Some(length) = length.filter(|length| *length < ROOT_KEY_GOOD) {
            warnings.push(Warning::new(
                format!("{name} has {length} characters: it can be guessed"),
                "make another one, for instance with `openssl rand -hex 32`",
            ));
        }
    }
    for (name, file) in
        [("ROUTEMASTER_TLS_KEY", &settings.tls_key), ("ROUTEMASTER_REDIS_KEY", &settings.redis_key)]
    {
        if let Some(file) = file.as_ref().filter(|file| files::is_readable_by_all(file)) {
            warnings.push(Warning::new(
                format!("{name}: everybody on this machine can read {}", file.display()),
                format!("run `chmod 600 {}`", shell::quoted(&file.display().to_string())),
            ));
        }
    }
    warnings
}

/// Characters that a root key should have.
const ROOT_KEY_GOOD: usize = 16;

/// Settings of a service that was not chosen.
fn without_effect(settings: &Settings) -> impl Iterator<Item = Warning> {
    let (metrics, exceptions) = (settings.metrics, settings.exception_service);
    let all = [
        (
            "EXCEPTION_SERVICE_URL",
            settings.exception_service_url.is_some(),
            exceptions != ExceptionService::Print,
            "EXCEPTION_SERVICE=sentry, honeybadger or new_relic",
        ),
        (
            "HONEYBADGER_API_KEY",
            settings.honeybadger_api_key.is_some(),
            exceptions == ExceptionService::Honeybadger,
            "EXCEPTION_SERVICE=honeybadger",
        ),
        (
            "NEW_RELIC_LICENSE_KEY",
            settings.new_relic_license_key.is_some(),
            exceptions == ExceptionService::NewRelic,
            "EXCEPTION_SERVICE=new_relic",
        ),
        (
            "DATADOG_API_KEY",
            settings.datadog_api_key.is_some(),
            metrics == MetricService::Datadog,
            "METRIC_COLLECTION_SERVICE=datadog",
        ),
        (
            "ROUTEMASTER_METRICS_PORT",
            settings.metrics_port.is_some(),
            metrics == MetricService::Prometheus,
            "METRIC_COLLECTION_SERVICE=prometheus",
        ),
    ];
    let idle = all.into_iter().filter(|(_, is_set, has_effect, _)| *is_set && !has_effect);
    idle.map(|(name, _, _, needs)| {
        Warning::new(format!("{name} has no effect"), format!("it needs {needs}"))
    })
}
