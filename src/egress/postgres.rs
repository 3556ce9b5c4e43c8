//! Connections to PostgreSQL.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, anyhow};
use tokio_postgres::{Client, Config};
use tokio_postgres_rustls::MakeRustlsConnect;

use crate::causes;
use crate::tls::trust;

/// Whom to connect to, and how.
#[derive(Clone)]
pub struct PostgresOptions {
    pub config: Config,
    /// Files with certificate authorities to trust beside the system's.
    pub ca_files: Vec<PathBuf>,
    /// For a connection to stand.
    pub connect_timeout: Duration,
}

/// Reads a URL such as `postgres://user:password@host/database`, with what the driver knows besides: `sslmode` is
/// `disable`, `prefer` or `require`, and a certificate is always checked.
///
/// # Errors
/// What is wrong with it; nothing of it is repeated.
pub fn read(url: &str) -> anyhow::Result<Config> {
    let is_url = url.starts_with("postgres://") || url.starts_with("postgresql://");
    let config: Config = url.parse().ok().filter(|_| is_url).ok_or_else(|| {
        anyhow!("must be a URL such as postgres://user:password@host:5432/database")
    })?;
    if config.get_hosts().is_empty() {
        return Err(anyhow!("must have a host"));
    }
    Ok(config)
}

/// Where it leads, for people: without user and password.
pub fn name(config: &Config) -> String {
    let hosts: Vec<String> = config
        .get_hosts()
        .iter()
        .map(|host| match host {
            tokio_postgres::config::Host::Tcp(host) => host.clone(),
            #[cfg(unix)]
            tokio_postgres::config::Host::Unix(path) => path.display().to_string(),
        })
        .collect();
    let ports: Vec<String> = config.get_ports().iter().map(u16::to_string).collect();
    let port = if ports.is_empty() { String::new() } else { format!(":{}", ports.join(",")) };
    let database = config.get_dbname().unwrap_or_default();
    format!("postgres://{}{port}/{database}", hosts.join(","))
}

/// Connects. The connection is driven by a task of its own, and ends with the client.
///
/// # Errors
/// Why there is none, in words.
pub async fn connect(options: &PostgresOptions) -> anyhow::Result<Client> {
    let mut config = options.config.clone();
    config.connect_timeout(options.connect_timeout).application_name("routemaster");
    let tls = MakeRustlsConnect::new(trust::config(&options.ca_files, None)?);
    let name = name(&config);
    let connecting = tokio::time::timeout(options.connect_timeout * 2, config.connect(tls));
    let (client, connection) = match connecting.await {
        Ok(connected) => connected
            .map_err(|error| anyhow!(told(&error)))
            .with_context(|| format!("failed to connect to {name}"))?,
        Err(_) => return Err(anyhow!("failed to connect to {name}: no answer in time")),
    };
    tokio::spawn(async move {
        if let Err(error) = connection.await {
            tracing::debug!(error = told(&error), "a connection to PostgreSQL has ended");
        }
    });
    Ok(client)
}

/// An error in words: the server's own, or its last cause.
pub fn told(error: &tokio_postgres::Error) -> String {
    if let Some(server) = error.as_db_error() {
        return server.message().to_owned();
    }
    match causes::tls(error) {
        Some(tls) => format!(
            "{} (sslmode=disable in the URL connects without TLS)",
            crate::tls::refusal::told(tls)
        ),
        None => causes::root(error).to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_is_read_and_shown_without_its_secrets() {
        let config = read("postgres://bus:s3cr3t@db.example:5433/history?sslmode=require").unwrap();
        assert_eq!(name(&config), "postgres://db.example:5433/history");
        for wrong in ["", "redis://a", "postgres://", "host=a user=b", "postgres://a:b@c:port/d"] {
            let error = read(wrong).unwrap_err().to_string();
            assert!(error.starts_with("must "), "{wrong}: {error}");
        }
    }
}
