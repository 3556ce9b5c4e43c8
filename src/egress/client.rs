//! The clients of services and commands, such as exception reports: the bus's own requests to receivers are
//! made by [`outbound`](super::outbound).

use std::path::PathBuf;
use std::time::Duration;

use crate::tls::trust;

/// What a client trusts and how long it waits.
pub struct ClientOptions {
    /// Files with certificate authorities to trust beside the system's.
    pub ca_files: Vec<PathBuf>,
    /// For a connection to stand, TLS included.
    pub connect_timeout: Duration,
    /// For a request from its start to the end of the answer.
    pub timeout: Duration,
    /// Whether `http://` will do.
    pub plain: bool,
}

/// Builds a client: pooled, HTTP/1.1, no redirects, no proxy from the environment.
///
/// # Errors
/// If a file with certificate authorities cannot be read.
pub fn build(options: &ClientOptions) -> anyhow::Result<reqwest::Client> {
    #[allow(clippy::disallowed_methods, reason = "this is the one place that may")]
    let builder = reqwest::Client::builder();
    let client = builder
        .tls_backend_preconfigured(trust::config(&options.ca_files, None)?)
        .user_agent(USER_AGENT)
        .connect_timeout(options.connect_timeout)
        .timeout(options.timeout)
        .redirect(reqwest::redirect::Policy::none())
        .referer(false)
        .no_proxy()
        .https_only(!options.plain)
        .build()?;
    Ok(client)
}

/// How the bus calls itself.
pub const USER_AGENT: &str = concat!("routemaster/", env!("CARGO_PKG_VERSION"));
