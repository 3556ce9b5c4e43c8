//! Logs: lines for people on a terminal, JSON for machines otherwise, and in a file.

use std::io::IsTerminal;
use std::path::Path;

use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{Layer, Registry};

use super::log_sink::{self, LogSink};

/// What listens to the same events beside the log, with a filter of its own.
pub type Listener = Box<dyn Layer<Registry> + Send + Sync>;

/// Starts logging, to a file or to standard error. Libraries are heard from warnings on, unless
/// everything is asked for.
///
/// # Errors
/// If the file cannot be opened.
pub fn start(
    level: LevelFilter,
    file: Option<&Path>,
    listener: Option<Listener>,
) -> anyhow::Result<()> {
    let sink = LogSink::start(file)?;
    log_sink::install(sink.clone());
    let libraries = match level {
        LevelFilter::TRACE => LevelFilter::DEBUG,
        level => level.min(LevelFilter::WARN),
    };
    let filter = Targets::new().with_target("routemaster", level).with_default(libraries);
    let lines = tracing_subscriber::fmt::layer()
        .with_writer(sink)
        .with_target(false)
        // It would be said on standard error, and panic if that is what fails.
        .log_internal_errors(false);
    let lines = if file.is_none() && std::io::stderr().is_terminal() {
        lines.boxed()
    } else {
        lines.json().flatten_event(true).boxed()
    };
    let mut layers: Vec<Listener> = vec![lines.with_filter(filter).boxed()];
    layers.extend(listener);
    tracing_subscriber::registry().with(layers).init();
    Ok(())
}

/// Lets the log's file be opened anew.
pub fn reopen() {
    if let Some(sink) = log_sink::installed() {
        sink.reopen();
    }
}

/// Waits until what was logged is written, but not for long.
pub fn finish() {
    if let Some(sink) = log_sink::installed() {
        sink.finish();
    }
}
