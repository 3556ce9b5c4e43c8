//! What a process says when it has started: where it is, who may use it, what to try next.

use std::io::Write;
use std::net::SocketAddr;
use std::path::Path;

use crate::api::{CONSOLE, SignInLinks};
use crate::bus::token::ClientToken;
use crate::config::{Role, Settings, default_of};
use crate::shell::{program, quoted};
use crate::store::Store;
use crate::tls::development::ca_path;

/// Whether the token is allowed that `ROUTEMASTER_CLIENTS` has by default, which is no secret.
pub fn allows_default_client(settings: &Settings) -> bool {
    settings.clients.iter().any(is_default_client)
}

fn is_default_client(token: &ClientToken) -> bool {
    token.reveal() == default_of("ROUTEMASTER_CLIENTS")
}

/// Says where the API is and, on the first minutes' settings, what to try.
pub fn print_web(
    settings: &Settings,
    store: &dyn Store,
    address: SocketAddr,
    plain: &[SocketAddr],
    role: Role,
    links: &SignInLinks,
) -> anyhow::Result<()> {
    let url = url_of(settings, address);
    let mut out = std::io::stdout().lock();
    writeln!(out, "Routemaster {} is listening on {url}", env!("CARGO_PKG_VERSION"))?;
    writeln!(out, "  store    {}", store.describe())?;
    writeln!(out, "  clients  {}", clients(settings))?;
    let worker = if role == Role::Serve { "in this process" } else { "not in this process" };
    writeln!(out, "  worker   {worker}")?;
    for address in plain {
        writeln!(out, "  plain    http://{address}")?;
    }
    if settings.console {
        writeln!(out, "  console  {url}{CONSOLE}")?;
    }
    if allows_default_client(settings) && settings.uses_development_certificate() {
        if settings.console {
            let path = links.make(default_of("ROUTEMASTER_CLIENTS"))?;
            let client = default_of("ROUTEMASTER_CLIENTS");
            writeln!(
                out,
                "\nLook at it in a browser: this link signs {client} in, once.\n\n  {url}{path}"
            )?;
        }
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

/// Where a process is that listens on this address, for clients on this machine or elsewhere.
pub fn url_of(settings: &Settings, address: SocketAddr) -> String {
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
