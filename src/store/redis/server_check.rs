//! Reads the server's account of itself (`INFO`): whether it is set to keep what it is given, and
//! how much room it takes up.

use std::time::Duration;

use anyhow::bail;

use crate::store::{StoreError, StoreResult, Usage};

/// The oldest version whose scripts can say that they free memory (`allow-oom`).
const VERSION_MIN: u32 = 7;

/// Judges the answer to `INFO`. Returns what is dangerous and allowed all the same.
///
/// # Errors
/// Why the bus must not use this server, and how to set it.
pub fn check(info: &str) -> anyhow::Result<Vec<&'static str>> {
    let field = |name: &str| field(info, name);
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
    let mut warnings = Vec::new();
    if field("aof_enabled") == Some("0") {
        warnings.push(
            "Redis keeps no append-only file: when it is killed, it loses what it was given \
             since its last snapshot; set appendonly to yes",
        );
    }
    Ok(warnings)
}

/// What the server's clock showed, in milliseconds since the epoch.
pub fn time_ms(info: &str) -> Option<u64> {
    field(info, "server_time_usec")?.parse::<u64>().ok().map(|us| us / 1000)
}

/// Names the server, for as long as it runs.
pub fn run_id(info: &str) -> StoreResult<&str> {
    field(info, "run_id").ok_or_else(|| StoreError::Corrupt("Redis: INFO without run_id".into()))
}

/// The memory that counts against `maxmemory`, and the processor time.
pub fn usage(info: &str) -> StoreResult<Usage> {
    let bytes = |name: &str| field(info, name).and_then(|value| value.parse::<u64>().ok());
    let missing = || StoreError::Corrupt("Redis: INFO without used_memory".into());
    let used = bytes("used_memory").ok_or_else(missing)?;
    let cpu = |name: &str| {
        let seconds = field(info, name)?.parse().ok()?;
        Duration::try_from_secs_f64(seconds).ok()
    };
    Ok(Usage {
        used: used.saturating_sub(bytes("mem_not_counted_for_evict").unwrap_or(0)),
        limit: bytes("maxmemory").filter(|limit| *limit > 0),
        cpu: cpu("used_cpu_user").zip(cpu("used_cpu_sys")),
    })
}

fn field<'a>(info: &'a str, name: &str) -> Option<&'a str> {
    let mut lines = info.lines().filter_map(|line| line.trim().split_once(':'));
    lines.find(|(field, _)| *field == name).map(|(_, value)| value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_old_or_an_evicting_server_is_refused_and_one_without_a_file_is_warned_of() {
        let check = |text: &str| check(&text.replace(' ', "\r\n"));
        let reason = |text: &str| check(text).unwrap_err().to_string();
        let good = check("redis_version:7.0.15 maxmemory_policy:noeviction aof_enabled:1");
        assert!(good.unwrap().is_empty());
        let forgetful = check("redis_version:8.1.0 maxmemory_policy:noeviction aof_enabled:0");
        assert!(forgetful.unwrap()[0].contains("appendonly"));
        assert!(reason("redis_version:6.2.1 maxmemory_policy:noeviction").contains("6.2.1"));
        let evicting = reason("redis_version:7.0.0 maxmemory_policy:allkeys-lru");
        assert!(evicting.contains("allkeys-lru") && evicting.contains("noeviction"));
        assert_eq!(time_ms("x:1\r\nserver_time_usec:1700000000123456\r\n"), Some(1700000000123));
    }

    #[test]
    fn what_counts_against_maxmemory_is_what_is_used() {
        let info = "used_memory:1000\r\nmaxmemory:5000\r\nmem_not_counted_for_evict:10\r\n\
                    used_cpu_sys:0.5\r\nused_cpu_user:1.25\r\n";
        let cpu = Some((Duration::from_millis(1250), Duration::from_millis(500)));
        assert_eq!(usage(info).unwrap(), Usage { used: 990, limit: Some(5000), cpu });
        let unlimited = usage("used_memory:7\r\nmaxmemory:0\r\n").unwrap();
        assert_eq!(unlimited, Usage { used: 7, limit: None, cpu: None });
        assert!(usage("").is_err());
    }
}
