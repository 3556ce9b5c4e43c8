//! The callbacks of all subscribers: whether a worker with these settings, on this machine, would get
//! a connection to them. No request is sent.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use futures_util::{StreamExt, stream};
use tokio::net::TcpStream;

use super::dial::{Dialler, Failure};
use super::finding::{Finding, Verdict};
use super::trust::{Flaw, Trust, judge};
use crate::bus::clock::Clock;
use crate::bus::subscription::CallbackUrl;
use crate::cli::monitoring::{Subscription, veil};
use crate::cli::words::counted;
use crate::config::{Settings, Survey};
use crate::egress::proxy::Proxy;
use crate::egress::rules::EgressRules;
use crate::tls::development::ca_path;
use crate::tls::probe::Probe;

const CHECK: &str = "callbacks";

/// How many are connected to at once.
const AT_ONCE: usize = 16;
/// A worker may wait longer than a person.
const LIMIT_MAX: Duration = Duration::from_secs(10);

/// What decides whether a worker gets through. One that is bad leaves nothing to say.
const SETTINGS_THAT_MATTER: [&str; 6] = [
    "ROUTEMASTER_SSL_VERIFY",
    "ROUTEMASTER_CALLBACK_CA_FILE",
    "ROUTEMASTER_CALLBACK_DENY",
    "ROUTEMASTER_CALLBACK_ALLOW",
    "ROUTEMASTER_CONNECT_TIMEOUT",
    "ROUTEMASTER_OUTBOUND_PROXY",
];

pub async fn check(subscriptions: Option<&[Subscription]>, survey: &Survey) -> Vec<Finding> {
    let Some(subscriptions) = subscriptions else {
        return vec![Finding::skipped(CHECK, "not looked at: the bus has not told them")];
    };
    if let Some(name) = SETTINGS_THAT_MATTER.iter().find(|name| survey.is_bad(name)) {
        let why = format!("not looked at: {name} must be mended first");
        return vec![Finding::skipped(CHECK, why)];
    }
    let settings = &survey.settings;
    if let Some(proxy) = &settings.outbound_proxy {
        return vec![of_proxy(proxy, settings.connect_timeout.min(LIMIT_MAX)).await];
    }
    if subscriptions.is_empty() {
        return vec![Finding::ok(CHECK, "nobody is subscribed")];
    }
    let rules = Arc::new(settings.egress_rules());
    let probe = match Probe::new(&ca_files(settings), settings.ssl_verify) {
        Ok(probe) => probe,
        Err(error) => {
            let advice = "correct ROUTEMASTER_CALLBACK_CA_FILE: workers do not start";
            return vec![Finding::problem(CHECK, format!("{error:#}"), advice)];
        }
    };
    let limit = settings.connect_timeout.min(LIMIT_MAX);
    let dialler = Dialler { probe, rules: Some(rules.clone()), limit };
    let subscribed = subscriptions.iter().filter_map(|subscription| {
        Some((subscription.subscriber.as_str(), subscription.callback.as_deref()?))
    });
    let looks = stream::iter(subscribed).map(|subscribed| look(subscribed, &dialler, &rules));
    let mut findings: Vec<Finding> = looks.buffered(AT_ONCE).collect().await;
    // Those that are well are told in one line.
    let all = findings.len() as u64;
    findings.retain(|finding| finding.result != Verdict::Ok);
    let well = all - findings.len() as u64;
    if well > 0 {
        let what = counted(well, "callback takes", "callbacks take");
        let of = if well < all { format!(" (of {all})") } else { String::new() };
        findings.insert(0, Finding::ok(CHECK, format!("{what} connections{of}")));
    }
    findings
}

/// Where everything goes through a proxy, whether that is there. What it lets through, deliveries tell.
async fn of_proxy(proxy: &Proxy, limit: Duration) -> Finding {
    let address = proxy.address();
    let connected = tokio::time::timeout(limit, TcpStream::connect(address)).await;
    let why = match connected {
        Ok(Ok(_)) => {
            let found = format!(
                "the proxy {address} takes connections; what is behind it was not looked at"
            );
            return Finding::ok(CHECK, found);
        }
        Ok(Err(error)) => error.to_string(),
        Err(_) => format!("no connection within {} s", limit.as_secs_f64()),
    };
    let found = format!("the proxy {address}, through which all deliveries go: {why}");
    Finding::problem(CHECK, found, "correct ROUTEMASTER_OUTBOUND_PROXY, or look at the proxy")
}

