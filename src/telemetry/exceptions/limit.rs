//! Keeps an error that happens again and again from flooding the service.

use std::collections::HashMap;
use std::time::Duration;

use tokio::time::Instant;

use super::exception::{Exception, Place};

/// How often the same error is reported within [`WINDOW`]. The same: logged with the same message
/// at the same place. Why it failed may differ, by a number for instance.
const REPORTS: u32 = 5;
const WINDOW: Duration = Duration::from_secs(60);
/// How many different errors are remembered. There are fewer, unless a library panics everywhere.
const REMEMBERED: usize = 1000;

#[derive(Default)]
pub struct Limit {
    seen: HashMap<(Place, String), Seen>,
}

struct Seen {
    since: Instant,
    times: u32,
}

impl Limit {
    /// Whether one more report of this error is within the limit.
    pub fn allows(&mut self, exception: &Exception, now: Instant) -> bool {
        if self.seen.len() >= REMEMBERED {
            self.seen.clear();
        }
        let same = (exception.place.clone(), exception.class.clone());
        let seen = self.seen.entry(same).or_insert(Seen { since: now, times: 0 });
        if now.duration_since(seen.since) >= WINDOW {
            *seen = Seen { since: now, times: 0 };
        }
        seen.times = seen.times.saturating_add(1);
        seen.times <= REPORTS
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_error_is_allowed_a_few_times_a_minute_and_others_meanwhile() {
        let (mut limit, start) = (Limit::default(), Instant::now());
        let same = Exception::example();
        let other = Exception { class: "something else".into(), ..same.clone() };
        let allowed = (0..20).filter(|_| limit.allows(&same, start)).count();
        assert_eq!(allowed, REPORTS as usize);
        assert!(limit.allows(&other, start));
        assert!(!limit.allows(&same, start + WINDOW - Duration::from_millis(1)));
        assert!(limit.allows(&same, start + WINDOW));
    }
}
