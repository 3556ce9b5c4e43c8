//! Why something was not done.

use http::StatusCode;

use crate::Answer;

/// Why something was not done, or nobody knows whether it was.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The client cannot be made: its address, or a certificate authority.
    #[error("{0}")]
    Settings(String),
    /// There was no whole answer. Whether the bus has done what was asked is not known, unless `is_connect` says that it
    /// was never reached.
    #[error("the bus did not answer: {}", root(.0))]
    Unanswered(#[from] reqwest::Error),
    /// The answer was longer than anything that the bus says.
    #[error("the answer is longer than {0} bytes")]
    TooLong(usize),
    /// The bus answered, and did not do it.
    #[error("the bus refused this with {}: {}", .0.status.as_u16(), .0.reason())]
    Refused(Box<Answer>),
    /// The answer is not what a bus says.
    #[error("the answer was not understood: {0}")]
    Misunderstood(String),
}

impl Error {
    /// Whether the same request may well come to something a little later.
    pub fn may_pass(&self) -> bool {
        match self {
            Self::Unanswered(_) => true,
            Self::Refused(answer) => answer.may_pass(),
            Self::Settings(_) | Self::TooLong(_) | Self::Misunderstood(_) => false,
        }
    }

    /// What the bus answered, if it did.
    pub fn status(&self) -> Option<StatusCode> {
        match self {
            Self::Refused(answer) => Some(answer.status),
            _ => None,
        }
    }
}

/// The innermost cause, which says what the others hide.
fn root(error: &reqwest::Error) -> String {
    let mut cause: &dyn std::error::Error = error;
    while let Some(inner) = cause.source() {
        cause = inner;
    }
    cause.to_string()
}
