//! Log lines that would come as often as requests do: the first one at once, then one in a while that says
//! how many there were.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// How long a kind of line is not repeated.
const SILENCE: Duration = Duration::from_secs(10);

/// One kind of line.
pub struct SparingLine(Mutex<State>);

struct State {
    last: Option<Instant>,
    untold: u64,
}

impl SparingLine {
    pub const fn new() -> Self {
        Self(Mutex::new(State { last: None, untold: 0 }))
    }

    /// Whether to log now, and then how many times it was not logged since.
    pub fn is_due(&self) -> Option<u64> {
        self.is_due_at(Instant::now())
    }

    fn is_due_at(&self, now: Instant) -> Option<u64> {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if state.last.is_some_and(|last| now < last + SILENCE) {
            state.untold += 1;
            return None;
        }
        state.last = Some(now);
        Some(std::mem::take(&mut state.untold))
    }
}

impl Default for SparingLine {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_line_is_told_at_once_and_the_next_one_counts_what_was_not() {
        let (line, start) = (SparingLine::new(), Instant::now());
        assert_eq!(line.is_due_at(start), Some(0));
        for _ in 0..5 {
            assert_eq!(line.is_due_at(start + SILENCE / 2), None);
        }
        assert_eq!(line.is_due_at(start + SILENCE), Some(5));
        assert_eq!(line.is_due_at(start + SILENCE * 3), Some(0));
    }
}
