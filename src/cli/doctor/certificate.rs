//! Certificates of the bus: the one that it shows, and the files that it is set to show.

use std::time::Duration;

use url::Url;

use super::dial::{Dialler, Failure};
use super::finding::Finding;
use super::trust::{Flaw, Trust, judge, judge_dates};
use crate::bus::clock::Clock;
use crate::cli::connect::Bus;
use crate::config::{Settings, Survey};
use crate::tls::CertificateFiles;
use crate::tls::certificate::{Facts, first_of};
use crate::tls::probe::{Probe, Shown};

const CHECK: &str = "certificate";

/// For a connection to the bus to stand, TLS included.
const LIMIT: Duration = Duration::from_secs(5);

pub async fn check(bus: Option<&Bus>, survey: &Survey) -> Vec<Finding> {
    let files = files_of(&survey.settings);
    let (mut findings, shown) = match bus {
        Some(bus) => of_bus(bus).await,
        None => (vec![Finding::skipped(CHECK, "not looked at: no bus is asked")], None),
    };
    if let Some(files) = files {
        findings.extend(of_files(&files, bus, shown.as_ref()));
    }
    findings
}

/// The files that are set, if both are.
fn files_of(settings: &Settings) -> Option<CertificateFiles> {
    let files = settings.tls_cert.clone().zip(settings.tls_key.clone()).filter(|_| settings.tls);
    files.map(|(certificate, key)| CertificateFiles { certificate, key })
}

async fn of_bus(bus: &Bus) -> (Vec<Finding>, Option<Shown>) {
    let finding = |finding: Finding| (vec![finding], None);
    let probe = match Probe::new(bus.ca_files(), true) {
        Ok(probe) => probe,
        Err(error) => {
            let advice = "correct --ca-file, or the data directory";
            return finding(Finding::problem(CHECK, format!("{error:#}"), advice));
        }
    };
    let Ok(url) = Url::parse(bus.url()) else {
        return finding(Finding::skipped(CHECK, "not looked at: the bus has no URL"));
    };
    let dialler = Dialler { probe, rules: None, limit: LIMIT };
    let shown = match dialler.dial(&url).await {
        Ok(shown) => shown,
        // A handshake that fails is said here alone; the rest the bus's own check says.
        Err(Failure::Broken(reason)) => {
            let advice = "look at the log of the bus";
            return finding(Finding::problem(CHECK, reason, advice));
        }
        Err(Failure::Silent(limit)) => {
            let limit = limit.as_secs_f64();
            let found = format!("the bus takes connections, and no TLS handshake within {limit} s");
            let advice = "look whether its process is stopped or its machine overloaded";
            return finding(Finding::problem(CHECK, found, advice));
        }
        Err(_) => {
            return finding(Finding::skipped(CHECK, "not looked at: the bus was not reached"));
        }
    };
    let host = url.host_str().unwrap_or_default();
    (vec![of_shown(&shown, bus.url(), host)], Some(shown))
}

fn now_s() -> i64 {
    (Clock::system().now_ms() / 1000) as i64
}

const RENEW: &str = "renew it: the bus takes renewed files up within seconds, or at once on SIGHUP";

fn of_shown(shown: &Shown, url: &str, host: &str) -> Finding {
    let trust = match judge(shown, now_s()) {
        Ok(trust) => trust,
        Err(error) => return Finding::problem(CHECK, format!("{url}: {error:#}"), RENEW),
    };
    match trust {
        Trust::Good { until } => {
            Finding::ok(CHECK, format!("{url} shows one that is trusted, valid until {until}"))
        }
        Trust::ExpiresSoon { until, days } => {
            let found = format!("{url} shows one that expires in {days} days, on {until}");
            Finding::warning(CHECK, found, RENEW)
        }
        Trust::Bad { why } => {
            let found = format!("{url} shows one that {why}: no client gets through");
            let advice = match &why {
                Flaw::Expired { .. } => RENEW.to_owned(),
                Flaw::NotYetValid { .. } => "set the clocks right, or issue it anew".into(),
                Flaw::WrongName { .. } => {
                    format!("reach the bus by a name that it is for, or issue one for {host}")
                }
                Flaw::UnknownIssuer => "if the bus made its certificate itself, name its data \
                                        directory with ROUTEMASTER_DATA_DIR or --data-dir; else \
                                        the authority, a PEM file, with --ca-file; and let the bus \
                                        show the whole chain"
                    .into(),
                Flaw::Other(_) => "issue another one".into(),
            };
            Finding::problem(CHECK, found, advice)
        }
    }
}

fn of_files(files: &CertificateFiles, bus: Option<&Bus>, shown: Option<&Shown>) -> Vec<Finding> {
    let file = files.certificate.display();
    if let Err(error) = files.load() {
        let advice = "ROUTEMASTER_TLS_CERT must be a certificate chain and ROUTEMASTER_TLS_KEY its \
                      private key, both PEM files";
        return vec![Finding::problem(CHECK, format!("{error:#}"), advice)];
    }
    let read = first_of(&files.certificate)
        .and_then(|certificate| Ok((Facts::of(&certificate)?, certificate)))
        .and_then(|(facts, certificate)| Ok((judge_dates(&facts, now_s())?, certificate)));
    let (trust, certificate) = match read {
        Ok(read) => read,
        Err(error) => return vec![Finding::problem(CHECK, format!("{file}: {error:#}"), RENEW)],
    };
    let mut findings = vec![match trust {
        Trust::Good { until } => {
            Finding::ok(CHECK, format!("{file} goes with its key, and is valid until {until}"))
        }
        Trust::ExpiresSoon { until, days } => {
            Finding::warning(CHECK, format!("{file} expires in {days} days, on {until}"), RENEW)
        }
        Trust::Bad { why } => Finding::problem(CHECK, format!("{file} {why}"), RENEW),
    }];
    let other = shown.is_some_and(|shown| shown.certificate != certificate);
    if other && bus.is_some_and(Bus::is_local) {
        let found = format!("the bus shows another certificate than {file} holds");
        let advice = "if it is this bus, send it SIGHUP and see its log: it keeps the old one when \
                      the new one cannot be used";
        findings.push(Finding::warning(CHECK, found, advice));
    }
    findings
}
