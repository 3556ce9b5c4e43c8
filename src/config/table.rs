//! The table of all settings. A doc comment is the meaning that operators read.

use std::net::{IpAddr, SocketAddr};
use std::num::NonZeroU32;
use std::path::PathBuf;
use std::time::Duration;

use axum::http::{HeaderName, StatusCode};
use ipnet::IpNet;
use tracing_subscriber::filter::LevelFilter;
use url::Url;

use super::calls::{CallsKey, Interface, KeyWindow};
use super::messages::{
    Cleaning, emulator, endpoint, history_url, messages_retention, pubsub_topic,
};
use super::parse::{
    acknowledgement, address, amount, bytes, exception_service, file_to_append_to, host, hosts,
    https_host, https_url, interfaces, journal_mode, log_level, metric_service, milliseconds,
    networks, optional, path, points, port, publish_status, readable_file, redis_url, seconds,
    socket_addresses, some_seconds, switch, time_span, tokens, visible, within,
};
use super::{ExceptionService, MetricService, Setting, SettingError, Sources, shown};
use crate::bus::attempt::Acknowledgement;
use crate::bus::event::DATA_DEPTH_MAX;
use crate::bus::token::{ClientToken, PSEUDO_CLIENTS, RootKey};
use crate::bus::topic::TopicName;
use crate::egress::host_pattern::HostPattern;
use crate::egress::proxy::Proxy;
use crate::egress::rules::EgressRules;
use crate::journal::{JournalBounds, JournalMode};
use crate::store::redis::RedisOptions;
use crate::store::{Budget, DeadBounds, Lane};
use crate::tls::CertificateFiles;

/// What settings allow that are a key of some service.
const VISIBLE: &str = "1 to 256 visible ASCII characters";
/// What settings allow that are a number of bytes.
const BYTES: &str = "bytes, or a number with KB, MB, GB (1000s) or KiB, MiB, GiB (1024s)";

