//! An alarm clock for the worker: it rings when the earliest known batch comes due.
//!
//! A store sets it when a publish makes a queue due; the worker waits for it between its looks
//! for work. So an idle worker neither polls nor comes late.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::Instant;

/// The longest a worker waits anyway is far less.
const LONGEST: Duration = Duration::from_secs(3600);

/// Keeps the earliest of all times it was set to. One waiter at a time.
#[derive(Default)]
pub struct Alarm {
    rings_at: Mutex<Option<Instant>>,
    moved: Notify,
}

impl Alarm {
    /// Rings in `delay`, unless it rings earlier anyway.
    pub fn ring_in(&self, delay: Duration) {
        let at = Instant::now() + delay.min(LONGEST);
        let mut rings_at = self.lock();
        if rings_at.is_none_or(|earliest| at < earliest) {
            *rings_at = Some(at);
            self.moved.notify_one();
        }
    }

    /// Waits for the alarm, or for `longest`, and clears it: what sets it from now on counts for
    /// the next wait.
    pub async fn wait(&self, longest: Duration) {
        let deadline = Instant::now() + longest;
        loop {
            let at = {
                let mut rings_at = self.lock();
                let at = rings_at.map_or(deadline, |at| at.min(deadline));
                if at <= Instant::now() {
                    *rings_at = None;
                    return;
                }
                at
            };
            tokio::select! {
                () = tokio::time::sleep_until(at) => {}
                () = self.moved.notified() => {}
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, Option<Instant>> {
        self.rings_at.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn it_rings_at_the_earliest_time_and_then_is_silent() {
        let alarm = Alarm::default();
        let start = Instant::now();
        alarm.ring_in(Duration::from_secs(5));
        alarm.ring_in(Duration::from_secs(2));
        alarm.ring_in(Duration::from_secs(9));
        alarm.wait(Duration::from_secs(60)).await;
        assert_eq!(start.elapsed().as_secs(), 2);
        alarm.wait(Duration::from_secs(60)).await;
        assert_eq!(start.elapsed().as_secs(), 62);
    }

    #[tokio::test(start_paused = true)]
    async fn setting_it_earlier_wakes_a_waiter() {
        let alarm = Alarm::default();
        alarm.ring_in(Duration::from_secs(50));
        let start = Instant::now();
        tokio::join!(alarm.wait(Duration::from_secs(60)), async {
            tokio::time::sleep(Duration::from_secs(1)).await;
            alarm.ring_in(Duration::from_secs(1));
        });
        assert_eq!(start.elapsed().as_secs(), 2);
    }
}
