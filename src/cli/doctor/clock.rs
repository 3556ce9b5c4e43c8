//! This machine's clock against the bus's: times in events, ages of queues and certificates are
//! judged by it.

use std::time::{Duration, Instant};

use super::finding::Finding;

const CHECK: &str = "clock";

/// How far two clocks may be apart, in milliseconds.
const TOLERANCE_MS: u64 = 1_000;

/// What the bus's clock showed when it was asked.
pub struct Pong {
    /// Milliseconds since the epoch, as all times of day here.
    pub bus_ms: u64,
    /// This clock, when the question was sent.
    pub asked_ms: u64,
    pub round_trip: Duration,
    /// When the answer was there.
    pub received: Instant,
}

impl Pong {
    /// How far the bus's clock is ahead of this one, in milliseconds. The answer was written, as far
    /// as one can know, half-way.
    fn ahead_ms(&self) -> i64 {
        let asked_ms = self.asked_ms + self.round_trip.as_millis() as u64 / 2;
        self.bus_ms as i64 - asked_ms as i64
    }

    /// What the bus's clock shows now.
    pub fn bus_now_ms(&self) -> u64 {
        let since = self.round_trip / 2 + self.received.elapsed();
        self.bus_ms + since.as_millis() as u64
    }
}

/// Judges what the bus's clock showed; nothing without a bus.
pub fn check(pong: Option<&Pong>) -> Vec<Finding> {
    let Some(pong) = pong else {
        return vec![Finding::skipped(CHECK, "not compared: the bus was not asked")];
    };
    let ahead_ms = pong.ahead_ms();
    // Half of the round trip is how wrong this can be.
    let uncertain_ms = pong.round_trip.as_millis() as u64 / 2;
    let apart = ahead_ms.unsigned_abs();
    let (seconds, tenths) = (apart / 1000, apart % 1000 / 100);
    if apart <= TOLERANCE_MS + uncertain_ms {
        let found = format!("this clock and the bus's are within {seconds}.{tenths} s");
        return vec![Finding::ok(CHECK, found)];
    }
    let direction = if ahead_ms > 0 { "ahead of" } else { "behind" };
    let found = format!("the bus's clock is {seconds}.{tenths} s {direction} this one");
    let advice = "let NTP set both; times of events and ages of queues are wrong until then";
    vec![Finding::warning(CHECK, found, advice)]
}

#[cfg(test)]
mod tests {
    use super::super::finding::Verdict;
    use super::*;

    fn check_at(bus_ms: u64, round_trip_ms: u64) -> Finding {
        let round_trip = Duration::from_millis(round_trip_ms);
        let pong = Pong { bus_ms, asked_ms: 100_000, round_trip, received: Instant::now() };
        check(Some(&pong)).remove(0)
    }

    #[test]
    fn clocks_may_be_a_second_apart_not_counting_the_way() {
        for (bus_ms, round_trip_ms) in [(100_000, 0), (101_000, 0), (99_000, 2), (102_900, 2_000)] {
            assert_eq!(check_at(bus_ms, round_trip_ms).result, Verdict::Ok, "{bus_ms}");
        }
        let ahead = check_at(103_250, 100);
        assert_eq!(ahead.result, Verdict::Warning);
        assert_eq!(ahead.found, "the bus's clock is 3.2 s ahead of this one");
        assert_eq!(check_at(90_000, 0).found, "the bus's clock is 10.0 s behind this one");
    }
}
