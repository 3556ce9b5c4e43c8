//! Keeps metrics for Prometheus, which comes and asks for them.

use std::time::Duration;

use metrics::{
    Counter, Gauge, Histogram, Key, KeyName, Metadata, Recorder, SharedString, Unit,
    describe_counter, describe_gauge, describe_histogram,
};
use metrics_exporter_prometheus::{
    Matcher, PrometheusBuilder, PrometheusHandle, PrometheusRecorder,
};
use metrics_util::MetricKindMask;

use super::labels;
use super::names::{Kind, METRICS};

/// Upper bounds, in seconds, of the histograms' buckets.
const BUCKETS: [f64; 14] =
    [0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 20.0];
/// A gauge that nobody has set for so long is gone: its subscriber, or the duty to set it.
const GAUGE_LIFETIME: Duration = Duration::from_secs(25);

/// Keeps gauges apart from what counts: they are forgotten after different times, of which the exporter
/// knows one only.
pub struct KindRecorder {
    gauges: PrometheusRecorder,
    counting: PrometheusRecorder,
}

/// Renders what a [`KindRecorder`] has.
#[derive(Clone)]
pub struct KindHandle {
    gauges: PrometheusHandle,
    counting: PrometheusHandle,
}

impl KindHandle {
    /// In Prometheus's text format, version 0.0.4.
    pub fn render(&self) -> String {
        self.counting.render() + &self.gauges.render()
    }
}

/// A recorder, and what renders what it has.
///
/// # Errors
/// If the buckets cannot be used.
pub fn recorder() -> anyhow::Result<(KindRecorder, KindHandle)> {
    recorder_forgetting_after(GAUGE_LIFETIME, labels::LIFETIME)
}

fn recorder_forgetting_after(
    gauges: Duration,
    counting: Duration,
) -> anyhow::Result<(KindRecorder, KindHandle)> {
    let builder =
        |lifetime| PrometheusBuilder::new().idle_timeout(MetricKindMask::ALL, Some(lifetime));
    let mut counting = builder(counting);
    for metric in METRICS.iter().filter(|metric| metric.kind == Kind::Histogram) {
        counting = counting.set_buckets_for_metric(Matcher::Full(metric.name.into()), &BUCKETS)?;
    }
    let (gauges, counting) = (builder(gauges).build_recorder(), counting.build_recorder());
    let handle = KindHandle { gauges: gauges.handle(), counting: counting.handle() };
    Ok((KindRecorder { gauges, counting }, handle))
}

impl Recorder for KindRecorder {
    fn describe_counter(&self, name: KeyName, unit: Option<Unit>, text: SharedString) {
        self.counting.describe_counter(name, unit, text);
    }

    fn describe_gauge(&self, name: KeyName, unit: Option<Unit>, text: SharedString) {
        self.gauges.describe_gauge(name, unit, text);
    }

    fn describe_histogram(&self, name: KeyName, unit: Option<Unit>, text: SharedString) {
        self.counting.describe_histogram(name, unit, text);
    }

    fn register_counter(&self, key: &Key, metadata: &Metadata<'_>) -> Counter {
        self.counting.register_counter(key, metadata)
    }

    fn register_gauge(&self, key: &Key, metadata: &Metadata<'_>) -> Gauge {
        self.gauges.register_gauge(key, metadata)
    }

    fn register_histogram(&self, key: &Key, metadata: &Metadata<'_>) -> Histogram {
        self.counting.register_histogram(key, metadata)
    }
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

#[cfg(test)]
mod tests {
    use metrics::{counter, gauge, with_local_recorder};

    use super::*;

    #[test]
    fn what_does_not_move_any_more_is_forgotten_each_kind_after_its_time() {
        let (short, long) = (Duration::from_millis(50), Duration::from_millis(400));
        let (recorder, handle) = recorder_forgetting_after(short, long).unwrap();
        with_local_recorder(&recorder, || {
            gauge!("length", "subscriber" => "gone").set(1.0);
            counter!("events", "topic" => "gone").increment(1);
        });
        // The time counts from the first look on.
        let first = handle.render();
        assert!(first.contains("length{") && first.contains("events{"), "{first}");
        std::thread::sleep(short * 2);
        let text = handle.render();
        assert!(!text.contains("length{") && text.contains("events{"), "{text}");
        std::thread::sleep(long);
        assert!(!handle.render().contains("gone"), "{}", handle.render());
    }
}
