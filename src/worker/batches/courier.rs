//! Sends one batch to its callback (contract §4).

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use http::{HeaderValue, Request, StatusCode, header};
use http_body_util::Full;

use crate::bus::attempt::Acknowledgement;
use crate::bus::basic;
use crate::bus::batch::Batch;
use crate::bus::subscription::Terms;
use crate::config::Settings;
use crate::egress::client::USER_AGENT;
use crate::egress::outbound::{SendError, read_beginning};
use crate::egress::rules::Denied;
use crate::worker::receivers::Receivers;

/// Delivers batches over pooled HTTPS connections.
pub struct Courier {
    receivers: Receivers,
    /// For an answer.
    timeout: Duration,
    acknowledgement: Acknowledgement,
    /// How much of an answer is worth reading, in bytes.
    beginning: usize,
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

impl Courier {
    pub fn new(receivers: Receivers, settings: &Settings) -> Self {
        Self {
            receivers,
            timeout: settings.timeout,
            acknowledgement: settings.ack,
            beginning: settings.journal_body,
        }
    }

    /// POSTs a batch; `Ok` is an acknowledgement, with its status. `answer` becomes the first bytes of
    /// its body, if there was one.
    ///
    /// # Errors
    /// Why it was not acknowledged.
    pub async fn deliver(
        &self,
        terms: &Terms,
        batch: &Batch,
        answer: &mut Vec<u8>,
    ) -> Result<StatusCode, DeliveryError> {
        if terms.callback.is_unusable() {
            return Err(DeliveryError::Unusable);
        }
        // The resolver never sees an address in a URL, and a rule may be newer than a subscription.
        self.receivers.rules.check(terms.callback.as_url())?;
        let request = request(terms, batch).map_err(|_| DeliveryError::Unusable)?;
        let client = self.receivers.pools.client_for(terms.callback.as_url());
        let response = client.send_batch(request, self.timeout).await.map_err(|error| {
            match error.is_for_lack_of_files() {
                true => DeliveryError::NoFiles,
                // The URL stands beside the error in the log.
                false => DeliveryError::Unanswered(error),
            }
        })?;
        let status = response.status();
        *answer = read_beginning(response.into_body(), self.beginning).await;
        match status {
            status if self.acknowledgement.is_given_by(status.as_u16()) => Ok(status),
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
