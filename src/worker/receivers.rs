//! Whom a worker sends to: the rules for it, and the connections.

use std::sync::Arc;
use std::time::Duration;

use crate::config::{SettingError, Settings};
use crate::egress::outbound::{OutboundOptions, OutboundTemplate};
use crate::egress::pools::Pools;
use crate::egress::resolver::CheckedResolver;
use crate::egress::rules::EgressRules;
use crate::telemetry::sparing::SparingLine;
use crate::tls::development::{self, DevelopmentCa};

/// What couriers send through.
#[derive(Clone)]
pub struct Receivers {
    pub pools: Arc<Pools>,
    pub rules: Arc<EgressRules>,
}

impl Receivers {
    /// # Errors
    /// If a file with certificate authorities cannot be read.
    pub fn new(settings: &Settings) -> anyhow::Result<Self> {
        let mut ca_files: Vec<_> = settings.callback_ca_file.iter().cloned().collect();
        // A bus that shows the development certificate trusts its siblings as callbacks. Made here
        // as well, because a worker may be the first to start; it is good for loopback names only.
        if settings.uses_development_certificate() {
            match DevelopmentCa::open_or_create(&settings.data_dir) {
                Ok(_) => ca_files.push(development::ca_path(&settings.data_dir)),
                Err(error) => tracing::warn!(
                    error = format!("{error:#}"),
                    "callbacks with a development certificate will be refused"
                ),
            }
        }
        let rules = Arc::new(settings.egress_rules());
        let resolver = Arc::new(CheckedResolver::new(rules.clone()));
        let template = OutboundTemplate::new(OutboundOptions {
            ca_files,
            verify: settings.ssl_verify,
            connect_timeout: settings.connect_timeout,
            resolver: resolver.clone(),
            proxy: settings.outbound_proxy.clone(),
        });
        // All that can be wrong with it comes from the settings.
        let template = template.map_err(|error| {
            let what = "ROUTEMASTER_CALLBACK_CA_FILE is not allowed";
            SettingError::Conflict(format!("{what}: {error:#}"))
        });
        Ok(Self { pools: Pools::new(template?, resolver), rules })
    }
}

/// The pause after something that there was no file for.
const NO_FILES_PAUSE: Duration = Duration::from_millis(500);
static NO_FILES: SparingLine = SparingLine::new();

/// Tells that the process has no file left, and waits: others end meanwhile, and give theirs back.
pub async fn no_files() {
    if let Some(untold) = NO_FILES.is_due() {
        tracing::error!(
            untold,
            "no delivery can be made: the process has as many files open as it may; raise the limit \
             (`ulimit -n`, LimitNOFILE=)"
        );
    }
    tokio::time::sleep(NO_FILES_PAUSE).await;
}
