//! Prints metrics to the log, a line for each one that has moved.

use std::collections::HashMap;
use std::io::IsTerminal;

use super::aggregate::{Sample, Tag, Value};
use super::names::{QUEUE_STALENESS, REDIS_BYTES_USED, REDIS_CPU_SYS, REDIS_CPU_USER};

/// Gauges that move all the time. When nothing else does, there is nothing to tell.
const RESTLESS: [&str; 4] = [QUEUE_STALENESS, REDIS_BYTES_USED, REDIS_CPU_SYS, REDIS_CPU_USER];

/// How many series of a metric are printed at once.
const SERIES_MAX: usize = 20;

type Gauges = HashMap<(String, Vec<Tag>), f64>;

/// Prints what has moved since it was printed last.
pub struct Printer {
    /// The gauges as they were printed last; those that are gone are forgotten.
    printed: Gauges,
    /// Whether people read along, who do not want to see numbers all the time.
    on_terminal: bool,
}

impl Printer {
    pub fn new() -> Self {
        Self { printed: Gauges::new(), on_terminal: std::io::stderr().is_terminal() }
    }

    pub fn print(&mut self, samples: &[Sample]) {
        let moved = self.moved(samples);
        for series in moved.chunk_by(|one, next| one.name == next.name) {
            let (printed, rest) = largest_first(series);
            for sample in printed {
                self.print_one(sample);
            }
            if !rest.is_empty() {
                self.print_rest(&rest);
            }
        }
    }

    /// What is to be printed; it counts as printed from now on.
    fn moved<'a>(&mut self, samples: &'a [Sample]) -> Vec<&'a Sample> {
        let mut gauges = Gauges::new();
        let mut moved = Vec::new();
        for sample in samples {
            if let Value::Gauge(gauge) = sample.value {
                let key = (sample.name.clone(), sample.tags.clone());
                let printed = self.printed.get(&key).copied();
                if printed != Some(gauge) {
                    moved.push(sample);
                }
                gauges.insert(key, gauge);
            } else {
                moved.push(sample);
            }
        }
        if moved.iter().all(|sample| RESTLESS.contains(&&*sample.name)) {
            self.printed.retain(|key, _| gauges.contains_key(key));
            return vec![];
        }
        self.printed = gauges;
        moved
    }

    /// One line for all that are not worth one each.
    fn print_rest(&self, rest: &[&Sample]) {
        let counted = rest.iter().filter_map(|sample| match sample.value {
            Value::Count(count) => Some(count as f64),
            Value::Gauge(_) => None,
        });
        let sum = counted.reduce(|one, other| one + other);
        let (metric, others) = (&rest[0].name, rest.len());
        if self.on_terminal {
            tracing::debug!(metric, value = sum, others, "metric");
        } else {
            tracing::info!(metric, value = sum, others, "metric");
        }
    }

    fn print_one(&self, sample: &Sample) {
        let (metric, tags) = (&sample.name, sample.tags_text());
        let value = match sample.value {
            Value::Count(count) => count as f64,
            Value::Gauge(gauge) => gauge,
        };
        if self.on_terminal {
            tracing::debug!(metric, value, tags, "metric");
        } else {
            tracing::info!(metric, value, tags, "metric");
        }
    }
}

/// The series of one metric that are printed, and the others: of a thousand topics, those where most
/// happens are enough.
fn largest_first<'a>(series: &[&'a Sample]) -> (Vec<&'a Sample>, Vec<&'a Sample>) {
    let size = |sample: &Sample| match sample.value {
        Value::Count(count) => count as f64,
        Value::Gauge(gauge) => gauge,
    };
    let mut printed = series.to_vec();
    if printed.len() > SERIES_MAX {
        printed.sort_by(|one, other| size(other).total_cmp(&size(one)));
    }
    let rest = printed.split_off(printed.len().min(SERIES_MAX));
    (printed, rest)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn gauge(name: &str, value: f64) -> Sample {
        Sample { name: name.into(), tags: vec![], value: Value::Gauge(value) }
    }

    #[test]
    fn an_idle_bus_prints_nothing() {
        let mut printer = Printer::new();
        let mut names = |cpu: f64, events: f64, counted: Option<u64>| {
            let mut samples = vec![gauge(REDIS_CPU_SYS, cpu), gauge("events", events)];
            samples.extend(
                counted.map(|count| Sample { value: Value::Count(count), ..gauge("counter", 0.0) }),
            );
            let moved = printer.moved(&samples);
            moved.iter().map(|sample| sample.name.clone()).collect::<Vec<_>>()
        };
        assert_eq!(names(1.0, 0.0, None), [REDIS_CPU_SYS, "events"]);
        assert!(names(1.0, 0.0, None).is_empty());
        assert!(names(2.0, 0.0, None).is_empty(), "its processor time always moves");
        assert_eq!(names(3.0, 0.0, Some(1)), [REDIS_CPU_SYS, "counter"]);
        assert_eq!(names(3.0, 5.0, None), ["events"]);
    }

    #[test]
    fn of_many_series_the_largest_are_printed() {
        let samples: Vec<Sample> = (0..1_000).map(|n| gauge("events", f64::from(n))).collect();
        let all: Vec<&Sample> = samples.iter().collect();
        let (printed, rest) = largest_first(&all);
        assert_eq!((printed.len(), rest.len()), (SERIES_MAX, 1_000 - SERIES_MAX));
        assert_eq!(printed[0].value, Value::Gauge(999.0));
        let (printed, rest) = largest_first(&all[..3]);
        assert_eq!((printed.len(), rest.len()), (3, 0));
        assert_eq!(printed[0].value, Value::Gauge(0.0), "few stay as they are");
    }

    #[test]
    fn what_is_gone_is_forgotten() {
        let mut printer = Printer::new();
        printer.moved(&[gauge("a", 1.0), gauge("b", 1.0)]);
        printer.moved(&[gauge("b", 1.0)]);
        assert_eq!(printer.printed.len(), 1);
    }
}
