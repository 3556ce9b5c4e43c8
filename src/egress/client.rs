//! The one place where HTTPS clients are built: for callbacks and for the operator's commands.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use reqwest::dns::Resolve;
use rustls::client::Resumption;

use super::reuse::NoticeConnects;
use crate::tls::trust;

/// What a client trusts and how long it waits.
pub struct ClientOptions {
    /// Files with certificate authorities to trust beside the system's.
    pub ca_files: Vec<PathBuf>,
    /// Whether certificates are checked at all.
    pub verify: bool,
    /// For a connection to stand, TLS included.
    pub connect_timeout: Duration,
    /// For a request from its start to the end of the answer.
    pub timeout: Duration,
    /// What looks up the names of hosts; none: the system's resolver, as it is.
    pub resolver: Option<Arc<dyn Resolve>>,
}

/// Receivers close idle connections after 5 s (Puma, Node.js) or later. A pooled connection is
/// given up before, so that a batch is not sent into one that is just being closed.
const POOL_IDLE_TIMEOUT: Duration = Duration::from_secs(4);

/// The most headers of an answer.
const HEADERS_MAX: usize = 500;

/// What clients of one kind are made from.
pub struct Template {
    options: ClientOptions,
    tls: rustls::ClientConfig,
}

impl Template {
    /// # Errors
    /// If a file with certificate authorities cannot be read.
    pub fn new(options: ClientOptions) -> anyhow::Result<Self> {
        let mut tls = if options.verify {
            trust::config(&options.ca_files, None)?
        } else {
            trust::config_for_all()?
        };
        // A ticket is kept by name alone, and would be shown in clear to another port of it, which may be
        // another server. Connections are kept instead.
        tls.resumption = Resumption::disabled();
        Ok(Self { options, tls })
    }

    /// Makes a client with connections of its own: pooled, HTTP/1.1, no redirects, no proxy from the
    /// environment.
    ///
    /// # Errors
    /// If TLS cannot be set up so.
    pub fn client(&self) -> reqwest::Result<reqwest::Client> {
        #[allow(clippy::disallowed_methods, reason = "this is the one place that may")]
        let builder = reqwest::Client::builder();
        let mut builder = builder
            .tls_backend_preconfigured(self.tls.clone())
            .user_agent(concat!("routemaster/", env!("CARGO_PKG_VERSION")))
            .connect_timeout(self.options.connect_timeout)
            .timeout(self.options.timeout)
            .pool_idle_timeout(POOL_IDLE_TIMEOUT)
            // What curl and Ruby's client read past is no failure.
            .http1_allow_spaces_after_header_name_in_responses(true)
            .http1_allow_obsolete_multiline_headers_in_responses(true)
            .http1_ignore_invalid_headers_in_responses(true)
            .http1_max_headers(HEADERS_MAX)
            .redirect(reqwest::redirect::Policy::none())
            .referer(false)
            .no_proxy()
            .https_only(true)
            .connector_layer(NoticeConnects);
        if let Some(resolver) = &self.options.resolver {
            builder = builder.dns_resolver(resolver.clone());
        }
        builder.build()
    }
}

/// As [`Template`], for one client only.
///
/// # Errors
/// If a file with certificate authorities cannot be read.
pub fn build(options: ClientOptions) -> anyhow::Result<reqwest::Client> {
    Ok(Template::new(options)?.client()?)
}
