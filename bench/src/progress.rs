//! Tells a person what is being measured: on a terminal, on standard error.

use std::io::IsTerminal;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use indicatif::{HumanCount, ProgressBar, ProgressStyle};
use routemaster::note;
use tokio_util::task::AbortOnDropHandle;

const REDRAWN_EVERY: Duration = Duration::from_millis(200);

#[derive(Clone)]
pub struct Progress {
    bar: ProgressBar,
    /// Events, calls or postbacks that were accepted in the present step.
    accepted: Arc<AtomicU64>,
}

impl Progress {
    pub fn start() -> Self {
        let bar = match std::io::stderr().is_terminal() {
            true => ProgressBar::new_spinner(),
            false => ProgressBar::hidden(),
        };
        if let Ok(style) = ProgressStyle::with_template("{spinner} {elapsed} {prefix}: {msg}") {
            bar.set_style(style);
        }
        bar.enable_steady_tick(REDRAWN_EVERY);
        Self { bar, accepted: Arc::default() }
    }

    /// What is measured from now on.
    pub fn subject(&self, subject: &str) {
        self.bar.set_prefix(subject.to_owned());
    }

    /// What happens now.
    pub fn step(&self, step: &str) {
        self.bar.set_message(step.to_owned());
    }

    /// As [`Progress::step`], with the number of what is accepted, counted in what is returned.
    pub fn sending(&self) -> (Arc<AtomicU64>, AbortOnDropHandle<()>) {
        self.accepted.store(0, Ordering::Relaxed);
        let (bar, accepted) = (self.bar.clone(), Arc::clone(&self.accepted));
        let shown = tokio::spawn(async move {
            loop {
                let items = HumanCount(accepted.load(Ordering::Relaxed));
                bar.set_message(format!("sending, {items} accepted"));
                tokio::time::sleep(REDRAWN_EVERY).await;
            }
        });
        (Arc::clone(&self.accepted), AbortOnDropHandle::new(shown))
    }

    /// Says something that stays.
    pub fn note(&self, note: &str) {
        self.bar.suspend(|| note!("{note}"));
    }

    pub fn end(&self) {
        self.bar.finish_and_clear();
    }
}
