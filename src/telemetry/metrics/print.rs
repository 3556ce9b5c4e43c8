//! Prints metrics to the log, a line for each one that has moved.

use std::collections::HashMap;
use std::io::IsTerminal;

use super::aggregate::{Sample, Tag, Value};

/// Prints what has moved since the last time.
pub struct Printer {
    /// The gauges as they were printed last; those that are gone are forgotten.
    gauges: HashMap<(String, Vec<Tag>), f64>,
    /// Whether people read along, who do not want to see numbers all the time.
    on_terminal: bool,
}

impl Printer {
    pub fn new() -> Self {
        Self { gauges: HashMap::new(), on_terminal: std::io::stderr().is_terminal() }
    }

    pub fn print(&mut self, samples: Vec<Sample>) {
        let mut gauges = HashMap::new();
        for sample in samples {
            let tags = sample.tags_text();
            let Sample { name, tags: key, value } = sample;
            match value {
                Value::Count(count) => self.print_one(&name, &tags, count as f64),
                Value::Gauge(gauge) => {
                    let key = (name, key);
                    if self.gauges.get(&key) != Some(&gauge) {
                        self.print_one(&key.0, &tags, gauge);
                    }
                    gauges.insert(key, gauge);
                }
            }
        }
        self.gauges = gauges;
    }

    fn print_one(&self, metric: &str, tags: &str, value: f64) {
        if self.on_terminal {
            tracing::debug!(metric, value, tags, "metric");
        } else {
            tracing::info!(metric, value, tags, "metric");
        }
    }
}
