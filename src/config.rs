//! Settings: every environment variable once, with its unit, default and meaning.
//!
//! The table below is the one place; `--help`, `.env.example` and `docs/configuration.md` are
//! written from it (the last two are checked by a test). A flag has the variable's name, without
//! `ROUTEMASTER_`, in lower case with hyphens, and wins over the environment.

mod calls;
pub mod environment;
mod messages;
mod originals;
pub(crate) mod parse;
#[cfg(test)]
mod render;
mod role;
mod services;
mod survey;
mod table;

pub use calls::{CallPauses, CallsKey, Interface, KeyWindow};
pub use messages::Cleaning;
pub use parse::redis_url;
pub use role::Role;
pub use services::{ExceptionService, MetricService};
pub use survey::Survey;
pub use table::{SETTINGS, Settings};

/// How an operator sets one thing.
#[derive(Debug)]
pub struct Setting {
    /// The environment variable.
    pub name: &'static str,
    /// Another name that is understood, if the bus had one before.
    pub alias: Option<&'static str>,
    /// What holds when it is not set; empty if nothing does.
    pub default: &'static str,
    /// Which values are allowed, with the unit.
    pub allowed: &'static str,
    /// What it does.
    pub meaning: &'static str,
    /// Whether a person may not see the value.
    pub secret: bool,
}

impl Setting {
    /// The command line's flag, without the two hyphens.
    pub fn flag(&self) -> String {
        let name = self.name.strip_prefix(PREFIX).unwrap_or(self.name);
        name.to_lowercase().replace('_', "-")
    }
}

/// What holds for a variable of the table when it is not set; empty for a name that is not in it.
pub fn default_of(name: &str) -> &'static str {
    SETTINGS.iter().find(|setting| setting.name == name).map_or("", |setting| setting.default)
}

const PREFIX: &str = "ROUTEMASTER_";

/// A value as an error may repeat it: a secret one is blanked, of a URL what stands before `@`.
fn shown(setting: &Setting, value: String) -> String {
    if !setting.secret {
        return value;
    }
    // The name of a variable that is not set.
    let is_name = |byte: u8| byte.is_ascii_uppercase() || byte.is_ascii_digit() || byte == b'_';
    if setting.name == "ROUTEMASTER_REDIS_URL"
        && value.ends_with("_URL")
        && value.bytes().all(is_name)
    {
        return value;
    }
    match (value.split_once("://"), value.rsplit_once('@')) {
        (Some((scheme, _)), Some((_, host))) => format!("{scheme}://…@{host}"),
        (Some(_), None) => value,
        (None, _) => "…".into(),
    }
}

/// A setting that cannot be used. The program ends with exit code 2.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum SettingError {
    #[error("{name}={value} is not allowed: it must be {allowed}")]
    BadValue { name: &'static str, value: String, allowed: &'static str },
    #[error("{0}")]
    Conflict(String),
}

impl SettingError {
    /// The variable whose value is not allowed, if it is one alone.
    pub fn setting(&self) -> Option<&'static str> {
        match self {
            Self::BadValue { name, .. } => Some(name),
            Self::Conflict(_) => None,
        }
    }
}

/// Where values come from, the first wins: flags, then environment (a `.env` file included).
pub struct Sources<'a> {
    pub flags: &'a dyn Fn(&str) -> Option<String>,
    pub environment: &'a dyn Fn(&str) -> Option<String>,
}

impl Sources<'_> {
    /// The value to parse.
    fn value(&self, setting: &Setting) -> String {
        self.set_value(setting).unwrap_or_else(|| setting.default.to_owned())
    }

    fn is_set(&self, setting: &Setting) -> bool {
        self.set_value(setting).is_some()
    }

    /// An empty value counts as not set, except for the clients: whoever wants none but those of
    /// `/api_tokens` must not get the default `demo` instead.
    fn set_value(&self, setting: &Setting) -> Option<String> {
        let set = (self.flags)(&setting.flag())
            .or_else(|| (self.environment)(setting.name))
            .or_else(|| setting.alias.and_then(|alias| (self.environment)(alias)));
        let set = set
            .filter(|value| !value.is_empty() || setting.name == "ROUTEMASTER_CLIENTS")
            .or_else(|| originals::value_of(setting.name, self.environment))?;
        // The original lets this one name another variable, such as that of a hosted Redis.
        if setting.name == "ROUTEMASTER_REDIS_URL" && !set.contains(':') {
            return Some((self.environment)(&set).unwrap_or(set));
        }
        Some(set)
    }
}

