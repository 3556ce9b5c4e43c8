//! What the bus tells its operator: logs, metrics, exceptions.

pub mod logging;
pub mod metrics;

/// The machine's name, for services that tell machines apart by it.
fn host_name() -> String {
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname").ok();
    let name = name.or_else(|| std::env::var("HOSTNAME").ok()).unwrap_or_default();
    name.trim().to_owned()
}
