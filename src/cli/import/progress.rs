//! Tells a person how far an import is: on a terminal, and only if it takes its time.

use std::io::IsTerminal;
use std::time::{Duration, Instant};

use indicatif::{HumanCount, ProgressBar, ProgressStyle};

/// What is done within this time needs no progress shown.
const SHOWN_AFTER: Duration = Duration::from_secs(1);
const REDRAWN_EVERY: Duration = Duration::from_millis(100);

pub struct Progress {
    start: Instant,
    /// How many there were at the start.
    total: u64,
    /// What those are, and what is in them.
    units: (&'static str, &'static str),
    on_terminal: bool,
    bar: Option<ProgressBar>,
}

impl Progress {
    pub fn start(units: (&'static str, &'static str), total: u64) -> Self {
        let on_terminal = std::io::stderr().is_terminal();
        Self { start: Instant::now(), total, units, on_terminal, bar: None }
    }

    /// So many were looked at, with so much in them.
    pub fn at(&mut self, done: u64, parts: u64) {
        if self.bar.is_none() && self.on_terminal && self.start.elapsed() > SHOWN_AFTER {
            self.bar = Some(bar(self.units.0, self.total, self.start.elapsed()));
        }
        if let Some(bar) = &self.bar {
            bar.set_length(self.total.max(done));
            bar.set_position(done);
            bar.set_message(format!("{} {}", HumanCount(parts), self.units.1));
        }
    }
}

/// Takes the bar off the terminal.
impl Drop for Progress {
    fn drop(&mut self) {
        if let Some(bar) = self.bar.take() {
            bar.finish_and_clear();
        }
    }
}

fn bar(unit: &str, total: u64, elapsed: Duration) -> ProgressBar {
    let bar = ProgressBar::new(total).with_elapsed(elapsed);
    let template = format!(
        "{{bar:30}} {{human_pos}} of {{human_len}} {unit}, {{msg}}, {{elapsed}}, {{eta}} to go"
    );
    if let Ok(style) = ProgressStyle::with_template(&template) {
        bar.set_style(style);
    }
    bar.enable_steady_tick(REDRAWN_EVERY);
    bar
}