/// Whom a worker trusts beside the system's authorities. It makes the development authority; who only
/// looks does not.
fn ca_files(settings: &Settings) -> Vec<PathBuf> {
    let mut ca_files: Vec<_> = settings.callback_ca_file.iter().cloned().collect();
    let development_ca = ca_path(&settings.data_dir);
    if settings.uses_development_certificate() && development_ca.exists() {
        ca_files.push(development_ca);
    }
    ca_files
}

async fn look((subscriber, url): (&str, &str), dialler: &Dialler, rules: &EgressRules) -> Finding {
    let subscriber = veil(subscriber);
    let finding = match CallbackUrl::parse(url) {
        Err(reason) => Finding::problem(CHECK, format!("{url} {reason}"), "let it subscribe anew"),
        Ok(callback) => match rules.check(callback.as_url()) {
            Err(denied) => unreached(&callback, &Failure::Denied(denied)),
            Ok(()) => match dialler.dial(callback.as_url()).await {
                Err(failure) => unreached(&callback, &failure),
                Ok(shown) => {
                    let now_s = (Clock::system().now_ms() / 1000) as i64;
                    match judge(&shown, now_s) {
                        Ok(trust) => of_trust(&callback, trust),
                        Err(error) => {
                            let found = format!("{url}: {error:#}");
                            Finding::problem(CHECK, found, "the subscriber must show another one")
                        }
                    }
                }
            },
        },
    };
    finding.about(subscriber)
}

fn unreached(callback: &CallbackUrl, failure: &Failure) -> Finding {
    let url = callback.as_str();
    let port = callback.as_url().port_or_known_default().unwrap_or(443);
    let problem =
        |why: String, advice: String| Finding::problem(CHECK, format!("{url}: {why}"), advice);
    match failure {
        Failure::Denied(denied) => problem(
            denied.to_string(),
            "nothing is delivered there: the subscriber needs another callback, or you change the \
             rule (docs/callback-safety.md)"
                .into(),
        ),
        Failure::NotFound { host, reason } => problem(
            format!("the name {host} is not found ({reason})"),
            "look at the name, and whether the DNS of this machine works".into(),
        ),
        Failure::Refused => problem(
            "connection refused".into(),
            format!("is the subscriber running, and does it listen on port {port}?"),
        ),
        Failure::TimedOut(limit) => problem(
            format!("no connection within {} s", limit.as_secs_f64()),
            "look whether the machine is up and a firewall is in between; what is merely slow needs \
             a longer ROUTEMASTER_CONNECT_TIMEOUT"
                .into(),
        ),
        Failure::Silent(limit) => problem(
            format!("takes connections, and no TLS handshake within {} s", limit.as_secs_f64()),
            format!("look whether it is overloaded, and serves HTTPS on port {port}"),
        ),
        Failure::NotTls => problem(
            "does not speak TLS".into(),
            format!("let the subscriber serve HTTPS on port {port}"),
        ),
        Failure::Broken(reason) => {
            problem(reason.clone(), "the log of the subscriber's server says more".into())
        }
    }
}

fn of_trust(callback: &CallbackUrl, trust: Trust) -> Finding {
    let url = callback.as_str();
    let renew = "the subscriber must renew it";
    match trust {
        Trust::Good { .. } => Finding::ok(CHECK, url),
        Trust::ExpiresSoon { until, days } => {
            let found = format!("{url}: its certificate expires in {days} days, on {until}");
            Finding::warning(CHECK, found, renew)
        }
        Trust::Bad { why } => {
            let host = callback.as_url().host_str().unwrap_or_default();
            let advice = match &why {
                Flaw::Expired { .. } => renew.to_owned(),
                Flaw::NotYetValid { .. } => "set the clocks right, or issue it anew".into(),
                Flaw::WrongName { .. } => format!("the subscriber must show one for {host}"),
                Flaw::UnknownIssuer => "let ROUTEMASTER_CALLBACK_CA_FILE name its authority, and \
                                        the subscriber show the whole chain"
                    .into(),
                Flaw::Other(_) => "the subscriber must show another one".into(),
            };
            Finding::problem(CHECK, format!("{url}: its certificate {why}"), advice)
        }
    }
}
