//! How a command may end other than well, where the exit code is more than "it failed".

use crate::bus::topic::InvalidTopicName;

/// A command line that cannot be used: exit code 2, as for a wrong setting.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct UsageError(pub String);

impl UsageError {
    pub fn new(reason: impl Into<String>) -> Self {
        Self(reason.into())
    }
}

impl From<InvalidTopicName> for UsageError {
    fn from(invalid: InvalidTopicName) -> Self {
        Self::new(invalid.to_string())
    }
}

/// What failed stands in the command's own output: exit code 1, and nothing more is said.
#[derive(Debug, thiserror::Error)]
#[error("the command has said what failed")]
pub struct AlreadyTold;
