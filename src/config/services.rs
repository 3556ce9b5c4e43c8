//! The services that settings choose by name.

/// What `METRIC_COLLECTION_SERVICE` chooses.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum MetricService {
    Print,
    Datadog,
    Statsd,
    Prometheus,
    None,
}

/// What `EXCEPTION_SERVICE` chooses.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ExceptionService {
    /// The log line is the report; nothing more happens.
    Print,
    Sentry,
    Honeybadger,
    NewRelic,
}
