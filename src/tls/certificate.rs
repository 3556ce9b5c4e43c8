//! What a certificate says of itself: for whom it is and how long it holds.

use std::net::IpAddr;
use std::path::Path;

use anyhow::{Context, bail};
use rustls::pki_types::CertificateDer;
use x509_parser::prelude::{FromDer, GeneralName, X509Certificate};

use super::trust::read_certificates;

/// What a person wants to know of a certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Facts {
    /// The hosts it is for; its subject's common name if it names none.
    pub names: Vec<String>,
    /// Seconds since the epoch.
    pub not_before: i64,
    /// Seconds since the epoch.
    pub not_after: i64,
}

/// Where a certificate is in its life.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Age {
    NotYetValid,
    /// Holds for this many more days.
    Valid {
        days: i64,
    },
    Expired,
}

const DAY_S: i64 = 24 * 60 * 60;

impl Facts {
    /// # Errors
    /// If it is no certificate.
    pub fn of(certificate: &CertificateDer<'_>) -> anyhow::Result<Self> {
        let (_, parsed) = X509Certificate::from_der(certificate)
            .map_err(|error| anyhow::anyhow!("failed to read the certificate: {error}"))?;
        let alternatives = parsed.subject_alternative_name().ok().flatten();
        let general = alternatives.map_or(&[][..], |found| &found.value.general_names);
        let mut names: Vec<_> = general.iter().filter_map(name).collect();
        if names.is_empty() {
            let common = parsed.subject().iter_common_name();
            names.extend(common.filter_map(|name| name.as_str().ok()).map(str::to_owned));
        }
        let validity = parsed.validity();
        Ok(Self {
            names,
            not_before: validity.not_before.timestamp(),
            not_after: validity.not_after.timestamp(),
        })
    }

    /// `now_s` is the time, in seconds since the epoch.
    pub fn age(&self, now_s: i64) -> Age {
        if now_s < self.not_before {
            Age::NotYetValid
        } else if now_s > self.not_after {
            Age::Expired
        } else {
            Age::Valid { days: (self.not_after - now_s) / DAY_S }
        }
    }
}

/// The first certificate of a PEM file: the one that is for the host.
///
/// # Errors
/// If there is none.
pub fn first_of(file: &Path) -> anyhow::Result<CertificateDer<'static>> {
    let first = read_certificates(file)?.into_iter().next();
    let Some(first) = first else { bail!("there is no certificate in {}", file.display()) };
    Ok(first)
}

fn name(name: &GeneralName<'_>) -> Option<String> {
    match name {
        GeneralName::DNSName(name) => Some((*name).to_owned()),
        GeneralName::IPAddress(bytes) => {
            let v4 = <[u8; 4]>::try_from(*bytes).map(IpAddr::from);
            v4.or_else(|_| <[u8; 16]>::try_from(*bytes).map(IpAddr::from))
                .ok()
                .map(|address| address.to_string())
        }
        _ => None,
    }
}

/// The day in UTC: `2026-11-25`.
///
/// # Errors
/// If no calendar has it.
pub fn day(seconds: i64) -> anyhow::Result<String> {
    let time = x509_parser::time::ASN1Time::from_timestamp(seconds).context("no such time")?;
    Ok(time.to_datetime().date().to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_certificate_says_for_whom_and_until_when_it_is() {
        let names = vec!["bus.example".to_owned(), "127.0.0.1".to_owned(), "::1".to_owned()];
        let mut params = rcgen::CertificateParams::new(names.clone()).unwrap();
        params.not_before = rcgen::date_time_ymd(2025, 1, 1);
        params.not_after = rcgen::date_time_ymd(2026, 1, 31);
        let key = rcgen::KeyPair::generate().unwrap();
        let facts = Facts::of(params.self_signed(&key).unwrap().der()).unwrap();
        assert_eq!(facts.names, names);
        assert_eq!(day(facts.not_after).unwrap(), "2026-01-31");
        assert_eq!(facts.age(facts.not_after + 1), Age::Expired);
        assert_eq!(facts.age(facts.not_before - 1), Age::NotYetValid);
        assert_eq!(facts.age(facts.not_after - 2 * DAY_S - 1), Age::Valid { days: 2 });
        assert!(Facts::of(&CertificateDer::from(&b"nonsense"[..])).is_err());
    }
}
