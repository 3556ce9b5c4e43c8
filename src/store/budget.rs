//! How much room the store may take, and when autodrop begins and ends (contract §6).

use super::Usage;

/// Bytes that the store may take in all, and that should stay free.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Budget {
    pub max: u64,
    pub min_free: u64,
}

impl Budget {
    /// Autodrop begins when more than this is used.
    pub fn high_mark(&self) -> u64 {
        self.max.saturating_sub(self.min_free)
    }

    /// Autodrop ends when no more than this is used.
    pub fn low_mark(&self) -> u64 {
        self.max.saturating_sub(self.min_free.saturating_mul(2))
    }

    /// The budget that holds: a store's own limit counts if it is less. Of a limit that is less
    /// than what should stay free, a fifth is to stay free.
    pub fn limited_by(self, usage: &Usage) -> Self {
        let max = usage.limit.map_or(self.max, |limit| limit.min(self.max));
        let min_free = if self.min_free.saturating_mul(2) < max { self.min_free } else { max / 5 };
        Self { max, min_free }
    }

    pub fn is_exceeded_by(&self, usage: &Usage) -> bool {
        usage.used > self.high_mark()
    }

    /// Bytes to drop until autodrop ends.
    pub fn excess(&self, usage: &Usage) -> u64 {
        usage.used.saturating_sub(self.low_mark())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BUDGET: Budget = Budget { max: 100, min_free: 10 };

    fn usage(used: u64, limit: Option<u64>) -> Usage {
        Usage { used, limit, cpu: None }
    }

    #[test]
    fn autodrop_begins_under_the_threshold_and_ends_at_twice_of_it() {
        assert!(!BUDGET.is_exceeded_by(&usage(90, None)));
        assert!(BUDGET.is_exceeded_by(&usage(91, None)));
        assert_eq!(BUDGET.excess(&usage(91, None)), 11);
        assert_eq!(BUDGET.excess(&usage(80, None)), 0);
    }

    #[test]
    fn the_stores_own_limit_counts_if_it_is_less() {
        assert_eq!(BUDGET.limited_by(&usage(0, None)), BUDGET);
        assert_eq!(BUDGET.limited_by(&usage(0, Some(1000))), BUDGET);
        let less = Budget { max: 50, min_free: 10 };
        assert_eq!(BUDGET.limited_by(&usage(0, Some(50))), less);
        let tiny = Budget { max: 15, min_free: 3 };
        assert_eq!(BUDGET.limited_by(&usage(0, Some(15))), tiny);
    }
}
