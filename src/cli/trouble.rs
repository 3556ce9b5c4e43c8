//! Why a request to the bus came to nothing, in words that tell a person what to do about it.

use std::io;
use std::time::Duration;

use crate::causes;
use crate::tls::refusal;

/// There was no answer.
#[derive(Debug, thiserror::Error)]
pub enum Trouble {
    #[error(
        "no bus answers at {url}: start one with `routemaster`, or say with --url where it listens"
    )]
    NoBus { url: String },
    #[error("the host of {url} is not found: say with --url where the bus listens ({reason})")]
    NoHost { url: String, reason: String },
    #[error(
        "the certificate of {url} {reason}; if the bus made its certificate \
         itself, name its data directory with --data-dir; else name the certificate's authority, \
         a PEM file, with --ca-file"
    )]
    Untrusted { url: String, reason: String },
    #[error("what answers at {url} does not speak TLS: say with --url where the bus listens")]
    NotTls { url: String },
    #[error("the bus at {url} did not answer within {} s", .after.as_secs())]
    TimedOut { url: String, after: Duration },
    #[error("the connection to {url} failed: {reason}")]
    Lost { url: String, reason: String },
}

impl Trouble {
    /// What the client of the bus reports of a request without an answer.
    pub fn of(url: &str, error: routemaster_client::Error, after: Duration) -> Self {
        match error {
            routemaster_client::Error::Unanswered(error) => Self::new(url, &error, after),
            other => Self::Lost { url: url.to_owned(), reason: other.to_string() },
        }
    }

    /// Sorts what the HTTP client reports. `after` is how long a request may take in all.
    pub fn new(url: &str, error: &reqwest::Error, after: Duration) -> Self {
        let url = url.to_owned();
        match causes::tls(error) {
            Some(rustls::Error::InvalidCertificate(flaw)) => {
                return Self::Untrusted { url, reason: refusal::flaw_told(flaw) };
            }
            Some(rustls::Error::InvalidMessage(_)) => return Self::NotTls { url },
            Some(other) => return Self::Lost { url, reason: refusal::told(other) },
            None => {}
        }
        let reason = causes::root(error).to_string();
        let refused = |error: &io::Error| error.kind() == io::ErrorKind::ConnectionRefused;
        if error.is_dns() {
            Self::NoHost { url, reason }
        } else if causes::io(error).is_some_and(refused) {
            Self::NoBus { url }
        } else if error.is_timeout() && !error.is_connect() {
            Self::TimedOut { url, after }
        } else {
            Self::Lost { url, reason }
        }
    }

    /// Whether it may go away without anybody changing the command.
    pub fn may_pass(&self) -> bool {
        matches!(self, Self::NoBus { .. } | Self::TimedOut { .. } | Self::Lost { .. })
    }
}
