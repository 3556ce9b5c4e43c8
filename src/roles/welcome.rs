//! What a process says when it starts: where it is, who may use it, what to try next.

use std::io::Write;
use std::net::SocketAddr;
use std::path::Path;

use super::Role;
use crate::api::Routes;
use crate::bus::token::ClientToken;
use crate::cli::shell::{program, quoted};
use crate::config::{Settings, default_of};
use crate::store::Store;
use crate::telemetry::exceptions::ExceptionService;
use crate::telemetry::metrics::MetricService;
use crate::tls::development::ca_path;

/// Whether the token is allowed that `ROUTEMASTER_CLIENTS` has by default, which is no secret.
fn allows_default_client(settings: &Settings) -> bool {
    settings.clients.iter().any(is_default_client)
}

fn is_default_client(token: &ClientToken) -> bool {
    token.reveal() == default_of("ROUTEMASTER_CLIENTS")
}

/// Says what in the settings is dangerous or has no effect.
pub fn warn_about_settings(settings: &Settings, role: Role) {
    if role != Role::Web && !settings.ssl_verify {
        tracing::warn!("ROUTEMASTER_SSL_VERIFY is off: anybody can pose as a callback");
    }
    warn_about_settings_without_effect(settings);
    let Some(routes) = role.routes(settings) else {
        if settings.metrics == MetricService::Prometheus {
            tracing::warn!(
                "METRIC_COLLECTION_SERVICE=prometheus without ROUTEMASTER_METRICS_PORT: nobody \
                 can read this worker's metrics"
            );
        }
        return;
    };
    if allows_default_client(settings) && !settings.bind.is_loopback() {
        tracing::warn!(
            "the client `{}` is allowed and ROUTEMASTER_BIND is not this machine alone: anybody \
             who reaches it can {}; set ROUTEMASTER_CLIENTS",
            default_of("ROUTEMASTER_CLIENTS"),
            if routes == Routes::Api { "publish" } else { "read metrics" }
        );
    }
    if !settings.tls && !settings.trust_proxy {
        tracing::warn!(
            "ROUTEMASTER_TLS=off without ROUTEMASTER_TRUST_PROXY=true: every request is \
             redirected to HTTPS, which nobody serves"
        );
    }
    if settings.uses_development_certificate() {
        tracing::warn!(
            "using a development certificate, which is good for localhost only; set \
             ROUTEMASTER_TLS_CERT and ROUTEMASTER_TLS_KEY"
        );
    }
}

/// Says which settings belong to a service that was not chosen.
fn warn_about_settings_without_effect(settings: &Settings) {
    let (metrics, exceptions) = (settings.metrics, settings.exception_service);
    for (name, is_set, has_effect, needs) in [
        (
            "EXCEPTION_SERVICE_URL",
            settings.exception_service_url.is_some(),
            exceptions != ExceptionService::Print,
            "an EXCEPTION_SERVICE",
        ),
        (
            "HONEYBADGER_API_KEY",
            settings.honeybadger_api_key.is_some(),
            exceptions == ExceptionService::Honeybadger,
            "EXCEPTION_SERVICE=honeybadger",
        ),
        (
            "NEW_RELIC_LICENSE_KEY",
            settings.new_relic_license_key.is_some(),
            exceptions == ExceptionService::NewRelic,
            "EXCEPTION_SERVICE=new_relic",
        ),
        (
            "DATADOG_API_KEY",
            settings.datadog_api_key.is_some(),
            metrics == MetricService::Datadog,
            "METRIC_COLLECTION_SERVICE=datadog",
        ),
        (
            "ROUTEMASTER_METRICS_PORT",
            settings.metrics_port.is_some(),
            metrics == MetricService::Prometheus,
            "METRIC_COLLECTION_SERVICE=prometheus",
        ),
    ] {
        if is_set && !has_effect {
            tracing::warn!("{name} has no effect: it needs {needs}");
        }
    }
}

/// Says where the API is and, on the first minutes' settings, what to try.
pub fn print_web(
    settings: &Settings,
    store: &dyn Store,
    address: SocketAddr,
    role: Role,
) -> anyhow::Result<()> {
    let url = url_of(settings, address);
    let mut out = std::io::stdout().lock();
    writeln!(out, "Routemaster {} is listening on {url}", env!("CARGO_PKG_VERSION"))?;
    writeln!(out, "  store    {}", store.describe())?;
    writeln!(out, "  clients  {}", clients(settings))?;
    let worker = if role == Role::Serve { "in this process" } else { "not in this process" };
    writeln!(out, "  worker   {worker}")?;
    if allows_default_client(settings) && settings.uses_development_certificate() {
        print_first_steps(&mut out, settings, &url, address.port())?;
    }
    out.flush()?;
    Ok(())
}

/// Says that batches are delivered from now on, and where the metrics are, if they are anywhere.
pub fn print_worker(
    settings: &Settings,
    store: &dyn Store,
    metrics: Option<SocketAddr>,
) -> anyhow::Result<()> {
    let mut out = std::io::stdout().lock();
    writeln!(out, "Routemaster {} worker is running", env!("CARGO_PKG_VERSION"))?;
    writeln!(out, "  store    {}", store.describe())?;
    if let Some(address) = metrics {
        writeln!(out, "  metrics  {}/metrics", url_of(settings, address))?;
    }
    out.flush()?;
    Ok(())
}

fn url_of(settings: &Settings, address: SocketAddr) -> String {
    let scheme = if settings.tls { "https" } else { "http" };
    let loopback = address.ip().is_loopback() || address.ip().is_unspecified();
    let host = if loopback { "localhost".into() } else { host_of(address) };
    format!("{scheme}://{host}:{}", address.port())
}

fn host_of(address: SocketAddr) -> String {
    match address {
        SocketAddr::V4(address) => address.ip().to_string(),
        SocketAddr::V6(address) => format!("[{}]", address.ip()),
    }
}

/// The clients of the settings, without their secrets.
fn clients(settings: &Settings) -> String {
    let names = settings.clients.iter().map(|token| match is_default_client(token) {
        true => token.reveal().to_owned(),
        false => token.label(),
    });
    let names: Vec<_> = names.collect();
    if names.is_empty() { "none in ROUTEMASTER_CLIENTS".into() } else { names.join(", ") }
}

/// Three commands to paste, in the order in which they work.
fn print_first_steps(
    out: &mut impl Write,
    settings: &Settings,
    url: &str,
    port: u16,
) -> anyhow::Result<()> {
    let (program, client) = (program(), default_of("ROUTEMASTER_CLIENTS"));
    let mut options = String::new();
    if port.to_string() != default_of("PORT") {
        options += &format!(" --url {url}");
    }
    if settings.data_dir != Path::new(default_of("ROUTEMASTER_DATA_DIR")) {
        options += &format!(" --data-dir {}", quoted(&settings.data_dir.display().to_string()));
    }
    let ca = quoted(&ca_path(&settings.data_dir).display().to_string());
    writeln!(
        out,
        "
Try next, in other terminals:

  # publish an event: anything that speaks HTTPS can
  curl --cacert {ca} -u {client}: {url}/topics/widgets \\
    -d '{{\"type\":\"create\",\"url\":\"https://example.com/widgets/1\"}}'

  # receive the topic's events from now on, in batches
  {program} listen widgets{options}

  # publish one more, and see it arrive
  {program} publish widgets update https://example.com/widgets/1{options}
"
    )?;
    Ok(())
}
