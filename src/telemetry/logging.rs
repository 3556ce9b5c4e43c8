//! Logs, on standard error: lines for people on a terminal, JSON for machines otherwise.

use std::io::IsTerminal;

use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{Layer, Registry};

/// What listens to the same events beside the log, with a filter of its own.
pub type Listener = Box<dyn Layer<Registry> + Send + Sync>;

/// Starts logging. Libraries are heard from warnings on, unless everything is asked for.
pub fn start(level: LevelFilter, listener: Option<Listener>) {
    let libraries = match level {
        LevelFilter::TRACE => LevelFilter::DEBUG,
        level => level.min(LevelFilter::WARN),
    };
    let filter = Targets::new().with_target("routemaster", level).with_default(libraries);
    let lines = tracing_subscriber::fmt::layer()
        .with_writer(std::io::stderr)
        .with_target(false)
        // It would be said on standard error, and panic if that is what fails.
        .log_internal_errors(false);
    let lines = if std::io::stderr().is_terminal() {
        lines.boxed()
    } else {
        lines.json().flatten_event(true).boxed()
    };
    let mut layers: Vec<Listener> = vec![lines.with_filter(filter).boxed()];
    layers.extend(listener);
    tracing_subscriber::registry().with(layers).init();
}
