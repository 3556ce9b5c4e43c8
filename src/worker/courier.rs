//! Sends one batch to its callback (contract §4).

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use http::{HeaderValue, Request, StatusCode, header};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;

use crate::bus::attempt::Acknowledgement;
use crate::bus::basic;
use crate::bus::batch::Batch;
use crate::bus::subscription::Terms;
use crate::config::{SettingError, Settings};
use crate::egress::client::USER_AGENT;
use crate::egress::outbound::{OutboundOptions, OutboundTemplate, SendError};
use crate::egress::pools::Pools;
use crate::egress::resolver::CheckedResolver;
use crate::egress::rules::{Denied, EgressRules};
use crate::files;
use crate::tls::development::{self, DevelopmentCa};

/// Delivers batches over pooled HTTPS connections.
pub struct Courier {
    pools: Arc<Pools>,
    rules: Arc<EgressRules>,
    /// For an answer.
    timeout: Duration,
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
    Unanswered(SendError),
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
        let template = OutboundTemplate::new(OutboundOptions {
            ca_files,
            verify: settings.ssl_verify,
            connect_timeout: settings.connect_timeout,
            resolver: resolver.clone(),
        });
        // All that can be wrong with it comes from the settings.
        let template = template.map_err(|error| {
            let what = "ROUTEMASTER_CALLBACK_CA_FILE is not allowed";
            SettingError::Conflict(format!("{what}: {error:#}"))
        });
        let (pools, timeout) = (Pools::new(template?, resolver), settings.timeout);
        Ok(Self { pools, rules, timeout, acknowledgement: settings.ack })
    }

    /// POSTs a batch; `Ok` is an acknowledgement.
    pub async fn deliver(&self, terms: &Terms, batch: &Batch) -> Result<(), DeliveryError> {
        if terms.callback.is_unusable() {
            return Err(DeliveryError::Unusable);
        }
        // The resolver never sees an address in a URL, and a rule may be newer than a subscription.
        self.rules.check(terms.callback.as_url())?;
        let request = request(terms, batch).map_err(|_| DeliveryError::Unusable)?;
        let client = self.pools.client_for(terms.callback.as_url());
        let response = client.send(request, self.timeout).await.map_err(|error| {
            match files::are_used_up_by(&error) || files::are_used_up() {
                true => DeliveryError::NoFiles,
                // The URL stands beside the error in the log.
                false => DeliveryError::Unanswered(error),
            }
        })?;
        let status = response.status();
        // Not in time, or broken off: then the connection is not used again, and that is all.
        let _ = tokio::time::timeout(ANSWER_TIMEOUT, drain(response.into_body())).await;
        match status {
            status if self.acknowledgement.is_given_by(status.as_u16()) => Ok(()),
            status if status.is_success() => Err(DeliveryError::Misunderstood(status)),
            status => Err(DeliveryError::Refused(status)),
        }
    }
}

fn request(terms: &Terms, batch: &Batch) -> http::Result<Request<Full<Bytes>>> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let mut request = Request::post(terms.callback.as_url().as_str())
        .header(header::CONTENT_TYPE, "application/json")
        .header(header::ACCEPT, "*/*")
        .header(header::USER_AGENT, USER_AGENT)
        .header("webhook-id", batch.id.to_string())
        .header("webhook-timestamp", now.as_secs())
        .header("routemaster-attempt", batch.attempt);
    if let Some(uuid) = &terms.uuid {
        let mut authorization =
            HeaderValue::try_from(basic::authorization(uuid.as_bytes(), uuid.as_bytes()))?;
        authorization.set_sensitive(true);
        request = request.header(header::AUTHORIZATION, authorization);
    }
    request.body(Full::new(batch.to_json()))
}

async fn drain(mut body: Incoming) {
    let mut read = 0;
    while let Some(Ok(frame)) = body.frame().await {
        read += frame.data_ref().map_or(0, Bytes::len);
        if read > ANSWER_MAX {
            return;
        }
    }
}
