//! Keeps metrics for Prometheus, which comes and asks for them.

use std::time::Duration;

use metrics::{describe_counter, describe_gauge, describe_histogram};
use metrics_exporter_prometheus::{
    Matcher, PrometheusBuilder, PrometheusHandle, PrometheusRecorder,
};
use metrics_util::MetricKindMask;

use super::names::{Kind, METRICS};

/// Upper bounds, in seconds, of the histograms' buckets.
const BUCKETS: [f64; 14] =
    [0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 20.0];
/// A gauge that nobody has set for so long is gone: its subscriber, or the duty to set it.
const GAUGE_LIFETIME: Duration = Duration::from_secs(25);

/// A recorder, and what renders what it has.
///
/// # Errors
/// If the buckets cannot be used.
pub fn recorder() -> anyhow::Result<(PrometheusRecorder, PrometheusHandle)> {
    let mut builder =
        PrometheusBuilder::new().idle_timeout(MetricKindMask::GAUGE, Some(GAUGE_LIFETIME));
    for metric in METRICS.iter().filter(|metric| metric.kind == Kind::Histogram) {
        builder = builder.set_buckets_for_metric(Matcher::Full(metric.name.into()), &BUCKETS)?;
    }
    let recorder = builder.build_recorder();
    let handle = recorder.handle();
    Ok((recorder, handle))
}

/// Tells the recorder that was installed what each metric means.
pub fn describe() {
    for metric in METRICS {
        let meaning = metric.meaning.trim();
        match metric.kind {
            Kind::Counter => describe_counter!(metric.name, meaning),
            Kind::Gauge => describe_gauge!(metric.name, meaning),
            Kind::Histogram => describe_histogram!(metric.name, meaning),
        }
    }
}
