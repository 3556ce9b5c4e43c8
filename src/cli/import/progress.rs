//! Tells a person how far an import is: on a terminal, and only if it takes its time.

use std::io::IsTerminal;
use std::time::{Duration, Instant};

use indicatif::{HumanCount, ProgressBar, ProgressStyle};

/// What is done within this time needs no progress shown.
const SHOWN_AFTER: Duration = Duration::from_secs(1);
const REDRAWN_EVERY: Duration = Duration::from_millis(100);

pub struct Progress {
    start: Instant,
    /// Batches that were there at the start.
    batches: u64,
    on_terminal: bool,
    bar: Option<ProgressBar>,
}

impl Progress {
    pub fn start(batches: u64) -> Self {
        let on_terminal = std::io::stderr().is_terminal();
        Self { start: Instant::now(), batches, on_terminal, bar: None }
    }

    /// So many batches and events were looked at.
    pub fn at(&mut self, batches: u64, events: u64) {
        if self.bar.is_none() && self.on_terminal && self.start.elapsed() > SHOWN_AFTER {
            self.bar = Some(bar(self.batches, self.start.elapsed()));
        }
        if let Some(bar) = &self.bar {
            bar.set_length(self.batches.max(batches));
            bar.set_position(batches);
            bar.set_message(format!("{} events", HumanCount(events)));
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

fn bar(batches: u64, elapsed: Duration) -> ProgressBar {
    let bar = ProgressBar::new(batches).with_elapsed(elapsed);
    let template = "{bar:30} {human_pos} of {human_len} batches, {msg}, {elapsed}, {eta} to go";
    if let Ok(style) = ProgressStyle::with_template(template) {
        bar.set_style(style);
    }
    bar.enable_steady_tick(REDRAWN_EVERY);
    bar
}
