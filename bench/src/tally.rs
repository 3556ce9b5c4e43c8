//! Counts what is missing, duplicated or out of order.
//!
//! The bus promises that a subscriber sees its queue in order, at least once. So of each stream a
//! subscriber must receive all numbers, each one for the first time in ascending order; what comes
//! again is allowed, and counted.

use std::collections::BTreeMap;
use std::ops::Range;

/// What one subscriber has received of one stream.
#[derive(Default)]
pub struct Track {
    /// One more than the highest number that was received.
    next: u64,
    /// The numbers below `next` that were not received: where a gap begins, and where it ends.
    gaps: BTreeMap<u64, u64>,
    duplicated: u64,
    out_of_order: u64,
}

impl Track {
    /// Takes one event. Whether it came for the first time.
    pub fn receive(&mut self, number: u64) -> bool {
        if number >= self.next {
            if number > self.next {
                self.gaps.insert(self.next, number);
            }
            self.next = number + 1;
            return true;
        }
        if self.fill_gap(number) {
            self.out_of_order += 1;
            return true;
        }
        self.duplicated += 1;
        false
    }

    /// Takes a number out of the gap that it is in; `false` if it is in none.
    fn fill_gap(&mut self, number: u64) -> bool {
        let Some((&start, &end)) = self.gaps.range(..=number).next_back() else { return false };
        if number >= end {
            return false;
        }
        self.gaps.remove(&start);
        if start < number {
            self.gaps.insert(start, number);
        }
        if number + 1 < end {
            self.gaps.insert(number + 1, end);
        }
        true
    }

    /// How many of the first `accepted` numbers were not received.
    fn missing(&self, accepted: u64) -> u64 {
        let before = |end: u64| end.min(accepted);
        let gaps = self.gaps.iter().map(|(start, end)| before(*end).saturating_sub(*start));
        gaps.sum::<u64>() + accepted.saturating_sub(self.next)
    }
}

/// What one subscriber has received of all its streams.
pub struct Tally {
    first_stream: u32,
    tracks: Vec<Track>,
    /// Events of streams that it has not subscribed to.
    strange: u64,
}

/// What was wrong, summed up.
#[derive(Clone, Copy, Default, Debug, PartialEq, Eq)]
pub struct Faults {
    pub missing: u64,
    pub duplicated: u64,
    pub out_of_order: u64,
    /// Delivered to somebody who has not subscribed to them.
    pub strange: u64,
}

impl Tally {
    pub fn of(streams: &Range<u32>) -> Self {
        let tracks = streams.clone().map(|_| Track::default()).collect();
        Self { first_stream: streams.start, tracks, strange: 0 }
    }

    /// Takes one event. Whether it came for the first time.
    pub fn receive(&mut self, stream: u32, number: u64) -> bool {
        let index = stream.checked_sub(self.first_stream).map(|index| index as usize);
        match index.and_then(|index| self.tracks.get_mut(index)) {
            Some(track) => track.receive(number),
            None => {
                self.strange += 1;
                false
            }
        }
    }

    /// Compares with what was accepted, by stream from 0.
    pub fn faults(&self, accepted: &[u64]) -> Faults {
        let mut faults = Faults { strange: self.strange, ..Faults::default() };
        for (index, track) in self.tracks.iter().enumerate() {
            let accepted = accepted.get(self.first_stream as usize + index).copied();
            faults.missing += track.missing(accepted.unwrap_or(0));
            faults.duplicated += track.duplicated;
            faults.out_of_order += track.out_of_order;
        }
        faults
    }
}

impl std::ops::AddAssign for Faults {
    fn add_assign(&mut self, other: Self) {
        self.missing += other.missing;
        self.duplicated += other.duplicated;
        self.out_of_order += other.out_of_order;
        self.strange += other.strange;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The faults of one stream of which `accepted` events were accepted.
    fn faults(received: &[u64], accepted: u64) -> Faults {
        let mut tally = Tally::of(&(0..1));
        for number in received {
            tally.receive(0, *number);
        }
        tally.faults(&[accepted])
    }

    fn expected(missing: u64, duplicated: u64, out_of_order: u64) -> Faults {
        Faults { missing, duplicated, out_of_order, strange: 0 }
    }

    #[test]
    fn all_in_order_is_no_fault() {
        assert_eq!(faults(&[0, 1, 2, 3], 4), expected(0, 0, 0));
        assert_eq!(faults(&[], 0), expected(0, 0, 0));
    }

    #[test]
    fn what_never_comes_is_missing_wherever_it_stands() {
        assert_eq!(faults(&[], 3), expected(3, 0, 0));
        assert_eq!(faults(&[1, 2], 3), expected(1, 0, 0));
        assert_eq!(faults(&[0, 3], 4), expected(2, 0, 0));
        assert_eq!(faults(&[0, 1], 5), expected(3, 0, 0));
    }

    #[test]
    fn what_comes_again_is_duplicated_and_not_out_of_order() {
        assert_eq!(faults(&[0, 1, 2, 1, 2, 3], 4), expected(0, 2, 0));
        assert_eq!(faults(&[0, 0, 0], 1), expected(0, 2, 0));
    }

    #[test]
    fn what_comes_first_after_a_later_one_is_out_of_order_once() {
        assert_eq!(faults(&[0, 2, 1, 3], 4), expected(0, 0, 1));
        assert_eq!(faults(&[4, 3, 2, 1, 0], 5), expected(0, 0, 4));
        assert_eq!(faults(&[0, 4, 2, 2], 5), expected(2, 1, 1));
        assert_eq!(faults(&[0, 5, 3, 1, 2, 4], 6), expected(0, 0, 4));
    }

    #[test]
    fn more_than_was_accepted_is_no_fault() {
        // A publish whose answer was lost may have been stored.
        assert_eq!(faults(&[0, 1, 2], 2), expected(0, 0, 0));
        assert_eq!(faults(&[0, 3], 1), expected(0, 0, 0));
    }

    #[test]
    fn streams_are_counted_apart_and_strange_ones_are_seen() {
        let mut tally = Tally::of(&(2..4));
        for (stream, number) in [(2, 0), (3, 0), (2, 1), (3, 2)] {
            assert!(tally.receive(stream, number));
        }
        for stream in [1, 4] {
            assert!(!tally.receive(stream, 0));
        }
        let faults = tally.faults(&[9, 9, 2, 3]);
        assert_eq!(faults, Faults { missing: 1, duplicated: 0, out_of_order: 0, strange: 2 });
    }
}
