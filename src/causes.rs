//! What is inside of an error.

use std::error::Error;
use std::io;

type Cause = dyn Error + 'static;

/// An error and its causes, outermost first. An `io::Error` hides the error it wraps from
/// [`Error::source`], so it is unwrapped by hand.
pub fn all(error: &Cause) -> impl Iterator<Item = &Cause> {
    std::iter::successors(Some(error), |&error| next_cause(error))
}

fn next_cause(error: &Cause) -> Option<&Cause> {
    match as_io(error).and_then(io::Error::get_ref) {
        Some(wrapped) => Some(wrapped),
        None => error.source(),
    }
}

fn as_io(error: &Cause) -> Option<&io::Error> {
    error.downcast_ref()
}

/// What of TLS went wrong.
pub fn tls(error: &Cause) -> Option<&rustls::Error> {
    all(error).find_map(|cause| cause.downcast_ref())
}

/// What the system reported.
pub fn io(error: &Cause) -> Option<&io::Error> {
    all(error).find_map(as_io)
}

/// The codes of the system that stand in it.
pub fn io_codes(error: &Cause) -> impl Iterator<Item = i32> {
    all(error).filter_map(|cause| as_io(cause)?.raw_os_error())
}

/// What it all came from.
pub fn root(error: &Cause) -> &Cause {
    all(error).last().unwrap_or(error)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_inside_of_an_io_error_is_found() {
        let unknown = rustls::Error::InvalidCertificate(rustls::CertificateError::UnknownIssuer);
        let wrapped = io::Error::new(io::ErrorKind::InvalidData, unknown);
        let outer = io::Error::other(wrapped);
        assert!(matches!(tls(&outer), Some(rustls::Error::InvalidCertificate(_))));
        assert!(root(&outer).to_string().contains("UnknownIssuer"));
    }
}
