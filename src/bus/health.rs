//! A subscriber's health and the back-off that follows from it (contract §4).

use std::time::Duration;

/// Points from 0 (nothing gets through) to 100 (everything does).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Health(u8);

impl Health {
    pub const MAX: Health = Health(100);

    /// Takes any number; what lies above 100 counts as 100.
    pub fn new(points: u64) -> Self {
        Health(points.min(100) as u8)
    }

    pub fn points(self) -> u8 {
        self.0
    }
}

/// How health moves and what a failure costs in time.
#[derive(Clone, Copy, Debug)]
pub struct BackOff {
    /// Points a success gives (`ROUTEMASTER_HP_HEAL_RATE`).
    pub heal_rate: u8,
    /// Points a failure takes (`ROUTEMASTER_HP_DAMAGE_RATE`).
    pub damage_rate: u8,
    /// The longest pause, before jitter (`ROUTEMASTER_MAX_BACKOFF_MS`).
    pub max: Duration,
}

/// Where places are scarce, one whose attempt failed leaves its place to others for so many times as long as it had it.
const PAUSE_FOR_PLACES: f64 = 3.0;
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const FLOOR_MAX: Duration = Duration::from_secs(10);

impl BackOff {
    pub fn after_success(&self, health: Health) -> Health {
        Health::new(u64::from(health.0) + u64::from(self.heal_rate))
    }

    pub fn after_failure(&self, health: Health) -> Health {
        Health(health.0.saturating_sub(self.damage_rate))
    }

    /// The pause before a batch is sent again that has failed `failures` times: `max × 2^−health`,
    /// lengthened by `jitter` (0 to 1) times one half of itself, and never less than the subscriber's
    /// timeout. Full health makes that nothing for many failures, so it is also never less than what
    /// begins at 100 ms and doubles with each failure, up to 10 s or `max`.
    pub fn pause(&self, health: Health, failures: u32, timeout: Duration, jitter: f64) -> Duration {
        let pause = self.max.mul_f64(0.5f64.powi(i32::from(health.0)));
        let doublings = failures.saturating_sub(1).min(31);
        let floor = FIRST_PAUSE.saturating_mul(1 << doublings).min(FLOOR_MAX).min(self.max);
        lengthened(pause, jitter).max(timeout).max(floor)
    }

    /// The least pause after an attempt that failed and took so long, by how scarce places are, from 0 to 1, lengthened
    /// by `jitter` as [`BackOff::pause`]. So those that hang do not hold all places while others wait for one.
    pub fn pause_for_places(&self, took: Duration, scarcity: f64, jitter: f64) -> Duration {
        let pause = took.mul_f64(PAUSE_FOR_PLACES * scarcity.clamp(0.0, 1.0)).min(self.max);
        lengthened(pause, jitter)
    }
}

/// Lengthens a pause by `jitter` (0 to 1) times one half of itself.
fn lengthened(pause: Duration, jitter: f64) -> Duration {
    pause.mul_f64(1.0 + jitter.clamp(0.0, 1.0) / 2.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    const CONTRACT: BackOff =
        BackOff { heal_rate: 1, damage_rate: 2, max: Duration::from_millis(60_000) };

    #[test]
    fn health_stays_between_0_and_100() {
        assert_eq!(CONTRACT.after_success(Health::MAX), Health::MAX);
        assert_eq!(CONTRACT.after_success(Health(7)), Health(8));
        assert_eq!(CONTRACT.after_failure(Health(7)), Health(5));
        assert_eq!(CONTRACT.after_failure(Health(1)), Health(0));
        let fast = BackOff { heal_rate: 255, ..CONTRACT };
        assert_eq!(fast.after_success(Health(250)), Health::MAX);
    }

    #[test]
    fn who_had_a_place_for_long_leaves_it_for_longer_where_they_are_scarce() {
        let pause = |took, scarcity| CONTRACT.pause_for_places(took, scarcity, 0.0);
        let (short, long) = (Duration::from_millis(5), Duration::from_secs(30));
        assert_eq!(pause(long, 0.0), Duration::ZERO);
        assert_eq!(pause(short, 1.0), 3 * short);
        assert_eq!(pause(long, 0.5), Duration::from_secs(45));
        assert_eq!(pause(long, 1.0), CONTRACT.max);
        assert_eq!(CONTRACT.pause_for_places(long, 1.0, 1.0), CONTRACT.max.mul_f64(1.5));
    }

    #[test]
    fn the_pause_doubles_with_each_point_lost_and_is_never_under_the_timeout() {
        let timeout = Duration::from_millis(500);
        let pause = |points| CONTRACT.pause(Health(points), 1, timeout, 0.0);
        assert_eq!(pause(0), Duration::from_millis(60_000));
        assert_eq!(pause(1), Duration::from_millis(30_000));
        assert_eq!(pause(3), Duration::from_millis(7_500));
        assert_eq!(pause(100), timeout);
    }

    #[test]
    fn full_health_does_not_make_failures_follow_each_other_at_once() {
        let pause =
            |failures| CONTRACT.pause(Health::MAX, failures, Duration::ZERO, 0.5).as_millis();
        assert_eq!(
            [1, 2, 3, 7, 8, 9, u32::MAX].map(pause),
            [100, 200, 400, 6400, 10_000, 10_000, 10_000]
        );
        let quick = BackOff { max: Duration::from_millis(5), ..CONTRACT };
        assert_eq!(quick.pause(Health::MAX, 9, Duration::ZERO, 0.0).as_millis(), 5);
    }

    #[test]
    fn jitter_adds_at_most_one_half() {
        let pause = |jitter| CONTRACT.pause(Health(0), 1, Duration::ZERO, jitter);
        assert_eq!(pause(1.0), Duration::from_millis(90_000));
        assert_eq!(pause(0.5), Duration::from_millis(75_000));
    }
}
