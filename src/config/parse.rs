//! Reads the values of settings. `None` means: not allowed.

use std::net::IpAddr;
use std::num::NonZeroU32;
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::time::Duration;

use tracing_subscriber::filter::LevelFilter;
use url::Url;

use crate::bus::token::ClientToken;
use crate::telemetry::exceptions::ExceptionService;

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

pub fn milliseconds(text: &str) -> Option<Duration> {
    within(text, 0..=86_400_000).map(|ms| Duration::from_millis(ms as u64))
}

pub fn within(text: &str, allowed: RangeInclusive<usize>) -> Option<usize> {
    text.parse().ok().filter(|number| allowed.contains(number))
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

/// `Some(None)` if there is no value, which is allowed.
pub fn optional<T>(text: &str, parse: impl Fn(&str) -> Option<T>) -> Option<Option<T>> {
    if text.is_empty() { Some(None) } else { parse(text).map(Some) }
}

pub fn redis_url(text: &str) -> Option<String> {
    const SCHEMES: [&str; 6] =
        ["redis", "rediss", "redis-sentinel", "rediss-sentinel", "redis-cluster", "rediss-cluster"];
    let url = Url::parse(text).ok()?;
    (SCHEMES.contains(&url.scheme()) && url.has_host()).then(|| text.to_owned())
}

pub fn https_url(text: &str) -> Option<Url> {
    Url::parse(text).ok().filter(|url| url.scheme() == "https")
}

/// The key of somebody's API: it goes into a header.
pub fn api_key(text: &str) -> Option<String> {
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

pub fn token(text: &str) -> Option<ClientToken> {
    ClientToken::parse(text).ok()
}

/// Tokens between commas; white space around one and empty places do not count.
pub fn tokens(text: &str) -> Option<Vec<ClientToken>> {
    text.split(',').map(str::trim).filter(|token| !token.is_empty()).map(token).collect()
}

pub fn log_level(text: &str) -> Option<LevelFilter> {
    match text.to_ascii_lowercase().as_str() {
        "error" | "warn" | "info" | "debug" | "trace" | "off" => text.parse().ok(),
        _ => None,
    }
}
