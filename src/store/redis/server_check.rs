//! Looks, at the start, whether the Redis server is set to keep what it is given.

use anyhow::bail;

use crate::store::{StoreError, StoreResult};

/// The oldest version whose scripts can say that they free memory (`allow-oom`).
const VERSION_MIN: u32 = 7;

/// Judges the answer to `INFO`. A server that cannot be asked yet is taken on trust: the bus
/// starts, answers 503 until it is there, and reports then what is wrong with it.
///
/// # Errors
/// What is wrong, and how to set it.
pub fn check(info: StoreResult<String>) -> anyhow::Result<()> {
    let info = match info {
        Ok(info) => info,
        Err(StoreError::Unavailable(reason) | StoreError::Corrupt(reason)) => {
            tracing::warn!(reason, "the store cannot be asked yet; starting without it");
            return Ok(());
        }
    };
    let field = |name: &str| field(&info, name);
    let version = field("redis_version").unwrap_or("unknown");
    let major = version.split('.').next().and_then(|major| major.parse::<u32>().ok());
    if major.is_some_and(|major| major < VERSION_MIN) {
        bail!("this is Redis {version}, and the bus needs {VERSION_MIN}.0 or later");
    }
    match field("maxmemory_policy") {
        None | Some("noeviction") => {}
        Some(policy) => bail!(
            "Redis is set to throw data away when its memory is full (maxmemory-policy \
             {policy}): set it to noeviction, or events that were accepted get lost"
        ),
    }
    if field("aof_enabled") == Some("0") {
        tracing::warn!(
            "Redis keeps no append-only file: when it is killed, it loses what it was given \
             since its last snapshot; set appendonly to yes"
        );
    }
    Ok(())
}

/// What the server's clock showed, in milliseconds since the epoch.
pub fn time_ms(info: &str) -> Option<u64> {
    field(info, "server_time_usec")?.parse::<u64>().ok().map(|us| us / 1000)
}

fn field<'a>(info: &'a str, name: &str) -> Option<&'a str> {
    let mut lines = info.lines().filter_map(|line| line.trim().split_once(':'));
    lines.find(|(field, _)| *field == name).map(|(_, value)| value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_old_or_an_evicting_server_is_refused_and_an_absent_one_is_not() {
        let check = |text: &str| check(Ok(text.replace(' ', "\r\n")));
        let reason = |text: &str| check(text).unwrap_err().to_string();
        check("redis_version:7.0.15 maxmemory_policy:noeviction aof_enabled:1").unwrap();
        check("redis_version:8.1.0 maxmemory_policy:noeviction aof_enabled:0").unwrap();
        assert!(reason("redis_version:6.2.1 maxmemory_policy:noeviction").contains("6.2.1"));
        let evicting = reason("redis_version:7.0.0 maxmemory_policy:allkeys-lru");
        assert!(evicting.contains("allkeys-lru") && evicting.contains("noeviction"));
        assert_eq!(time_ms("x:1\r\nserver_time_usec:1700000000123456\r\n"), Some(1700000000123));
        super::check(Err(StoreError::Unavailable("away".into()))).unwrap();
    }
}
