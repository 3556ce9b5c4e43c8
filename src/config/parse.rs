//! Reads the values of settings. `None` means: not allowed.

use std::net::{IpAddr, SocketAddr};
use std::num::NonZeroU32;
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::time::Duration;

use axum::http::StatusCode;
use ipnet::IpNet;
use tracing_subscriber::filter::LevelFilter;
use url::Url;

use super::{ExceptionService, Interface, MetricService};
use crate::bus::attempt::Acknowledgement;
use crate::bus::token::ClientToken;
use crate::egress::host_pattern::{self, HostPattern};
use crate::journal::JournalMode;

pub fn port(text: &str) -> Option<u16> {
    text.parse().ok()
}

pub fn address(text: &str) -> Option<IpAddr> {
    text.parse().ok()
}

pub fn switch(text: &str) -> Option<bool> {
    match text.to_ascii_lowercase().as_str() {
        "true" | "yes" | "on" | "1" => Some(true),
        "false" | "no" | "off" | "0" => Some(false),
        _ => None,
    }
}

/// Seconds above 0, for what must have some time to succeed.
pub fn some_seconds(text: &str) -> Option<Duration> {
    seconds(text).filter(|time| !time.is_zero())
}

/// Seconds, with or without decimals, up to a day.
pub fn seconds(text: &str) -> Option<Duration> {
    let seconds: f64 = text.parse().ok()?;
    (0.0..=86_400.0).contains(&seconds).then(|| Duration::from_secs_f64(seconds))
}

/// A whole number with a unit: `90s`, `30m`, `12h` or `7d`, up to ten years.
pub fn time_span(text: &str) -> Option<Duration> {
    let number = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let seconds = match &text[number.len()..] {
        "s" => 1,
        "m" => 60,
        "h" => 3600,
        "d" => 86_400,
        _ => return None,
    };
    let seconds = number.parse::<u64>().ok()?.checked_mul(seconds)?;
    (seconds <= 3650 * 86_400).then(|| Duration::from_secs(seconds))
}

pub fn milliseconds(text: &str) -> Option<Duration> {
    within(text, 0..=86_400_000).map(|ms| Duration::from_millis(ms as u64))
}

pub fn within(text: &str, allowed: RangeInclusive<usize>) -> Option<usize> {
    text.parse().ok().filter(|number| allowed.contains(number))
}

/// Bytes, with or without a unit: `65536`, `100MB`, `1.5GiB`.
pub fn bytes(text: &str) -> Option<u64> {
    const UNITS: [(&str, u64); 7] = [
        ("", 1),
        ("KB", 1_000),
        ("MB", 1_000_000),
        ("GB", 1_000_000_000),
        ("KIB", 1 << 10),
        ("MIB", 1 << 20),
        ("GIB", 1 << 30),
    ];
    let unit_at = text.find(|c: char| c.is_ascii_alphabetic()).unwrap_or(text.len());
    let (number, unit) = text.split_at(unit_at);
    let unit = unit.to_ascii_uppercase();
    let (_, factor) = UNITS.iter().find(|(name, _)| *name == unit)?;
    let number: f64 = number.trim_end().parse().ok()?;
    let bytes = number * *factor as f64;
    (0.0..=BYTES_MAX).contains(&bytes).then_some(bytes as u64)
}

/// Any number of bytes up to here is exact.
const BYTES_MAX: f64 = (1u64 << 53) as f64;

pub fn metric_service(text: &str) -> Option<MetricService> {
    match text.to_ascii_lowercase().as_str() {
        "print" => Some(MetricService::Print),
        "datadog" => Some(MetricService::Datadog),
        "statsd" => Some(MetricService::Statsd),
        "prometheus" => Some(MetricService::Prometheus),
        "none" => Some(MetricService::None),
        _ => None,
    }
}

pub fn amount(text: &str) -> Option<NonZeroU32> {
    within(text, 1..=1_000_000).and_then(|amount| NonZeroU32::new(amount as u32))
}

pub fn points(text: &str) -> Option<u8> {
    within(text, 0..=100).map(|points| points as u8)
}

/// A path of Unicode: what was not came with the replacement character.
pub fn path(text: &str) -> Option<PathBuf> {
    (!text.contains(char::REPLACEMENT_CHARACTER)).then(|| text.into())
}

pub fn readable_file(text: &str) -> Option<PathBuf> {
    std::fs::read(text).is_ok().then(|| text.into())
}

/// Addresses with their ports, separated by commas.
pub fn socket_addresses(text: &str) -> Option<Vec<SocketAddr>> {
    list(text, |text| text.parse().ok())
}

