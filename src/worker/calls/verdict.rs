//! What comes of an attempt at a call: whether it is done, made again, and when, or given up (contract §9).

use std::time::Duration;

use crate::bus::call::Persistence;
use crate::config::{CallPauses, Settings};
use crate::store::CallOutcome;

/// By how much of itself a pause may be longer.
const JITTER: f64 = 0.2;

/// For how long calls are made again, and after which pauses.
pub struct Rules {
    pauses: CallPauses,
    /// For calls that do not say so themselves; 0 is without end.
    max_attempts: u32,
    give_up_after: Duration,
}

/// An attempt that has failed.
#[derive(Clone, Copy, Debug)]
pub struct FailedAttempt {
    /// From 1.
    pub attempt: u32,
    /// How long ago the call was accepted.
    pub age: Duration,
    pub retry_after: Option<Duration>,
}

impl Rules {
    pub fn of(settings: &Settings) -> Self {
        Self {
            pauses: settings.call_pauses(),
            max_attempts: settings.call_max_attempts,
            give_up_after: settings.call_give_up_after,
        }
    }

    /// What comes of a failure. `random` is from 0 to 1.
    pub fn after_failure(
        &self,
        persistence: Persistence,
        FailedAttempt { attempt, age, retry_after }: FailedAttempt,
        random: f64,
    ) -> CallOutcome {
        let some = |attempts: &u32| *attempts > 0;
        let max_attempts = persistence.max_attempts.or(Some(self.max_attempts)).filter(some);
        if !persistence.requeue || max_attempts.is_some_and(|max| attempt >= max) {
            return CallOutcome::Dead;
        }
        let retry_in = self.pause(attempt, random).max(retry_after.unwrap_or_default());
        let by_settings = Some(self.give_up_after).filter(|after| !after.is_zero());
        let give_up_after = persistence.give_up_after.map(Duration::from_millis).or(by_settings);
        if give_up_after.is_some_and(|after| age + retry_in > after) {
            return CallOutcome::Dead;
        }
        CallOutcome::Failed { retry_in }
    }

    /// It doubles with each attempt, up to a bound.
    fn pause(&self, attempt: u32, random: f64) -> Duration {
        let CallPauses { first, max } = self.pauses;
        if first == max {
            return first;
        }
        let doubled = first.saturating_mul(1 << attempt.saturating_sub(1).min(30)).min(max);
        doubled.mul_f64(1.0 + JITTER * random)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FOREVER: Persistence =
        Persistence { requeue: true, max_attempts: None, give_up_after: None };

    fn rules(first_ms: u64, max_ms: u64) -> Rules {
        let ms = Duration::from_millis;
        let pauses = CallPauses { first: ms(first_ms), max: ms(max_ms) };
        Rules { pauses, max_attempts: 0, give_up_after: Duration::ZERO }
    }

    fn failed(attempt: u32) -> FailedAttempt {
        FailedAttempt { attempt, age: Duration::from_secs(1), retry_after: None }
    }

    fn pause_ms(outcome: CallOutcome) -> Option<u128> {
        match outcome {
            CallOutcome::Failed { retry_in } => Some(retry_in.as_millis()),
            CallOutcome::Dead => None,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn pauses_double_up_to_a_bound_with_some_chance_or_are_fixed() {
        let pauses = |rules: &Rules, random| {
            let pause = |attempt| pause_ms(rules.after_failure(FOREVER, failed(attempt), random));
            [1, 2, 3, 7, 400].map(|attempt| pause(attempt).unwrap())
        };
        assert_eq!(pauses(&rules(5000, 300_000), 0.0), [5000, 10_000, 20_000, 300_000, 300_000]);
        assert_eq!(pauses(&rules(5000, 300_000), 1.0), [6000, 12_000, 24_000, 360_000, 360_000]);
        assert_eq!(pauses(&rules(700, 700), 1.0), [700; 5]);
        assert_eq!(pauses(&rules(0, 0), 1.0), [0; 5]);
    }

    #[test]
    fn what_a_receiver_asks_for_counts_if_it_is_longer() {
        let asked = |seconds| {
            let retry_after = Some(Duration::from_secs(seconds));
            let failed = FailedAttempt { retry_after, ..failed(1) };
            pause_ms(rules(5000, 300_000).after_failure(FOREVER, failed, 0.0))
        };
        assert_eq!((asked(1), asked(3600)), (Some(5000), Some(3_600_000)));
    }

    #[test]
    fn a_call_is_given_up_when_it_or_the_settings_say_so() {
        let rules = Rules {
            max_attempts: 3,
            give_up_after: Duration::from_secs(10),
            ..rules(5000, 300_000)
        };
        let judge =
            |persistence, attempt| pause_ms(rules.after_failure(persistence, failed(attempt), 0.0));
        assert_eq!(judge(Persistence { requeue: false, ..FOREVER }, 1), None);
        assert_eq!(judge(FOREVER, 1), Some(5000));
        assert_eq!(judge(FOREVER, 2), None, "the next one would come after 11 s");
        let patient = Persistence { give_up_after: Some(60_000), ..FOREVER };
        assert_eq!(judge(patient, 2), Some(10_000));
        assert_eq!(judge(patient, 3), None, "that is enough");
        let stubborn = Persistence { max_attempts: Some(5), ..patient };
        assert_eq!((judge(stubborn, 4), judge(stubborn, 5)), (Some(40_000), None));
    }
}
