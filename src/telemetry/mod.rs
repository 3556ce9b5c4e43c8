//! What the bus tells its operator: logs and exception reports. Metrics have their place here.

pub mod exceptions;
pub mod logging;

use tracing_subscriber::Layer;

use crate::config::Settings;
use crate::roles::Role;
use exceptions::{ExceptionLayer, Reporter, Service, panics};

/// Starts logs and, if the settings name a service for them, exception reports.
///
/// # Errors
/// If the service for exceptions needs a setting that is missing, or cannot be reported to.
pub fn start(role: Role, settings: &Settings) -> anyhow::Result<Option<Reporter>> {
    let service = Service::new(settings)?;
    let (reports, waiting) = exceptions::queue();
    let layer = ExceptionLayer::new(reports).with_filter(ExceptionLayer::filter());
    logging::start(settings.log_level, service.is_some().then(|| layer.boxed()));
    panics::log_all();
    service.map(|service| Reporter::start(service, role, settings, waiting)).transpose()
}