/// Declares each setting once: the field, its type, the variable, the default, what is allowed
/// and how it is read.
macro_rules! settings {
    ($(
        $(#[doc = $meaning:literal])+
        $field:ident: $type:ty = $name:literal $(or $alias:literal)? $(, $secret:ident)?,
        $default:literal, $allowed:expr, $parse:expr;
    )+) => {
        /// The settings of one process, checked.
        pub struct Settings {
            $($(#[doc = $meaning])+ pub $field: $type,)+
            /// The values of all secret settings as they were given, so that none of them gets into
            /// what leaves the process.
            pub secrets: Vec<String>,
            /// Whether AUTHORIZATION_KEY is set, but empty.
            pub authorization_key_is_empty: bool,
        }

        /// All settings, in the order in which people read them.
        pub const SETTINGS: &[Setting] = &[$(Setting {
            name: $name,
            alias: settings!(@alias $($alias)?),
            default: $default,
            allowed: $allowed,
            meaning: concat!($($meaning),+),
            secret: settings!(@secret $($secret)?),
        }),+];

        impl Settings {
            /// Reads all settings, each by itself.
            ///
            /// # Errors
            /// Every one that is not allowed.
            pub(super) fn read(sources: &Sources<'_>) -> Result<Self, Vec<SettingError>> {
                /// Apart, so that no field hides a function that reads another one.
                struct Draft {
                    $($field: Option<$type>,)+
                }
                let mut table = SETTINGS.iter();
                let (mut secrets, mut errors) = (Vec::new(), Vec::new());
                let draft = Draft {
                    $($field: {
                        // The fields are initialised in the order of the table.
                        let setting = table.next().unwrap_or(&SETTINGS[0]);
                        let value = sources.value(setting);
                        if setting.secret {
                            secrets.push(value.clone());
                        }
                        let parse: fn(&str) -> Option<$type> = $parse;
                        let parsed = parse(&value);
                        if parsed.is_none() {
                            errors.push(SettingError::BadValue {
                                name: setting.name,
                                value: shown(setting, value),
                                allowed: setting.allowed,
                            });
                        }
                        parsed
                    },)+
                };
                let key = (sources.environment)("AUTHORIZATION_KEY");
                let authorization_key_is_empty = key.is_some_and(|key| key.is_empty());
                match draft {
                    Draft { $($field: Some($field),)+ } => {
                        Ok(Self { $($field,)+ secrets, authorization_key_is_empty })
                    }
                    _ => Err(errors),
                }
            }
        }
    };
    (@alias $alias:literal) => { Some($alias) };
    (@alias) => { None };
    (@secret secret) => { true };
    (@secret) => { false };
}

settings! {
    /// The port of the HTTPS API. 0 takes a free one, which is printed at the start.
    port: u16 = "PORT", "17890", "a port, 0 to 65535", port;
    /// The address the API listens on. Use 0.0.0.0 or :: to be reached from other machines.
    bind: IpAddr = "ROUTEMASTER_BIND", "127.0.0.1", "an IP address", address;
    /// The Redis to keep everything in, for more than one machine. What has no colon is the name of
    /// another variable that has the URL. Not set: an SQLite file in the data directory.
    redis_url: Option<String> = "ROUTEMASTER_REDIS_URL", secret, "",
        "a URL that starts with redis://, rediss://, redis-sentinel:// or redis-cluster://, with the number \
         of a database as its path (redis://host/2) and no query but node and sentinel…, or the name of a \
         variable with such a URL",
        |text| optional(text, redis_url);
    /// Certificate authorities to trust beside the system's for rediss://, a PEM file.
    redis_ca_file: Option<PathBuf> = "ROUTEMASTER_REDIS_CA_FILE", "", "a file that can be read",
        |text| optional(text, readable_file);
    /// The certificate chain to show to a Redis that asks for one, a PEM file.
    redis_cert: Option<PathBuf> = "ROUTEMASTER_REDIS_CERT", "", "a file that can be read",
        |text| optional(text, readable_file);
    /// The private key of that certificate, a PEM file.
    redis_key: Option<PathBuf> = "ROUTEMASTER_REDIS_KEY", "", "a file that can be read",
        |text| optional(text, readable_file);
    /// How many replicas of Redis must have a change before it is answered with 204; with fewer of
    /// them, publishers get 503.
    redis_wait_replicas: u32 = "ROUTEMASTER_REDIS_WAIT_REPLICAS", "0", "0 to 100 replicas",
        |text| within(text, 0..=100).map(|replicas| replicas as u32);
    /// Into how many lanes the subscribers are divided when the store is first used; a Cluster
    /// keeps each lane on one node. Later it has no effect. Not set: 8 in a Cluster, else 1.
    redis_lanes: Option<usize> = "ROUTEMASTER_REDIS_LANES", "", "1 to 64 lanes",
        |text| optional(text, |text| within(text, 1..=Lane::MAX));
    /// Where the SQLite file and the development certificate are kept.
    data_dir: PathBuf = "ROUTEMASTER_DATA_DIR", "./data", "a directory", path;

    /// Tokens of the clients that may publish and subscribe, in addition to those made through
    /// /api_tokens. Set but empty: none.
    clients: Vec<ClientToken> = "ROUTEMASTER_CLIENTS", secret, "demo",
        "tokens of 1 to 64 of a-z, 0-9, colon, underscore and hyphen, separated by commas", tokens;
    /// The key that manages /api_tokens, reads monitoring and deletes any topic or subscriber.
    /// Not set: nobody does.
    root_key: Option<RootKey> = "ROUTEMASTER_ROOT_KEY", secret, "",
        "1 to 256 printable characters without a colon", |text| optional(text, RootKey::parse);
    /// The key that reads monitoring and metrics, and nothing else. Not set: clients and the root key do.
    monitor_key: Option<RootKey> = "ROUTEMASTER_MONITOR_KEY", secret, "",
        "1 to 256 printable characters without a colon", |text| optional(text, RootKey::parse);

    /// Where people reach the bus, for links in what it sends. Not set: https://localhost and the port.
    public_url: Option<Url> = "ROUTEMASTER_PUBLIC_URL", "", "an https:// URL with a host",
        |text| optional(text, https_url);

    /// Whether the bus can be looked at and mended in a browser, at `/console`. Who signs in sees what their token may see.
    console: bool = "ROUTEMASTER_CONSOLE", "on", "on or off", switch;

    /// `off` serves plain HTTP, for a proxy that ends TLS; set ROUTEMASTER_TRUST_PROXY as well.
    tls: bool = "ROUTEMASTER_TLS", "on", "on or off", switch;
    /// The certificate chain of the API, a PEM file. Not set: a development certificate for
    /// localhost is made in the data directory. A renewed file is taken up within seconds, or at
    /// once on SIGHUP.
    tls_cert: Option<PathBuf> = "ROUTEMASTER_TLS_CERT", "", "a file that can be read",
        |text| optional(text, readable_file);
    /// The private key of the certificate, a PEM file.
    tls_key: Option<PathBuf> = "ROUTEMASTER_TLS_KEY", "", "a file that can be read",
        |text| optional(text, readable_file);
    /// Whether a plain HTTP request with `X-Forwarded-Proto: https` counts as HTTPS. Only behind
    /// a proxy that sets this header itself.
    trust_proxy: bool = "ROUTEMASTER_TRUST_PROXY", "false", "true or false", switch;

    /// The longest topic name, in characters.
    topic_name_max: usize = "ROUTEMASTER_TOPIC_NAME_MAX", "64", "1 to 64 characters",
        |text| within(text, 1..=TopicName::MAX);
    /// How many topics one client may be the publisher of, or make by subscribing, and how many message topics and
    /// publishers it may make: they cannot be dropped when the store runs out of room.
    max_topics_per_client: u32 = "ROUTEMASTER_MAX_TOPICS_PER_CLIENT", "1000",
        "1 to 1000000 topics", |text| within(text, 1..=1_000_000).map(|topics| topics as u32);
    /// What an accepted publish is answered with: 204, as the original's README says, or 200, as its
    /// server did. Its Elixir client takes nothing but 200.
    publish_status: StatusCode = "ROUTEMASTER_PUBLISH_STATUS", "204", "204 or 200", publish_status;
    /// The largest `data` of an event, in bytes of JSON.
    max_event_data: usize = "ROUTEMASTER_MAX_EVENT_DATA", "8192", "0 to 1048576 bytes",
        |text| within(text, 0..=1_048_576);
    /// How deep arrays and objects of an event's `data` may be nested in each other. Ruby's parser reads no
    /// batch in which that is more than 98.
    max_event_depth: usize = "ROUTEMASTER_MAX_EVENT_DEPTH", "60", "0 to 96 levels",
        |text| within(text, 0..=DATA_DEPTH_MAX);
    /// How many publishes a second one client may make, on the average; an array counts as one. Each
    /// web process counts for itself. Not set: any number.
    publish_rate: Option<NonZeroU32> = "ROUTEMASTER_PUBLISH_RATE", "",
        "1 to 1000000 requests a second", |text| optional(text, amount);
    /// How many publishes one client may make at once, if ROUTEMASTER_PUBLISH_RATE is set. Not
    /// set: as many as in one second.
    publish_burst: Option<NonZeroU32> = "ROUTEMASTER_PUBLISH_BURST", "",
        "1 to 1000000 requests", |text| optional(text, amount);
    /// Whether subscribing to a topic that does not exist creates it, without a publisher.
    subscribe_creates_topics: bool = "ROUTEMASTER_SUBSCRIBE_CREATES_TOPICS", "false",
        "true or false", switch;

    /// The largest body of a request, in bytes.
    max_body: usize = "ROUTEMASTER_MAX_BODY", "1048576", "1024 to 67108864 bytes",
        |text| within(text, 1024..=67_108_864);
    /// How many connections are served at once; further ones are closed at once.
    max_connections: usize = "ROUTEMASTER_MAX_CONNECTIONS", "10000", "1 to 1000000",
        |text| within(text, 1..=1_000_000);
    /// How many of these one address may hold, or one network of 64 bits of IPv6. Not set: half of them, or
    /// all with ROUTEMASTER_TRUST_PROXY.
    max_connections_per_address: Option<usize> = "ROUTEMASTER_MAX_CONNECTIONS_PER_ADDRESS", "",
        "1 to 1000000", |text| optional(text, |text| within(text, 1..=1_000_000));
    /// Networks whose addresses may hold as many connections as there are, such as those of balancers.
    trusted_networks: Vec<IpNet> = "ROUTEMASTER_TRUSTED_NETWORKS", "",
        "networks such as 10.0.0.0/8, or addresses, separated by commas", networks;
    /// How long a new connection may take for its TLS handshake, and then for its first request.
    first_request_timeout: Duration = "ROUTEMASTER_FIRST_REQUEST_TIMEOUT", "10",
        "more than 0, up to 86400 seconds", some_seconds;
    /// How long a connection may stay without a request (of HTTP/2, up to twice as long), how long a request's
    /// header may take, and how long a client may read nothing of its answers.
    idle_timeout: Duration = "ROUTEMASTER_IDLE_TIMEOUT", "60", "more than 0, up to 86400 seconds", some_seconds;
    /// How long a request's body may take.
    body_timeout: Duration = "ROUTEMASTER_BODY_TIMEOUT", "30", "more than 0, up to 86400 seconds", some_seconds;
    /// How long a stop waits for requests and deliveries in flight.
    shutdown_timeout: Duration = "ROUTEMASTER_SHUTDOWN_TIMEOUT", "25", "0 to 86400 seconds",
        seconds;

    /// How many batches one worker delivers at once.
    max_deliveries: usize = "ROUTEMASTER_MAX_DELIVERIES", "1000", "1 to 100000",
        |text| within(text, 1..=100_000);
    /// How long a callback may take to accept a connection, TLS included.
    connect_timeout: Duration = "ROUTEMASTER_CONNECT_TIMEOUT", "2", "more than 0, up to 86400 seconds", some_seconds;
    /// How long a delivery may take in all.
    timeout: Duration = "ROUTEMASTER_TIMEOUT", "20", "more than 0, up to 86400 seconds", some_seconds;
    /// Which statuses of a callback acknowledge a batch: 200 and 204, as the original's README says, or
    /// `2xx`, any of them, as its server did. Anything else is a failure, and the batch is sent again.
    ack: Acknowledgement = "ROUTEMASTER_ACK", "200,204", "200,204 or 2xx", acknowledgement;
    /// Whether callbacks must have a valid certificate.
    ssl_verify: bool = "ROUTEMASTER_SSL_VERIFY", "yes", "yes or no", switch;
    /// Certificate authorities to trust for callbacks beside the system's, a PEM file.
    callback_ca_file: Option<PathBuf> = "ROUTEMASTER_CALLBACK_CA_FILE", "",
        "a file that can be read", |text| optional(text, readable_file);
    /// Hosts that callbacks may not be at, in addition to link-local addresses and those of cloud
    /// metadata; docs/callback-safety.md lists them.
    callback_deny: Vec<HostPattern> = "ROUTEMASTER_CALLBACK_DENY", "",
        "networks such as 10.0.0.0/8 (not 10.1.2.3/8), addresses, and host names such as a.example, \
         *.example or *, separated by commas", hosts;
    /// Hosts that callbacks may be at although they are denied.
    callback_allow: Vec<HostPattern> = "ROUTEMASTER_CALLBACK_ALLOW", "",
        "networks such as 10.0.0.0/8 (not 10.1.2.3/8), addresses, and host names such as a.example, \
         *.example or *, separated by commas", hosts;
    /// The HTTP proxy through which everything goes that the bus sends to receivers: what is encrypted in a
    /// tunnel (`CONNECT`), what is plain as it is. Rules for hosts hold; docs/callback-safety.md says what the
    /// proxy has to guard itself.
    outbound_proxy: Option<Proxy> = "ROUTEMASTER_OUTBOUND_PROXY", secret, "",
        "http://host:port, with or without user:password@", |text| optional(text, Proxy::parse);
    /// Health points that a delivered batch gives its subscriber, who has 0 to 100.
    hp_heal_rate: u8 = "ROUTEMASTER_HP_HEAL_RATE", "1", "0 to 100 points", points;
    /// Health points that a failed delivery takes. A minus in front, as the original has it, says
    /// nothing more.
    hp_damage_rate: u8 = "ROUTEMASTER_HP_DAMAGE_RATE", "2", "0 to 100 points",
        |text| points(text.strip_prefix('-').unwrap_or(text));
    /// The pause before a batch is sent again to a subscriber without health. Each point of
    /// health halves it; up to one half is added at random. Where a worker has few deliveries left
    /// that it may make, one that took long is left alone for longer, up to this.
    max_backoff: Duration = "ROUTEMASTER_MAX_BACKOFF_MS" or "MAX_BACKOFF_MS", "60000",
        "0 to 86400000 milliseconds", milliseconds;

    /// How much memory Redis may use. When less than ROUTEMASTER_REDIS_MIN_FREE of it is free, the
    /// oldest events of all queues are dropped (autodrop). Redis's own `maxmemory` counts if it is
    /// less.
    redis_max_mem: u64 = "ROUTEMASTER_REDIS_MAX_MEM", "100MB", BYTES, bytes;
    /// Autodrop begins when less memory than this is free in Redis, and ends when twice as much is.
    redis_min_free: u64 = "ROUTEMASTER_REDIS_MIN_FREE", "10MB", BYTES, bytes;
    /// How much the SQLite file may hold. When less than ROUTEMASTER_SQLITE_MIN_FREE of it is
    /// free, the oldest events of all queues are dropped (autodrop).
    sqlite_max_bytes: u64 = "ROUTEMASTER_SQLITE_MAX_BYTES", "10GB", BYTES, bytes;
    /// Autodrop begins when less than this is free in the SQLite file, and ends when twice as much
    /// is. Not set: a tenth of ROUTEMASTER_SQLITE_MAX_BYTES.
    sqlite_min_free: Option<u64> = "ROUTEMASTER_SQLITE_MIN_FREE", "", BYTES,
        |text| optional(text, bytes);

    /// Plain-HTTP listeners that take calls, postbacks and messages, and answer for the health, and nothing else.
    plain_bind: Vec<SocketAddr> = "ROUTEMASTER_PLAIN_BIND", "",
        "addresses with a port such as 127.0.0.1:8008, separated by commas", socket_addresses;
    /// Plain-HTTP listeners that send everybody to the HTTPS port.
    redirect_bind: Vec<SocketAddr> = "ROUTEMASTER_REDIRECT_BIND", "",
        "addresses with a port such as 0.0.0.0:80, separated by commas", socket_addresses;
    /// Interfaces that may be used without a token.
    open: Vec<Interface> = "ROUTEMASTER_OPEN", "",
        "calls, postbacks and messages, separated by commas", interfaces;
    /// The key with which calls may be made without a token, by the hash that `docs/calls.md` describes.
    calls_key: Option<CallsKey> = "ROUTEMASTER_CALLS_KEY", secret, "",
        "1 to 256 characters", |text| optional(text, CallsKey::parse);
    /// The same under the original's name: the time in a hash is not looked at then, unless
    /// ROUTEMASTER_CALLS_KEY_WINDOW is set. Set but empty: calls need no authorisation.
    authorization_key: Option<CallsKey> = "AUTHORIZATION_KEY", secret, "",
        "1 to 256 characters", |text| optional(text, CallsKey::parse);
    /// The header that such a hash comes in.
    calls_header: HeaderName = "ROUTEMASTER_CALLS_HEADER" or "AUTHORIZATION_HEADER", "X-Authorization",
        "the name of a header", |text| text.parse().ok();
    /// How far away the time in such a hash may be. Not set: 300, or any with AUTHORIZATION_KEY.
    calls_key_window: Option<KeyWindow> = "ROUTEMASTER_CALLS_KEY_WINDOW", "",
        "1 to 86400 seconds, or off", |text| optional(text, KeyWindow::parse);
    /// Whether `POST /` answers 200 without a word on what it was given, as the original does then.
    calls_fast: bool = "ROUTEMASTER_CALLS_FAST" or "FAST_PUBLISH", "false", "true or false", switch;
    /// The largest body of a request with calls, in bytes.
    max_call: usize = "ROUTEMASTER_MAX_CALL", "1048576", "1024 to 67108864 bytes",
        |text| within(text, 1024..=67_108_864);
    /// How much calls and postbacks may take that wait, are dead or were done of late. Those that were done make
    /// room first, then those that are dead; what waits is refused room rather than dropped. It comes on top of
    /// what events may take. Not set: 1GiB on SQLite, 64MiB on Redis.
    calls_max_bytes: Option<u64> = "ROUTEMASTER_CALLS_MAX_BYTES", "", BYTES,
        |text| optional(text, bytes);
    /// How many calls one worker makes at once.
    max_calls: usize = "ROUTEMASTER_MAX_CALLS", "1000", "1 to 100000",
        |text| within(text, 1..=100_000);
    /// How many calls all workers together make to one destination at once: one scheme, host and port.
    calls_per_destination: u32 = "ROUTEMASTER_CALLS_PER_DESTINATION", "16", "1 to 10000",
        |text| within(text, 1..=10_000).map(|calls| calls as u32);
    /// How long one attempt at a call may take, redirects included, if the call does not say.
    call_timeout: Duration = "ROUTEMASTER_CALL_TIMEOUT", "60", "0.1 to 3600 seconds",
        |text| seconds(text).filter(|time| (0.1..=3600.0).contains(&time.as_secs_f64()));
    /// The pause before a call is made again; it doubles with each attempt. Not set: 5000.
    call_retry: Option<Duration> = "ROUTEMASTER_CALL_RETRY_MS", "", "0 to 86400000 milliseconds",
        |text| optional(text, milliseconds);
    /// The longest such pause. With equal values, each pause is just as long. Not set: 300000.
    call_retry_max: Option<Duration> = "ROUTEMASTER_CALL_RETRY_MAX_MS", "", "0 to 86400000 milliseconds",
        |text| optional(text, milliseconds);
    /// The original's name for both, if neither is set.
    call_pause: Option<Duration> = "REQUEUE_FAILED_AFTER_MILLISECONDS", "", "0 to 86400000 milliseconds",
        |text| optional(text, milliseconds);
    /// How often a call is made that fails and does not say so itself. 0: without end.
    call_max_attempts: u32 = "ROUTEMASTER_CALL_MAX_ATTEMPTS", "0", "0 to 1000000 attempts",
        |text| within(text, 0..=1_000_000).map(|attempts| attempts as u32);
    /// For how long a call is made again that fails and does not say so itself. 0: without end.
    call_give_up_after: Duration = "ROUTEMASTER_CALL_GIVE_UP_AFTER_MS", "0", "0 to 31622400000 milliseconds",
        |text| within(text, 0..=31_622_400_000).map(|ms| Duration::from_millis(ms as u64));
    /// Whether calls and postbacks may go to http:// URLs.
    plain_targets: bool = "ROUTEMASTER_PLAIN_TARGETS", "yes", "yes or no", switch;
    /// How many postbacks may wait.
    postback_queue_max: u64 = "ROUTEMASTER_POSTBACK_QUEUE_MAX" or "MAX_QUEUE_SIZE", "100000",
        "1 to 1000000000 postbacks", |text| within(text, 1..=1_000_000_000).map(|count| count as u64);
    /// The largest body of a request with postbacks, in bytes.
    max_postbacks: usize = "ROUTEMASTER_MAX_POSTBACKS", "67108864", "1024 to 67108864 bytes",
        |text| within(text, 1024..=67_108_864);
    /// What stands in the place of a key that a postback has no value for.
    postback_default: String = "ROUTEMASTER_POSTBACK_DEFAULT", "", "any text", |text| Some(text.to_owned());
    /// How often a postback is made that fails. 0: without end.
    postback_attempts: u32 = "ROUTEMASTER_POSTBACK_ATTEMPTS", "5", "0 to 1000000 attempts",
        |text| within(text, 0..=1_000_000).map(|attempts| attempts as u32);
    /// How many requests all workers together have on their way to one message publisher.
    messages_per_publisher: u32 = "ROUTEMASTER_MESSAGES_PER_PUBLISHER", "16", "1 to 10000",
        |text| within(text, 1..=10_000).map(|count| count as u32);
    /// How many messages one request to /api/bulk_messages may have.
    max_bulk_messages: usize = "ROUTEMASTER_MAX_BULK_MESSAGES" or "MAX_BULK_MESSAGES", "3000",
        "1 to 100000 messages", |text| within(text, 1..=100_000);
    /// How much messages may take, those that wait and those that are kept as history. The oldest that wait for
    /// no publisher make room first; what waits is refused room rather than dropped. It comes on top of what
    /// events and calls may take. Not set: 1GiB on SQLite, 64MiB on Redis.
    messages_max_bytes: Option<u64> = "ROUTEMASTER_MESSAGES_MAX_BYTES", "", BYTES,
        |text| optional(text, bytes);
    /// How long messages are kept that wait for no publisher.
    messages_retention: Duration = "ROUTEMASTER_MESSAGES_RETENTION" or "CLEAN_MESSAGES_THRESHOLD", "7890000",
        "seconds, or a time such as 12h or 30d, up to 3650d", messages_retention;
    /// When older ones are removed: minute, hour, day of the month, month and day of the week, in UTC.
    messages_cleaning: Cleaning = "ROUTEMASTER_MESSAGES_CLEANING" or "CLEAN_MESSAGES_CRONTAB", "0 12 * * 0",
        "a crontab's five fields, such as 0 12 * * 0", Cleaning::parse;
    /// A topic of Google Pub/Sub that is told of each message that was forwarded. Not set: none.
    messages_historical_topic: Option<String> = "ROUTEMASTER_MESSAGES_HISTORICAL_TOPIC" or "PUBSUB_HISTORICAL_TOPIC_NAME", "",
        "the name of a Pub/Sub topic", |text| optional(text, pubsub_topic);
    /// What is told there, as the attribute `cluster_name`.
    cluster_name: String = "ROUTEMASTER_CLUSTER_NAME" or "CLUSTER_NAME", "", "any text", |text| Some(text.to_owned());
    /// The project on Google Cloud whose Pub/Sub topics messages go to. Not set: that of the service account, or
    /// of the machine.
    pubsub_project: Option<String> = "ROUTEMASTER_PUBSUB_PROJECT" or "GCLOUD_PUBSUB_PROJECT_ID", "",
        "the id of a project", |text| optional(text, |id| Some(id.to_owned()));
    /// A service account's key, as Google Cloud gives it out. Not set: the machine's own account.
    google_credentials: Option<PathBuf> = "ROUTEMASTER_GOOGLE_CREDENTIALS" or "GOOGLE_APPLICATION_CREDENTIALS", "",
        "a file that can be read", |text| optional(text, readable_file);
    /// Where Google Pub/Sub is.
    pubsub_endpoint: Url = "ROUTEMASTER_PUBSUB_ENDPOINT" or "PUBSUB_API_ENDPOINT", "https://pubsub.googleapis.com",
        "an http:// or https:// URL", endpoint;
    /// An emulator that is used in place of it: plain, without credentials.
    pubsub_emulator: Option<Url> = "ROUTEMASTER_PUBSUB_EMULATOR" or "PUBSUB_EMULATOR_HOST", "",
        "a host with its port, such as localhost:8085", |text| optional(text, emulator);

    /// A PostgreSQL that keeps journal and messages' history in place of the store: months of them need not stand in
    /// memory. Away or slow, it holds no delivery up. Tables are made in the schema `routemaster`.
    history_url: Option<String> = "ROUTEMASTER_HISTORY_URL", secret, "",
        "a URL such as postgres://user:password@host:5432/database", |text| optional(text, history_url);
    /// Which attempts at batches, calls, postbacks and messages stand in the journal.
    journal: JournalMode = "ROUTEMASTER_JOURNAL", "all", "all, failures or off", journal_mode;
    /// How long they stand there.
    journal_retention: Duration = "ROUTEMASTER_JOURNAL_RETENTION", "7d",
        "a time such as 12h or 30d, up to 3650d", time_span;
    /// How much they may take, beside events and calls. Not set: 1GiB on SQLite, 64MiB on Redis, without
    /// bound on PostgreSQL.
    journal_max_bytes: Option<u64> = "ROUTEMASTER_JOURNAL_MAX_BYTES", "", BYTES,
        |text| optional(text, bytes);
    /// How much of an answer stands in the journal.
    journal_body: usize = "ROUTEMASTER_JOURNAL_BODY", "1024", "0 to 65536 bytes",
        |text| within(text, 0..=65_536);
    /// How much room events may take that are dead letters; the oldest go first. It does not count as room of the
    /// events that wait [default: 1 GiB on SQLite, 64 MiB on Redis].
    dead_events_max_bytes: Option<u64> = "ROUTEMASTER_DEAD_EVENTS_MAX_BYTES", "", BYTES,
        |text| optional(text, bytes);
    /// How much room topics may be given together to keep events in, as PUT /topics/:name/keep says. It does not
    /// count as room of the events that wait [default: 1 GiB on SQLite, 64 MiB on Redis].
    keep_max_bytes: Option<u64> = "ROUTEMASTER_KEEP_MAX_BYTES", "", BYTES,
        |text| optional(text, bytes);
    /// How long what was given up is kept.
    dead_letter_retention: Duration = "ROUTEMASTER_DEAD_LETTER_RETENTION", "30d",
        "a time such as 12h or 30d, up to 3650d", time_span;

    /// With so many due batches, calls and messages, or more, GET /pulse/scaling takes its time to answer.
    scaling_threshold: usize = "ROUTEMASTER_SCALING_THRESHOLD", "100", "0 to 1000000000 batches",
        |text| within(text, 0..=1_000_000_000);
    /// How soon one must be due to count for GET /pulse/scaling.
    scaling_deadline: Duration = "ROUTEMASTER_SCALING_DEADLINE", "1000",
        "0 to 86400000 milliseconds", milliseconds;

    /// Where metrics go: `print` to the log (on a terminal from the level debug on), `datadog` to
    /// its agent or its API, `statsd` to a server that knows no tags (they become part of the name),
    /// `prometheus` to who asks GET /metrics, `none` nowhere.
    metrics: MetricService = "METRIC_COLLECTION_SERVICE", "print",
        "print, datadog, statsd, prometheus or none", metric_service;
    /// The port where a `worker` answers GET /metrics, on ROUTEMASTER_BIND, with the API's
    /// certificate and authentication; for `prometheus` only. 0 takes a free one. Not set: it does
    /// not. `web` and `serve` answer on PORT.
    metrics_port: Option<u16> = "ROUTEMASTER_METRICS_PORT", "", "a port, 0 to 65535",
        |text| optional(text, port);
    /// The host of the Datadog agent that takes DogStatsD over UDP, or of the StatsD server.
    dd_agent_host: String = "DD_AGENT_HOST" or "STATSD_HOST", "127.0.0.1", "a host name or an address",
        host;
    /// The UDP port of the Datadog agent, or of the StatsD server.
    dd_dogstatsd_port: u16 = "DD_DOGSTATSD_PORT" or "STATSD_PORT", "8125", "a port, 1 to 65535",
        |text| port(text).filter(|port| *port > 0);
    /// The key of Datadog's HTTP API, which is then used instead of an agent.
    datadog_api_key: Option<String> = "DATADOG_API_KEY", secret, "", VISIBLE,
        |text| optional(text, visible);
    /// Where Datadog's HTTP API is.
    datadog_host: Url = "DATADOG_HOST", "https://api.datadoghq.com",
        "an https:// URL without user and path", https_host;

    /// What is logged.
    log_level: LevelFilter = "ROUTEMASTER_LOG_LEVEL", "info",
        "off, error, warn, info, debug or trace", log_level;
    /// A file that the log is appended to, as JSON, in place of standard error. SIGHUP opens it anew,
    /// for programs that rotate it.
    log_file: Option<PathBuf> = "ROUTEMASTER_LOG_FILE", "", "a file in a directory that is there",
        |text| optional(text, file_to_append_to);
    /// Where errors are reported to beside the log. `print`: nowhere, the log line is the report.
    exception_service: ExceptionService = "EXCEPTION_SERVICE", "print",
        "print, sentry, honeybadger or new_relic", exception_service;
    /// The place of that service. For sentry the project's DSN; for honeybadger the API, if it is
    /// not `https://api.honeybadger.io`; for new_relic the account's Event API,
    /// `https://insights-collector.newrelic.com/v1/accounts/ACCOUNT/events`.
    exception_service_url: Option<Url> = "EXCEPTION_SERVICE_URL", secret, "",
        "a URL that starts with https://", |text| optional(text, https_url);
    /// The key of the project, for honeybadger. Not set: the user of EXCEPTION_SERVICE_URL.
    honeybadger_api_key: Option<String> = "HONEYBADGER_API_KEY", secret, "",
        VISIBLE, |text| optional(text, visible);
    /// The key of the account, for new_relic. Not set: the user of EXCEPTION_SERVICE_URL.
    new_relic_license_key: Option<String> = "NEW_RELIC_LICENSE_KEY", secret, "",
        VISIBLE, |text| optional(text, visible);
}

impl Settings {
    /// Reads all settings.
    ///
    /// # Errors
    /// The first one that is not allowed, or that contradicts another one.
    pub fn load(sources: &Sources<'_>) -> Result<Self, SettingError> {
        let first = |errors: Vec<SettingError>| errors.into_iter().next();
        match Self::read(sources) {
            Ok(settings) => first(settings.conflicts()).map_or(Ok(settings), Err),
            Err(errors) => {
                let none = || SettingError::Conflict("the settings cannot be read".into());
                Err(first(errors).unwrap_or_else(none))
            }
        }
    }

    /// What is good by itself but not together.
    pub(super) fn conflicts(&self) -> Vec<SettingError> {
        let mut conflicts = Vec::new();
        let mut conflict = |reason: &str| conflicts.push(SettingError::Conflict(reason.into()));
        if self.tls_cert.is_some() != self.tls_key.is_some() {
            conflict("ROUTEMASTER_TLS_CERT and ROUTEMASTER_TLS_KEY must be set together");
        }
        if self.redis_cert.is_some() != self.redis_key.is_some() {
            conflict("ROUTEMASTER_REDIS_CERT and ROUTEMASTER_REDIS_KEY must be set together");
        }
        if self.publish_burst.is_some() && self.publish_rate.is_none() {
            conflict("ROUTEMASTER_PUBLISH_BURST needs ROUTEMASTER_PUBLISH_RATE");
        }
        let Budget { max, min_free } = self.budget();
        if self.budget().low_mark() == 0 {
            let (store, limit) = match self.redis_url {
                Some(_) => ("REDIS", "MAX_MEM"),
                None => ("SQLITE", "MAX_BYTES"),
            };
            conflict(&format!(
                "ROUTEMASTER_{store}_MIN_FREE ({min_free} bytes) must be less than half of \
                 ROUTEMASTER_{store}_{limit} ({max} bytes)"
            ));
        }
        if self.call_retry.zip(self.call_retry_max).is_some_and(|(first, max)| first > max) {
            conflict(
                "ROUTEMASTER_CALL_RETRY_MS must not be more than ROUTEMASTER_CALL_RETRY_MAX_MS",
            );
        }
        for reserved in PSEUDO_CLIENTS {
            if self.clients.iter().any(|client| client.reveal() == reserved) {
                conflict(&format!(
                    "ROUTEMASTER_CLIENTS must not have {reserved}: calls that come without a token are its"
                ));
            }
        }
        let root = self.root_key.as_ref().map(RootKey::reveal);
        if self.clients.iter().any(|client| Some(client.reveal()) == root) {
            conflict("ROUTEMASTER_ROOT_KEY must not be one of ROUTEMASTER_CLIENTS");
        }
        let monitor = self.monitor_key.as_ref().map(RootKey::reveal);
        if self.clients.iter().any(|client| Some(client.reveal()) == monitor) {
            conflict("ROUTEMASTER_MONITOR_KEY must not be one of ROUTEMASTER_CLIENTS");
        }
        if monitor.is_some() && monitor == root {
            conflict("ROUTEMASTER_MONITOR_KEY must not be the ROUTEMASTER_ROOT_KEY");
        }
        conflicts
    }

    /// How to reach and use Redis, if everything is kept there.
    pub fn redis(&self) -> Option<RedisOptions> {
        Some(RedisOptions { url: self.redis_url.clone()?, ..self.redis_options() })
    }

    /// What is set about Redis, whichever it is.
    pub fn redis_options(&self) -> RedisOptions {
        let files = self.redis_cert.clone().zip(self.redis_key.clone());
        RedisOptions {
            url: String::new(),
            ca_file: self.redis_ca_file.clone(),
            identity: files.map(|(certificate, key)| CertificateFiles { certificate, key }),
            wait_replicas: self.redis_wait_replicas,
            lanes: self.redis_lanes,
            max_topics: Some(self.max_topics_per_client),
            look_only: false,
        }
    }

    /// How much room the store may take.
    pub fn budget(&self) -> Budget {
        if self.redis_url.is_some() {
            return Budget { max: self.redis_max_mem, min_free: self.redis_min_free };
        }
        let max = self.sqlite_max_bytes;
        Budget { max, min_free: self.sqlite_min_free.unwrap_or(max / 10) }
    }

    /// How much room calls may take, in bytes.
    pub fn calls_room(&self) -> u64 {
        self.calls_max_bytes.unwrap_or(self.room_beside_events())
    }

    /// How much room messages may take, in bytes.
    pub fn messages_room(&self) -> u64 {
        self.messages_max_bytes.unwrap_or(self.room_beside_events())
    }

    /// Where people reach the bus.
    pub fn public_url(&self) -> Url {
        let local = || Url::parse(&format!("https://localhost:{}/", self.port)).ok();
        let fallback =
            || Url::parse("https://localhost/").unwrap_or_else(|_| unreachable!("it is a URL"));
        self.public_url.clone().or_else(local).unwrap_or_else(fallback)
    }

    /// How much room topics may have to keep events in.
    pub fn kept_room(&self) -> u64 {
        self.keep_max_bytes.unwrap_or(self.room_beside_events())
    }

    /// How many dead letters are kept.
    pub fn dead_bounds(&self) -> DeadBounds {
        DeadBounds {
            retention: self.dead_letter_retention,
            max_bytes: self.dead_events_max_bytes.unwrap_or(self.room_beside_events()),
        }
    }

    /// How much the journal keeps.
    pub fn journal_bounds(&self) -> JournalBounds {
        let max_bytes = self.journal_max_bytes.unwrap_or(match self.history_url {
            Some(_) => u64::MAX,
            None => self.room_beside_events(),
        });
        JournalBounds { retention: self.journal_retention, max_bytes }
    }

    /// Of a disk there is more than of memory.
    fn room_beside_events(&self) -> u64 {
        if self.redis_url.is_some() { 64 << 20 } else { 1 << 30 }
    }

    /// Where the bus may send to.
    pub fn egress_rules(&self) -> EgressRules {
        EgressRules::new(&self.callback_deny, &self.callback_allow)
    }

    /// The certificate that is set for the API, if one is.
    pub fn certificate_files(&self) -> Option<CertificateFiles> {
        let files = self.tls_cert.clone().zip(self.tls_key.clone());
        files.map(|(certificate, key)| CertificateFiles { certificate, key })
    }

    /// Whether the bus shows the development certificate that it made for itself.
    pub fn uses_development_certificate(&self) -> bool {
        self.tls && self.tls_cert.is_none()
    }
}