/// The token of the commands that talk to a bus, when `--token` is not given. No setting: the bus
/// has nothing from it.
pub const COMMANDS_TOKEN: &str = "ROUTEMASTER_TOKEN";

/// Whether this is a variable of the table, or the one of the commands.
fn is_known(name: &str) -> bool {
    name == COMMANDS_TOKEN
        || SETTINGS.iter().any(|setting| setting.name == name || setting.alias == Some(name))
}

/// Names in the environment that look like settings but are none.
pub fn unknown_names(environment: impl Iterator<Item = String>) -> Vec<String> {
    let known = |name: &str| is_known(name) || environment::is_file_of_secret(name);
    environment.filter(|name| name.starts_with(PREFIX) && !known(name)).collect()
}

#[cfg(test)]
mod tests {
    use tracing_subscriber::filter::LevelFilter;

    use super::*;

    fn settings(pairs: &[(&str, &str)]) -> Result<Settings, SettingError> {
        let find = |name: &str| {
            pairs.iter().find(|(key, _)| *key == name).map(|(_, value)| (*value).to_owned())
        };
        Settings::load(&Sources { flags: &|_| None, environment: &find })
    }

    #[test]
    fn defaults_are_the_contracts() {
        let settings = settings(&[]).unwrap();
        assert_eq!((settings.port, settings.bind.to_string()), (17890, "127.0.0.1".into()));
        assert_eq!(settings.clients.len(), 1);
        assert_eq!(settings.clients[0].reveal(), "demo");
        assert_eq!(settings.shutdown_timeout.as_secs(), 25);
        assert_eq!((settings.max_event_data, settings.topic_name_max), (8192, 64));
        assert_eq!(settings.connect_timeout.as_secs(), 2);
        assert_eq!(settings.timeout.as_secs(), 20);
        assert_eq!(settings.max_backoff.as_millis(), 60_000);
        assert!(settings.ssl_verify && settings.tls && !settings.trust_proxy);
        assert_eq!((settings.redis_url, settings.root_key), (None, None));
    }

    #[test]
    fn a_bad_value_is_named_with_what_is_allowed() {
        for (name, value) in [
            ("PORT", "65536"),
            ("ROUTEMASTER_BIND", "localhost"),
            ("ROUTEMASTER_REDIS_URL", "http://x"),
            ("ROUTEMASTER_CLIENTS", "demo,Not A Token"),
            ("ROUTEMASTER_TIMEOUT", "-1"),
            ("ROUTEMASTER_TIMEOUT", "0"),
            ("ROUTEMASTER_TLS_CERT", "no/such/file.pem"),
            ("ROUTEMASTER_TIMEOUT", "NaN"),
            ("ROUTEMASTER_ACK", "202"),
            ("ROUTEMASTER_PUBLISH_STATUS", "201"),
            ("ROUTEMASTER_HP_DAMAGE_RATE", "--2"),
            ("ROUTEMASTER_LOG_FILE", "no/such/directory/log"),
            ("ROUTEMASTER_LOG_FILE", "src"),
            ("ROUTEMASTER_SSL_VERIFY", "perhaps"),
            ("ROUTEMASTER_TOPIC_NAME_MAX", "65"),
            ("ROUTEMASTER_CALLBACK_DENY", "10.0.0.0/8,10.1.2.3/8"),
            ("ROUTEMASTER_CALLBACK_ALLOW", "a\u{fffd}.example"),
            ("ROUTEMASTER_LOG_LEVEL", "loud"),
            ("ROUTEMASTER_REDIS_MAX_MEM", "100 apples"),
            ("ROUTEMASTER_SQLITE_MAX_BYTES", "-1"),
            ("METRIC_COLLECTION_SERVICE", "abacus"),
            ("DATADOG_HOST", "http://api.example"),
            ("DATADOG_HOST", "https://api.example/path"),
            ("DATADOG_HOST", "https://u:p@api.example"),
            ("DD_DOGSTATSD_PORT", "0"),
            ("EXCEPTION_SERVICE", "rollbar"),
            ("EXCEPTION_SERVICE_URL", "http://sentry.example/1"),
            ("HONEYBADGER_API_KEY", "two words"),
            ("NEW_RELIC_LICENSE_KEY", "ключ"),
            ("ROUTEMASTER_PLAIN_BIND", "127.0.0.1"),
            ("ROUTEMASTER_OPEN", "calls,bus"),
            ("ROUTEMASTER_CALLS_HEADER", "X Authorization"),
            ("ROUTEMASTER_CALLS_KEY_WINDOW", "0"),
            ("ROUTEMASTER_CALL_TIMEOUT", "0.05"),
            ("ROUTEMASTER_DEAD_LETTER_RETENTION", "30"),
        ] {
            let error = settings(&[(name, value)]).err().map(|error| error.to_string());
            let error = error.unwrap_or_else(|| panic!("{name}={value} was taken"));
            assert!(error.starts_with(name) && error.contains("must be"), "{error}");
        }
    }

