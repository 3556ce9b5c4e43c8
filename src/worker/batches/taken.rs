//! When deliveries began that were acknowledged: so it can be told whether one that failed failed by itself, or
//! with all others.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::time::Instant;

/// How finely times are told apart: what began in the same step began at about the same time.
const STEP: Duration = Duration::from_millis(100);
/// Of how many steps it is known: two minutes.
const STEPS: usize = 1_200;

/// The last steps, each with whether a delivery that began in it was acknowledged.
pub struct Taken {
    start: Instant,
    /// By the step since the start, from 1, round and round.
    steps: Box<[AtomicU64]>,
}

impl Taken {
    pub fn new() -> Self {
        Self { start: Instant::now(), steps: (0..STEPS).map(|_| AtomicU64::new(0)).collect() }
    }

    /// Takes note of a delivery that was acknowledged.
    pub fn note(&self, began: Instant) {
        let step = self.step(began);
        self.place(step).store(step, Ordering::Relaxed);
    }

    /// Whether one was acknowledged that began at about the same time; not known of what began long ago.
    pub fn any_beside(&self, began: Instant) -> bool {
        let step = self.step(began);
        self.place(step).load(Ordering::Relaxed) == step
    }

    fn step(&self, at: Instant) -> u64 {
        let ms = at.saturating_duration_since(self.start).as_millis();
        (ms / STEP.as_millis()) as u64 + 1
    }

    fn place(&self, step: u64) -> &AtomicU64 {
        &self.steps[step as usize % STEPS]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn what_began_beside_others_that_were_taken_is_told_from_what_did_not() {
        let (taken, start) = (Taken::new(), Instant::now());
        assert!(!taken.any_beside(start));
        taken.note(start + STEP * 10);
        for (steps, is_beside) in [(9, false), (10, true), (11, false)] {
            assert_eq!(taken.any_beside(start + STEP * steps), is_beside, "{steps}");
        }
        // The place is another step's, a round later.
        let later = start + STEP * (10 + STEPS as u32);
        assert!(!taken.any_beside(later));
        taken.note(later);
        assert!(!taken.any_beside(start + STEP * 10));
    }
}
