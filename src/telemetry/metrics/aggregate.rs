//! Sums up what was recorded since the last look, for the sinks that are sent to.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering, fence};

use metrics::{Counter, Gauge, Histogram, Key, KeyName, Metadata, Recorder, SharedString, Unit};
use metrics_util::registry::{AtomicStorage, Registry};

/// A recorder; its clones share what they record.
#[derive(Clone)]
pub struct Aggregate(Arc<Registry<Key, AtomicStorage>>);

/// The name and the value of a tag.
pub type Tag = (String, String);

/// What became of a metric since the last look.
#[derive(Clone, Debug, PartialEq)]
pub struct Sample {
    pub name: String,
    pub tags: Vec<Tag>,
    pub value: Value,
}

impl Sample {
    /// The tags as text: `topic:widgets,status:success`.
    pub fn tags_text(&self) -> String {
        let tags = self.tags.iter().map(|(name, value)| format!("{name}:{value}"));
        tags.collect::<Vec<_>>().join(",")
    }
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Value {
    /// How much a counter has grown.
    Count(u64),
    Gauge(f64),
}

impl Aggregate {
    pub fn new() -> Self {
        Self(Arc::new(Registry::new(AtomicStorage)))
    }

    /// Takes what was recorded since the last time: counters that have grown, and gauges that were
    /// set. What nobody records any more is forgotten, so that subscribers and topics that are gone
    /// leave nothing behind.
    pub fn take(&self) -> Vec<Sample> {
        let mut samples = Vec::new();
        self.0.visit_counters(|key, counter| {
            let count = counter.swap(0, Ordering::Relaxed);
            if count > 0 {
                samples.push(sample(key, Value::Count(count)));
            }
        });
        // Under the registry's lock nobody else can get hold of a counter that nobody has.
        self.0.retain_counters(|_, counter: &Arc<AtomicU64>| {
            let held = Arc::strong_count(counter) > 1;
            // What its last holder counted is seen once it is seen to be gone.
            fence(Ordering::Acquire);
            held || counter.load(Ordering::Relaxed) > 0
        });
        self.0.visit_gauges(|key, gauge| {
            let value = f64::from_bits(gauge.load(Ordering::Relaxed));
            samples.push(sample(key, Value::Gauge(value)));
        });
        self.0.retain_gauges(|_, _| false);
        samples.sort_by(|one, other| (&one.name, &one.tags).cmp(&(&other.name, &other.tags)));
        samples
    }
}

fn sample(key: &Key, value: Value) -> Sample {
    let tags = key.labels().map(|label| (label.key().to_owned(), label.value().to_owned()));
    Sample { name: key.name().to_owned(), tags: tags.collect(), value }
}

impl Recorder for Aggregate {
    fn describe_counter(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}
    fn describe_gauge(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}
    fn describe_histogram(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}

    fn register_counter(&self, key: &Key, _: &Metadata<'_>) -> Counter {
        self.0.get_or_create_counter(key, |counter| counter.clone().into())
    }

    fn register_gauge(&self, key: &Key, _: &Metadata<'_>) -> Gauge {
        self.0.get_or_create_gauge(key, |gauge| gauge.clone().into())
    }

    /// Times are sums of their own where they are sent to; see `delivery.time`.
    fn register_histogram(&self, _: &Key, _: &Metadata<'_>) -> Histogram {
        Histogram::noop()
    }
}

#[cfg(test)]
mod tests {
    use metrics::{counter, gauge, with_local_recorder};

    use super::*;

    #[test]
    fn each_look_gives_what_is_new() {
        let aggregate = Aggregate::new();
        let look = || {
            let taken = aggregate.take().into_iter();
            taken.map(|sample| (sample.name.clone(), sample.tags_text(), sample.value))
        };
        with_local_recorder(&aggregate, || {
            let held = counter!("held");
            for _ in 0..2 {
                counter!("events", "topic" => "b", "x" => "1").increment(3);
                counter!("events", "topic" => "a").increment(1);
                counter!("events", "topic" => "a").increment(1);
                gauge!("length").set(7.0);
                let expected = [
                    ("events".to_owned(), "topic:a".to_owned(), Value::Count(2)),
                    ("events".into(), "topic:b,x:1".into(), Value::Count(3)),
                    ("length".into(), String::new(), Value::Gauge(7.0)),
                ];
                assert!(look().eq(expected));
                assert_eq!(look().count(), 0, "nothing is told twice");
            }
            held.increment(5);
            let expected = ("held".to_owned(), String::new(), Value::Count(5));
            assert!(look().eq([expected]), "a counter that somebody holds is not forgotten");
        });
    }

    #[test]
    fn nothing_is_lost_between_looks_that_happen_while_others_count() {
        const THREADS: u64 = 4;
        const EACH: u64 = 20_000;
        let aggregate = Aggregate::new();
        let count = || {
            let counted = aggregate.take().into_iter().map(|sample| match sample.value {
                Value::Count(count) => count,
                Value::Gauge(_) => 0,
            });
            counted.sum::<u64>()
        };
        let mut seen = 0;
        std::thread::scope(|scope| {
            let threads: Vec<_> = (0..THREADS)
                .map(|_| {
                    scope.spawn(|| {
                        with_local_recorder(&aggregate, || {
                            for number in 0..EACH {
                                counter!("n", "tag" => (number % 3).to_string()).increment(1);
                            }
                        });
                    })
                })
                .collect();
            while threads.iter().any(|thread| !thread.is_finished()) {
                seen += count();
            }
        });
        assert_eq!(seen + count(), THREADS * EACH);
    }
}
