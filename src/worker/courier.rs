//! Sends one batch to its callback (contract §4).

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use reqwest::header::{CONTENT_TYPE, HeaderValue};
use reqwest::{Response, StatusCode};

use crate::bus::attempt::Acknowledgement;
use crate::bus::batch::Batch;
use crate::bus::subscription::Terms;
use crate::causes;
use crate::config::{SettingError, Settings};
use crate::egress::client::{ClientOptions, Template};
use crate::egress::pools::Pools;
use crate::egress::resolver::CheckedResolver;
use crate::egress::reuse;
use crate::egress::rules::{Denied, EgressRules};
use crate::files;
use crate::tls::development::{self, DevelopmentCa};
use crate::tls::refusal;

/// Delivers batches over pooled HTTPS connections.
pub struct Courier {
    pools: Arc<Pools>,
    rules: Arc<EgressRules>,
    acknowledgement: Acknowledgement,
}

/// Why a batch was not acknowledged.
#[derive(Debug, thiserror::Error)]
pub enum DeliveryError {
    #[error("the callback answered {0}, not 200 or 204")]
    Refused(StatusCode),
    #[error(
        "the callback answered {0}, which is no acknowledgement: only 200 and 204 are, unless \
         ROUTEMASTER_ACK=2xx"
    )]
    Misunderstood(StatusCode),
    #[error("{0}")]
    Denied(#[from] Denied),
    #[error("its callback cannot be used: let it subscribe again")]
    Unusable,
    #[error("this process has as many files open as it may")]
    NoFiles,
    #[error("{0}")]
    Unanswered(String),
}

impl DeliveryError {
    /// What the callback answered, if it did.
    pub fn status(&self) -> Option<StatusCode> {
        match self {
            Self::Refused(status) | Self::Misunderstood(status) => Some(*status),
            Self::Denied(_) | Self::Unusable | Self::NoFiles | Self::Unanswered(_) => None,
        }
    }
}

/// How much of an answer's body is read, and for how long, so that its connection can be used
/// again. What an acknowledgement says beyond its status is of no interest.
const ANSWER_MAX: usize = 64 * 1024;
const ANSWER_TIMEOUT: Duration = Duration::from_millis(500);

impl Courier {
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
        let template = Template::new(ClientOptions {
            ca_files,
            verify: settings.ssl_verify,
            connect_timeout: settings.connect_timeout,
            timeout: settings.timeout,
            resolver: Some(resolver.clone()),
        });
        let pools = template.and_then(|template| Pools::new(template, resolver));
        // All that can be wrong with it comes from the settings.
        let pools = pools.map_err(|error| {
            let what = "ROUTEMASTER_CALLBACK_CA_FILE is not allowed";
            SettingError::Conflict(format!("{what}: {error:#}"))
        });
        Ok(Self { pools: pools?, rules, acknowledgement: settings.ack })
    }

    /// POSTs a batch; `Ok` is an acknowledgement.
    pub async fn deliver(&self, terms: &Terms, batch: &Batch) -> Result<(), DeliveryError> {
        if terms.callback.is_unusable() {
            return Err(DeliveryError::Unusable);
        }
        // The resolver never sees an address in a URL, and a rule may be newer than a subscription.
        self.rules.check(terms.callback.as_url())?;
        const JSON: HeaderValue = HeaderValue::from_static("application/json");
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let client = self.pools.client_for(terms.callback.as_url());
        let mut request = client
            .post(terms.callback.as_url().clone())
            .header(CONTENT_TYPE, JSON)
            .header("webhook-id", batch.id.to_string())
            .header("webhook-timestamp", now.as_secs())
            .header("routemaster-attempt", batch.attempt)
            .body(batch.to_json());
        if let Some(uuid) = &terms.uuid {
            request = request.basic_auth(uuid, Some(uuid));
        }
        let unanswered = |error: reqwest::Error| {
            // The URL stands beside the error in the log; its causes are what helps.
            let error = error.without_url();
            if files::are_used_up_by(&error) || files::are_used_up() {
                return DeliveryError::NoFiles;
            }
            DeliveryError::Unanswered(match causes::tls(&error) {
                Some(tls) => refusal::told(tls),
                None => format!("{:#}", anyhow::Error::from(error)),
            })
        };
        let request = request.build().map_err(unanswered)?;
        let response = reuse::execute(&client, request).await.map_err(unanswered)?;
        let status = response.status();
        // Not in time, or broken off: then the connection is not used again, and that is all.
        let _ = tokio::time::timeout(ANSWER_TIMEOUT, drain(response)).await;
        match status {
            status if self.acknowledgement.is_given_by(status.as_u16()) => Ok(()),
            status if status.is_success() => Err(DeliveryError::Misunderstood(status)),
            status => Err(DeliveryError::Refused(status)),
        }
    }
}

async fn drain(mut response: Response) {
    let mut read = 0;
    while let Ok(Some(chunk)) = response.chunk().await {
        read += chunk.len();
        if read > ANSWER_MAX {
            return;
        }
    }
}