    #[test]
    fn a_secret_is_not_repeated_in_an_error() {
        let error = settings(&[("ROUTEMASTER_ROOT_KEY", "My:Root Key")]).err().unwrap().to_string();
        assert!(error.starts_with("ROUTEMASTER_ROOT_KEY=") && !error.contains("Root Key"));
        let redis =
            |url: &str| settings(&[("ROUTEMASTER_REDIS_URL", url)]).err().unwrap().to_string();
        assert!(redis("http://u:s3cr3t@host/").contains("=http://…@host/ is not allowed"));
        assert!(redis("http://host/").contains("=http://host/ is not allowed"));
    }

    #[test]
    fn settings_that_contradict_each_other_are_refused() {
        for pairs in [
            &[("ROUTEMASTER_TLS_CERT", "Cargo.toml")][..],
            &[("ROUTEMASTER_TLS_KEY", "Cargo.toml")],
            &[("ROUTEMASTER_REDIS_MIN_FREE", "50MB"), ("ROUTEMASTER_REDIS_URL", "redis://a")],
            &[("ROUTEMASTER_SQLITE_MIN_FREE", "1GB"), ("ROUTEMASTER_SQLITE_MAX_BYTES", "2GB")],
            &[("ROUTEMASTER_CLIENTS", "demo,boss"), ("ROUTEMASTER_ROOT_KEY", "boss")],
            &[("ROUTEMASTER_CLIENTS", "open")],
            &[("ROUTEMASTER_CALL_RETRY_MS", "9"), ("ROUTEMASTER_CALL_RETRY_MAX_MS", "8")],
        ] {
            assert!(matches!(settings(pairs), Err(SettingError::Conflict(_))), "{pairs:?}");
        }
    }

    #[test]
    fn bytes_have_units() {
        for (text, expected) in [
            ("0", Some(0)),
            ("65536", Some(65_536)),
            ("100MB", Some(100_000_000)),
            ("1.5 GiB", Some(3 << 29)),
            ("2kib", Some(2048)),
            ("1e300", None),
            ("10 Mb of it", None),
            ("", None),
            ("MB", None),
        ] {
            assert_eq!(parse::bytes(text), expected, "{text:?}");
        }
    }

    #[test]
    fn autodrop_keeps_a_tenth_of_the_store_free() {
        let mark = |pairs: &[(&str, &str)]| settings(pairs).unwrap().budget().high_mark();
        assert_eq!(mark(&[("ROUTEMASTER_REDIS_URL", "redis://a")]), 90_000_000);
        assert_eq!(mark(&[]), 9_000_000_000);
        assert_eq!(mark(&[("ROUTEMASTER_SQLITE_MAX_BYTES", "50MB")]), 45_000_000);
    }

    #[test]
    fn an_alias_and_an_empty_value_are_understood() {
        assert_eq!(settings(&[("MAX_BACKOFF_MS", "5")]).unwrap().max_backoff.as_millis(), 5);
        assert_eq!(settings(&[("PORT", "")]).unwrap().port, 17890);
    }

