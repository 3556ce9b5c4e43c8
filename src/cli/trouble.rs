//! Why a request to the bus came to nothing, in words that tell a person what to do about it.

use std::error::Error;
use std::io;
use std::time::Duration;

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
        "the certificate of {url} is not trusted ({reason}): if the bus made its certificate \
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
    /// Sorts what the HTTP client reports. `after` is how long a request may take in all.
    pub fn new(url: &str, error: &reqwest::Error, after: Duration) -> Self {
        let url = url.to_owned();
        let reason = root_cause(error).to_string();
        match find(error, as_tls) {
            Some(rustls::Error::InvalidCertificate(_)) => return Self::Untrusted { url, reason },
            Some(rustls::Error::InvalidMessage(_)) => return Self::NotTls { url },
            _ => {}
        }
        let refused = |error: &io::Error| error.kind() == io::ErrorKind::ConnectionRefused;
        if error.is_dns() {
            Self::NoHost { url, reason }
        } else if find(error, as_io).is_some_and(refused) {
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

type Cause = dyn Error + 'static;

/// An error and its causes, outermost first. An `io::Error` hides the error it wraps from
/// [`Error::source`], so it is unwrapped by hand.
fn causes(error: &Cause) -> impl Iterator<Item = &Cause> {
    std::iter::successors(Some(error), |&error| next_cause(error))
}

fn next_cause(error: &Cause) -> Option<&Cause> {
    match as_io(error).and_then(io::Error::get_ref) {
        Some(wrapped) => Some(wrapped),
        None => error.source(),
    }
}

fn find<'a, T>(error: &'a Cause, pick: fn(&'a Cause) -> Option<&'a T>) -> Option<&'a T> {
    causes(error).find_map(pick)
}

fn as_io(error: &Cause) -> Option<&io::Error> {
    error.downcast_ref()
}

fn as_tls(error: &Cause) -> Option<&rustls::Error> {
    error.downcast_ref()
}

fn root_cause(error: &Cause) -> &Cause {
    causes(error).last().unwrap_or(error)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_inside_of_an_io_error_is_found() {
        let tls = rustls::Error::InvalidCertificate(rustls::CertificateError::UnknownIssuer);
        let wrapped = io::Error::new(io::ErrorKind::InvalidData, tls);
        let outer = io::Error::other(wrapped);
        assert!(matches!(find(&outer, as_tls), Some(rustls::Error::InvalidCertificate(_))));
        assert!(root_cause(&outer).to_string().contains("UnknownIssuer"));
    }
}
