//! Picks exceptions up where they are logged, beside the log: also when the log shows none.

use tracing::{Event, Subscriber};
use tracing_subscriber::Layer;
use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::layer::Context;

use super::exception::Exception;
use super::reporter::Reports;

/// Hands every error that is logged to the reporter.
pub struct ExceptionLayer {
    reports: Reports,
}

impl ExceptionLayer {
    pub fn new(reports: Reports) -> Self {
        Self { reports }
    }

    /// What is an exception: an error of our own. What libraries log is for the log only.
    pub fn filter() -> Targets {
        Targets::new().with_target("routemaster", LevelFilter::ERROR)
    }
}

impl<S: Subscriber> Layer<S> for ExceptionLayer {
    fn on_event(&self, event: &Event<'_>, _context: Context<'_, S>) {
        self.reports.take(Exception::of(event));
    }
}
