//! What the bus tells its operator: logs, metrics, exceptions.

pub mod exceptions;
mod log_sink;
pub mod logging;
pub mod metrics;
pub mod profile;
pub mod sparing;
pub mod tallies;
mod throughput;

use tracing_subscriber::Layer;

use crate::config::Role;
use crate::config::Settings;
use exceptions::{ExceptionLayer, Reporter, Service, panics};

/// Starts logs and, if the settings name a service for them, exception reports.
///
/// # Errors
/// If the service for exceptions needs a setting that is missing, or cannot be reported to; if the
/// log's file cannot be opened.
pub fn start(role: Role, settings: &Settings) -> anyhow::Result<Option<Reporter>> {
    let service = Service::new(settings)?;
    let (reports, waiting) = exceptions::queue();
    let layer = ExceptionLayer::new(reports).with_filter(ExceptionLayer::filter());
    let listener = service.is_some().then(|| layer.boxed());
    logging::start(settings.log_level, settings.log_file.as_deref(), listener)?;
    panics::log_all();
    service.map(|service| Reporter::start(service, role, settings, waiting)).transpose()
}

/// The machine's name: from Linux itself, elsewhere from the shell that started the process.
pub fn host_name() -> String {
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname").ok();
    let name = name.or_else(|| std::env::var("HOSTNAME").ok()).unwrap_or_default();
    if name.trim().is_empty() { "unknown".into() } else { name.trim().to_owned() }
}