pub fn interfaces(text: &str) -> Option<Vec<Interface>> {
    list(text, |text| Interface::ALL.into_iter().find(|interface| interface.name() == text))
}

/// Networks in their common notation, separated by commas; an address is one of its own.
pub fn networks(text: &str) -> Option<Vec<IpNet>> {
    let entries = text.split(',').map(str::trim).filter(|entry| !entry.is_empty());
    entries.map(host_pattern::network).collect()
}

/// `Some(None)` if there is no value, which is allowed.
pub fn optional<T>(text: &str, parse: impl Fn(&str) -> Option<T>) -> Option<Option<T>> {
    if text.is_empty() { Some(None) } else { parse(text).map(Some) }
}

pub fn redis_url(text: &str) -> Option<String> {
    const SCHEMES: [&str; 6] =
        ["redis", "rediss", "redis-sentinel", "rediss-sentinel", "redis-cluster", "rediss-cluster"];
    // All that the driver knows; it would pass over others without a word, such as `db=2` for `/2`.
    const QUERIES: [&str; 4] =
        ["node", "sentinelServiceName", "sentinelUsername", "sentinelPassword"];
    let url = Url::parse(text).ok()?;
    let is_known = SCHEMES.contains(&url.scheme())
        && url.query_pairs().all(|(name, _)| QUERIES.contains(&&*name));
    (is_known && url.has_host()).then(|| text.to_owned())
}

pub fn https_url(text: &str) -> Option<Url> {
    Url::parse(text).ok().filter(|url| url.scheme() == "https")
}

/// An HTTPS URL that names a host and maybe a port, and nothing else.
pub fn https_host(text: &str) -> Option<Url> {
    let url = https_url(text)?;
    let plain = url.username().is_empty() && url.password().is_none() && url.path() == "/";
    (plain && url.query().is_none() && url.fragment().is_none()).then_some(url)
}

/// A host as the system looks it up: of an address of IPv6 without brackets.
pub fn host(text: &str) -> Option<String> {
    let text = text.strip_prefix('[').and_then(|text| text.strip_suffix(']')).unwrap_or(text);
    visible(text)
}

/// The key of somebody's API: it goes into a header.
pub fn visible(text: &str) -> Option<String> {
    let visible = text.bytes().all(|byte| byte.is_ascii_graphic());
    (visible && (1..=256).contains(&text.len())).then(|| text.to_owned())
}

pub fn exception_service(text: &str) -> Option<ExceptionService> {
    match text.to_ascii_lowercase().as_str() {
        "print" => Some(ExceptionService::Print),
        "sentry" => Some(ExceptionService::Sentry),
        "honeybadger" => Some(ExceptionService::Honeybadger),
        "new_relic" => Some(ExceptionService::NewRelic),
        _ => None,
    }
}

pub fn tokens(text: &str) -> Option<Vec<ClientToken>> {
    list(text, |text| ClientToken::parse(text).ok())
}

pub fn hosts(text: &str) -> Option<Vec<HostPattern>> {
    list(text, HostPattern::parse)
}

/// Values between commas; white space around one and empty places do not count.
fn list<T>(text: &str, parse: impl Fn(&str) -> Option<T>) -> Option<Vec<T>> {
    text.split(',').map(str::trim).filter(|value| !value.is_empty()).map(parse).collect()
}

/// A file that is there, or can be made.
pub fn file_to_append_to(text: &str) -> Option<PathBuf> {
    let path = path(text)?;
    let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty());
    let has_place = directory.is_none_or(|directory| directory.is_dir());
    (has_place && !path.is_dir()).then_some(path)
}

pub fn publish_status(text: &str) -> Option<StatusCode> {
    match text {
        "204" => Some(StatusCode::NO_CONTENT),
        "200" => Some(StatusCode::OK),
        _ => None,
    }
}

pub fn acknowledgement(text: &str) -> Option<Acknowledgement> {
    match text.to_ascii_lowercase().as_str() {
        "200,204" => Some(Acknowledgement::OkOrNoContent),
        "2xx" => Some(Acknowledgement::AnySuccess),
        _ => None,
    }
}

pub fn journal_mode(text: &str) -> Option<JournalMode> {
    match text.to_ascii_lowercase().as_str() {
        "all" => Some(JournalMode::All),
        "failures" => Some(JournalMode::Failures),
        "off" => Some(JournalMode::Off),
        _ => None,
    }
}

pub fn log_level(text: &str) -> Option<LevelFilter> {
    match text.to_ascii_lowercase().as_str() {
        "error" | "warn" | "info" | "debug" | "trace" | "off" => text.parse().ok(),
        _ => None,
    }
}
