//! Whether a certificate that was shown is good, in words that tell what is wrong with it.

use rustls::CertificateError;

use crate::tls::certificate::{Age, Facts, day};
use crate::tls::probe::Shown;
use crate::tls::refusal::{self, NAMELESS};

/// From this many days before its end on, a certificate that was not renewed is worth a word.
const EXPIRES_SOON_DAYS: i64 = 30;

/// What is to be said of a certificate.
#[derive(Debug, PartialEq, Eq)]
pub enum Trust {
    Good { until: String },
    ExpiresSoon { until: String, days: i64 },
    Bad { why: Flaw },
}

#[derive(Debug, PartialEq, Eq)]
pub enum Flaw {
    Expired { on: String },
    NotYetValid { from: String },
    WrongName { names: Vec<String> },
    UnknownIssuer,
    Other(String),
}

/// Judges what a server has shown. `now_s` is the time, in seconds since the epoch.
///
/// # Errors
/// If the certificate cannot be read.
pub fn judge(shown: &Shown, now_s: i64) -> anyhow::Result<Trust> {
    let facts = Facts::of(&shown.certificate)?;
    let until = day(facts.not_after)?;
    let Err(error) = &shown.verdict else { return Ok(by_age(&facts, until, now_s)) };
    let why = match facts.age(now_s) {
        Age::Expired => Flaw::Expired { on: until },
        Age::NotYetValid => Flaw::NotYetValid { from: day(facts.not_before)? },
        Age::Valid { .. } => flaw(error, facts.names),
    };
    Ok(Trust::Bad { why })
}

/// Judges a certificate by its dates alone.
///
/// # Errors
/// If a date is in no calendar.
pub fn judge_dates(facts: &Facts, now_s: i64) -> anyhow::Result<Trust> {
    let until = day(facts.not_after)?;
    Ok(match facts.age(now_s) {
        Age::Expired => Trust::Bad { why: Flaw::Expired { on: until } },
        Age::NotYetValid => Trust::Bad { why: Flaw::NotYetValid { from: day(facts.not_before)? } },
        Age::Valid { .. } => by_age(facts, until, now_s),
    })
}

fn by_age(facts: &Facts, until: String, now_s: i64) -> Trust {
    match facts.age(now_s) {
        Age::Valid { days } if days < EXPIRES_SOON_DAYS => Trust::ExpiresSoon { until, days },
        // One that is not valid is trusted where nothing is checked.
        _ => Trust::Good { until },
    }
}

fn flaw(error: &rustls::Error, names: Vec<String>) -> Flaw {
    use CertificateError::{NotValidForName, NotValidForNameContext, UnknownIssuer};
    match error {
        rustls::Error::InvalidCertificate(UnknownIssuer) => Flaw::UnknownIssuer,
        rustls::Error::InvalidCertificate(NotValidForName | NotValidForNameContext { .. }) => {
            Flaw::WrongName { names }
        }
        rustls::Error::InvalidCertificate(other) => Flaw::Other(refusal::flaw_told(other)),
        other => Flaw::Other(format!("is not trusted: {}", refusal::told(other))),
    }
}

impl std::fmt::Display for Flaw {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Expired { on } => write!(f, "expired on {on}"),
            Self::NotYetValid { from } => write!(f, "is valid from {from} on only"),
            Self::WrongName { names } if names.is_empty() => f.write_str(NAMELESS),
            Self::WrongName { names } => write!(f, "is for {} only", names.join(", ")),
            Self::UnknownIssuer => f.write_str("comes from an authority that is not trusted"),
            Self::Other(reason) => f.write_str(reason),
        }
    }
}