    #[test]
    fn the_settings_of_the_original_are_taken_as_they_stand() {
        let settings = settings(&[
            ("ROUTEMASTER_HP_DAMAGE_RATE", "-2"),
            ("ROUTEMASTER_REDIS_URL", "OPENREDIS_URL"),
            ("OPENREDIS_URL", "redis://:s3cr3t@redis.example:6380"),
            ("ROUTEMASTER_LOG_FILE", ""),
            ("ROUTEMASTER_LOG_LEVEL", "DEBUG"),
            ("ROUTEMASTER_ROOT_KEY", "CHANGE-ME"),
        ])
        .unwrap();
        assert_eq!(settings.hp_damage_rate, 2);
        assert_eq!(settings.redis_url.as_deref(), Some("redis://:s3cr3t@redis.example:6380"));
        assert!(settings.secrets.iter().any(|secret| secret.contains("s3cr3t")));
        assert_eq!((settings.log_file, settings.log_level), (None, LevelFilter::DEBUG));
    }

    #[test]
    fn a_redis_url_that_names_a_variable_which_is_not_set_is_told_with_that_name() {
        let error = settings(&[("ROUTEMASTER_REDIS_URL", "OPENREDIS_URL")]).err().unwrap();
        assert!(
            error.to_string().starts_with("ROUTEMASTER_REDIS_URL=OPENREDIS_URL is not allowed")
        );
        let error = settings(&[("ROUTEMASTER_REDIS_URL", "HUNTER2")]).err().unwrap();
        assert!(!error.to_string().contains("HUNTER2"), "it may be a password: {error}");
    }

    #[test]
    fn the_settings_of_the_call_proxy_are_taken_as_they_stand() {
        let proxy = settings(&[
            ("AUTHORIZATION_KEY", "yourauthorizationkey"),
            ("AUTHORIZATION_HEADER", "Authorization"),
            ("FAST_PUBLISH", "1"),
            ("REQUEUE_FAILED_AFTER_MILLISECONDS", "700"),
            ("MAX_QUEUE_SIZE", "5"),
        ])
        .unwrap();
        let (key, window) = proxy.calls_key().unwrap();
        assert_eq!((key.reveal(), window), ("yourauthorizationkey", KeyWindow::Any));
        assert!(!proxy.is_open(Interface::Calls) && proxy.calls_fast);
        assert_eq!(proxy.calls_header, "authorization");
        let pause = std::time::Duration::from_millis(700);
        assert_eq!(proxy.call_pauses(), CallPauses { first: pause, max: pause });
        assert_eq!(proxy.postback_queue_max, 5);
        assert!(settings(&[("AUTHORIZATION_KEY", "")]).unwrap().is_open(Interface::Calls));
        assert!(!settings(&[]).unwrap().is_open(Interface::Calls));
    }

    #[test]
    fn the_bus_has_its_own_names_for_them() {
        let ours = settings(&[
            ("ROUTEMASTER_CALLS_KEY", "k"),
            ("AUTHORIZATION_KEY", ""),
            ("ROUTEMASTER_OPEN", "postbacks"),
            ("ROUTEMASTER_CALL_RETRY_MAX_MS", "1000"),
            ("REQUEUE_FAILED_AFTER_MILLISECONDS", "700"),
        ])
        .unwrap();
        let five_minutes = KeyWindow::Within(std::time::Duration::from_secs(300));
        assert_eq!(ours.calls_key().unwrap().1, five_minutes);
        assert!(!ours.is_open(Interface::Calls) && ours.is_open(Interface::Postbacks));
        let pauses = ours.call_pauses();
        assert_eq!((pauses.first.as_millis(), pauses.max.as_millis()), (1000, 1000));
    }

    #[test]
    fn an_empty_list_of_clients_is_not_the_default_one() {
        assert!(settings(&[("ROUTEMASTER_CLIENTS", "")]).unwrap().clients.is_empty());
    }

    #[test]
    fn only_names_with_our_prefix_can_be_unknown() {
        let names =
            ["PATH", "ROUTEMASTER_CLIENTS", "ROUTEMASTER_TOKEN_FILE", "ROUTEMASTER_CLINETS"];
        let names = names.map(String::from);
        assert_eq!(unknown_names(names.into_iter()), ["ROUTEMASTER_CLINETS"]);
    }
}
