//! Attempts at a delivery that failed: why, for those who look what holds a queue up.

/// Which statuses of a callback acknowledge a batch (contract §4).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Acknowledgement {
    /// 200 and 204, as the original's README says.
    OkOrNoContent,
    /// Any of 200 to 299, as the original's server did.
    AnySuccess,
}

impl Acknowledgement {
    pub fn is_given_by(self, status: u16) -> bool {
        match self {
            Self::OkOrNoContent => matches!(status, 200 | 204),
            Self::AnySuccess => is_success(status),
        }
    }
}

/// Whether most would call it a success. Without being an acknowledgement, it is a misunderstanding
/// that its receiver should hear of.
pub fn is_success(status: u16) -> bool {
    (200..300).contains(&status)
}

/// Whether an answer refuses what was sent, rather than say that it comes at a bad time.
pub fn is_refusal(status: u16) -> bool {
    !matches!(status, 408 | 410 | 425 | 429 | 502..=504)
}

/// Why an attempt failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// The status of the answer, if there was one.
    pub status: Option<u16>,
    /// One line of at most [`Failure::REASON_MAX`] characters.
    pub reason: String,
}

impl Failure {
    pub const REASON_MAX: usize = 300;

    /// Line breaks and other control characters of the reason are blanked, what is too long is cut.
    pub fn new(status: Option<u16>, reason: &str) -> Self {
        let blank_controls = |c: char| if c.is_control() { ' ' } else { c };
        let reason = reason.chars().map(blank_controls).take(Self::REASON_MAX).collect();
        Self { status, reason }
    }
}

/// An attempt that failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FailedAttempt {
    /// When, in milliseconds since the epoch.
    pub at_ms: u64,
    /// Which one it was for its batch, from 1.
    pub attempt: u32,
    pub failure: Failure,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reason_is_one_line_of_bounded_length() {
        let failure = Failure::new(None, &format!("a\nb{}", "c".repeat(1000)));
        assert!(failure.reason.starts_with("a b"));
        assert_eq!(failure.reason.chars().count(), Failure::REASON_MAX);
    }
}
