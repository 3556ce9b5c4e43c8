//! Connects to an HTTPS server up to the end of the TLS handshake, and sends no request.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpStream;
use tokio::time::{Instant, timeout_at};
use url::{Host, Url};

use crate::egress::rules::{Denied, EgressRules};
use crate::tls::probe::{Probe, Shown};
use crate::tls::refusal;

/// Why there was no handshake.
#[derive(Debug)]
pub enum Failure {
    Denied(Denied),
    NotFound {
        host: String,
        reason: String,
    },
    Refused,
    /// No connection.
    TimedOut(Duration),
    /// A connection, and then no end of the handshake.
    Silent(Duration),
    NotTls,
    Broken(String),
}

/// Connects with the trust and to the addresses of some client.
pub struct Dialler {
    pub probe: Probe,
    /// Which addresses may be connected to; none: any.
    pub rules: Option<Arc<EgressRules>>,
    /// For everything together.
    pub limit: Duration,
}

impl Dialler {
    /// # Errors
    /// Why the server could not be seen.
    pub async fn dial(&self, url: &Url) -> Result<Shown, Failure> {
        let deadline = Instant::now() + self.limit;
        let host = url.host().ok_or_else(|| Failure::Broken("the URL has no host".into()))?;
        let name = match host {
            Host::Domain(name) => name.trim_end_matches('.').to_owned(),
            Host::Ipv4(address) => address.to_string(),
            Host::Ipv6(address) => address.to_string(),
        };
        let connected = timeout_at(deadline, self.connect(url, host)).await;
        let stream = connected.unwrap_or(Err(Failure::TimedOut(self.limit)))?;
        let shaken = timeout_at(deadline, self.probe.handshake(stream, &name)).await;
        shaken.map_err(|_| Failure::Silent(self.limit))?.map_err(handshake_failure)
    }

    async fn connect(&self, url: &Url, host: Host<&str>) -> Result<TcpStream, Failure> {
        let port = url.port_or_known_default().unwrap_or(443);
        let addresses: Vec<SocketAddr> = match host {
            Host::Ipv4(address) => vec![(IpAddr::from(address), port).into()],
            Host::Ipv6(address) => vec![(IpAddr::from(address), port).into()],
            Host::Domain(name) => {
                let not_found = |error: io::Error| Failure::NotFound {
                    host: name.to_owned(),
                    reason: error.to_string(),
                };
                tokio::net::lookup_host((name, port)).await.map_err(not_found)?.collect()
            }
        };
        let allowed = self.allowed(addresses)?;
        TcpStream::connect(&allowed[..]).await.map_err(|error| match error.kind() {
            io::ErrorKind::ConnectionRefused => Failure::Refused,
            io::ErrorKind::TimedOut => Failure::TimedOut(self.limit),
            _ => Failure::Broken(error.to_string()),
        })
    }

    fn allowed(&self, addresses: Vec<SocketAddr>) -> Result<Vec<SocketAddr>, Failure> {
        let Some(rules) = &self.rules else { return Ok(addresses) };
        let (mut allowed, mut denied) = (Vec::new(), None);
        for address in addresses {
            match rules.check_address(address.ip()) {
                Ok(()) => allowed.push(address),
                Err(reason) => denied = denied.or(Some(reason)),
            }
        }
        match denied {
            Some(denied) if allowed.is_empty() => Err(Failure::Denied(denied)),
            _ => Ok(allowed),
        }
    }
}

fn handshake_failure(error: io::Error) -> Failure {
    let tls = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>());
    match tls {
        Some(rustls::Error::InvalidMessage(_)) => Failure::NotTls,
        Some(tls) => Failure::Broken(refusal::told(tls)),
        None => Failure::Broken(format!("the TLS handshake failed: {error}")),
    }
}
