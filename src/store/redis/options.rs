//! Which Redis, and how every connection to it is set up.
//!
//! fred would queue calls while Redis is away, for ever by default, and send them when it is
//! back: a publish that was answered with 503 long ago would then still be stored. So a call is
//! sent only while connected, waits a bounded time, and fred itself never sends it twice.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::anyhow;
use fred::prelude::{Builder, Config};
use fred::types::config::{
    ReconnectError, ReconnectPolicy, ServerConfig, TlsConfig, TlsConnector, TlsHostMapping,
};
use socket2::TcpKeepalive;

use crate::tls::CertificateFiles;
use crate::tls::trust;

/// Longest time any call takes before it gives
/// [`StoreError::Unavailable`](crate::store::StoreError::Unavailable).
pub const CALL_TIMEOUT: Duration = Duration::from_secs(4);
/// A server that has answered nothing for longer than this is connected to anew, or another one in
/// its place. Less than what a call may take: the first one that waits in vain tells.
pub const UNRESPONSIVE: Duration = Duration::from_secs(3);
/// How long each step of connecting may take. Of several servers one that hangs may be tried first, each
/// time, and may still be thought of as the one to connect to after that.
const CONNECT_STEP: Duration = Duration::from_secs(2);
/// How long a connection may say nothing until its other end is asked whether it is there.
const KEEPALIVE: Duration = Duration::from_secs(10);
/// Pauses between two tries to connect, in milliseconds; doubled from the first to the last.
const RECONNECT_MS: (u32, u32) = (50, 250);
/// How many calls wait for the connection at most.
const WAITING_MAX: usize = 10_000;

/// Which Redis, and how it is reached and used.
#[derive(Clone, Debug, Default)]
pub struct RedisOptions {
    pub url: String,
    /// Certificate authorities to trust beside the system's.
    pub ca_file: Option<PathBuf>,
    /// What this client shows a server that asks for a certificate.
    pub identity: Option<CertificateFiles>,
    /// How many replicas must have a change before it is answered for.
    pub wait_replicas: u32,
    /// How many lanes a store that is empty gets.
    pub lanes: Option<usize>,
    /// How many topics one client may have, if there is a limit.
    pub max_topics: Option<u32>,
    /// Whether nothing is to be decided: how many lanes an empty store gets is left open.
    pub look_only: bool,
}

impl RedisOptions {
    /// This server and nothing special.
    pub fn plain(url: &str) -> Self {
        Self { url: url.to_owned(), ..Self::default() }
    }

    /// What makes a client.
    ///
    /// # Errors
    /// If the URL cannot be understood, or a file cannot be used.
    pub fn builder(&self) -> anyhow::Result<Builder> {
        let mut config =
            Config::from_url(&self.url).map_err(|error| anyhow!("{}", error.details()))?;
        // Else fred tries the first time only once, and a Redis that starts later is never found.
        config.fail_fast = false;
        if config.tls.is_some() {
            let tls = trust::config(self.ca_file.as_slice(), self.identity.as_ref())?;
            let (connector, hostnames) = (TlsConnector::from(tls), TlsHostMapping::None);
            config.tls = Some(TlsConfig { connector, hostnames });
        }
        let mut builder = Builder::from_config(config);
        builder
            .with_connection_config(|connection| {
                connection.connection_timeout = CONNECT_STEP;
                connection.internal_command_timeout = CONNECT_STEP;
                connection.max_command_attempts = 1;
                // Where a Cluster has a lane now is learned from its answer, and the call is made
                // anew. A lane that is on its way must not be followed to its new node (ASK): only
                // a part of its keys may be there; see scripts/common.lua.
                connection.max_redirections = 0;
                connection.max_command_buffer_len = WAITING_MAX;
                connection.reconnect_on_auth_error = true;
                // A master that has become a replica: who is master now must be asked again.
                connection.reconnect_errors = vec![ReconnectError::ReadOnly];
                connection.auto_client_setname = true;
                connection.tcp.nodelay = Some(true);
                // What was not acknowledged by then is not retransmitted behind newer calls.
                connection.tcp.user_timeout = Some(CALL_TIMEOUT);
                // Wake-ups are only listened to: nothing else tells that their connection is dead.
                connection.tcp.keepalive =
                    Some(TcpKeepalive::new().with_time(KEEPALIVE).with_interval(KEEPALIVE));
            })
            .with_performance_config(|performance| {
                performance.default_command_timeout = CALL_TIMEOUT;
            })
            // 0 attempts means: without end.
            .set_policy(ReconnectPolicy::new_exponential(0, RECONNECT_MS.0, RECONNECT_MS.1, 2));
        Ok(builder)
    }

    pub fn is_cluster(&self) -> bool {
        Config::from_url(&self.url)
            .is_ok_and(|config| matches!(config.server, ServerConfig::Clustered { .. }))
    }

    /// The server for people: without password.
    pub fn describe(&self) -> String {
        match url::Url::parse(&self.url) {
            Ok(url) => {
                let (scheme, host) = (url.scheme(), url.host_str().unwrap_or_default());
                let port = url.port().map_or(String::new(), |port| format!(":{port}"));
                format!("Redis, {scheme}://{host}{port}{}", url.path().trim_end_matches('/'))
            }
            Err(_) => "Redis".into(),
        }
    }
}
