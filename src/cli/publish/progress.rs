//! Tells a person how far publishing is: on a terminal, and only if it takes its time.

use std::io::IsTerminal;
use std::time::{Duration, Instant};

use crate::note;
use indicatif::{HumanCount, ProgressBar, ProgressStyle};

/// What is done within this time needs no progress shown.
const SHOWN_AFTER: Duration = Duration::from_secs(1);
const REDRAWN_EVERY: Duration = Duration::from_millis(100);

pub struct Progress {
    start: Instant,
    /// Events that the bus accepted.
    events: u64,
    on_terminal: bool,
    bar: Option<ProgressBar>,
    last_note: String,
}

impl Progress {
    pub fn start() -> Self {
        Self {
            start: Instant::now(),
            events: 0,
            on_terminal: std::io::stderr().is_terminal(),
            bar: None,
            last_note: String::new(),
        }
    }

    /// Events that the bus accepted.
    pub fn events(&self) -> u64 {
        self.events
    }

    pub fn elapsed(&self) -> Duration {
        self.start.elapsed()
    }

    /// The bus accepted that many events more.
    pub fn accepted(&mut self, events: usize) {
        self.events += events as u64;
        if self.bar.is_none() && self.on_terminal && self.elapsed() > SHOWN_AFTER {
            self.bar = Some(spinner(self.elapsed()));
        }
        if let Some(bar) = &self.bar {
            let rate = self.events as f64 / self.elapsed().as_secs_f64();
            let (events, rate) = (HumanCount(self.events), HumanCount(rate as u64));
            bar.set_message(format!("{events} events, {rate}/s"));
        }
    }

    /// Says something on standard error; the same thing again is not said.
    pub fn note(&mut self, note: String) {
        if note == self.last_note {
            return;
        }
        match &self.bar {
            Some(bar) => bar.suspend(|| note!("{note}")),
            None => note!("{note}"),
        }
        self.last_note = note;
    }

    /// Takes the spinner off the terminal.
    pub fn end(&mut self) {
        if let Some(bar) = self.bar.take() {
            bar.finish_and_clear();
        }
    }
}

fn spinner(elapsed: Duration) -> ProgressBar {
    let bar = ProgressBar::new_spinner().with_elapsed(elapsed);
    if let Ok(style) = ProgressStyle::with_template("{spinner} {msg}, {elapsed}") {
        bar.set_style(style);
    }
    bar.enable_steady_tick(REDRAWN_EVERY);
    bar
}
