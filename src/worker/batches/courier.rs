//! Sends one batch to its callback (contract §4), or into Google Pub/Sub, a message an event.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use http::{HeaderValue, Request, StatusCode, header};
use http_body_util::Full;

use crate::bus::attempt::Acknowledgement;
use crate::bus::basic;
use crate::bus::batch::Batch;
use crate::bus::item::ItemParts;
use crate::bus::message::Attributes;
use crate::bus::subscription::{CallbackUrl, Target};
use crate::config::Settings;
use crate::egress::batch;
use crate::egress::client::USER_AGENT;
use crate::egress::google::pubsub::{PubSub, PubSubError, PubSubMessage};
use crate::egress::outbound::{SendError, read_beginning};
use crate::egress::retry_after::retry_after;
use crate::egress::rules::Denied;
use crate::store::LeasedBatch;
use crate::worker::receivers::Receivers;

/// What takes a batch to its subscriber.
#[async_trait]
pub trait Courier: Send + Sync {
    /// Sends a batch; `Ok` is an acknowledgement, with its status. `answer` becomes what was answered, if
    /// anything was.
    ///
    /// # Errors
    /// Why it was not acknowledged.
    async fn deliver(
        &self,
        leased: &LeasedBatch,
        answer: &mut Answer,
    ) -> Result<StatusCode, DeliveryError>;
}

/// Delivers batches over pooled HTTPS connections.
pub struct BatchCourier {
    receivers: Receivers,
    pubsub: Arc<PubSub>,
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
    #[error("{0}")]
    PubSub(#[from] PubSubError),
}

impl DeliveryError {
    /// What was answered, if anything was.
    pub fn status(&self) -> Option<StatusCode> {
        match self {
            Self::Refused(status) | Self::Misunderstood(status) => Some(*status),
            Self::PubSub(error) => {
                error.status().and_then(|status| StatusCode::from_u16(status).ok())
            }
            Self::Denied(_) | Self::Unusable | Self::NoFiles | Self::Unanswered(_) => None,
        }
    }
}

/// What a callback answered, beside its status.
#[derive(Default)]
pub struct Answer {
    /// The first bytes of its body.
    pub beginning: Vec<u8>,
    /// How long it asks to be left alone.
    pub retry_after: Option<Duration>,
}

impl BatchCourier {
    pub fn new(receivers: Receivers, pubsub: Arc<PubSub>, settings: &Settings) -> Self {
        Self {
            receivers,
            pubsub,
            timeout: settings.timeout,
            acknowledgement: settings.ack,
            beginning: settings.journal_body,
        }
    }

    async fn post(
        &self,
        callback: &CallbackUrl,
        request: Request<Full<Bytes>>,
        answer: &mut Answer,
    ) -> Result<StatusCode, DeliveryError> {
        if callback.is_unusable() {
            return Err(DeliveryError::Unusable);
        }
        // The resolver never sees an address in a URL, and a rule may be newer than a subscription.
        self.receivers.rules.check(callback.as_url())?;
        let client = self.receivers.pools.client_for(callback.as_url());
        let response = client.send_batch(request, self.timeout).await.map_err(|error| {
            match error.is_for_lack_of_files() {
                true => DeliveryError::NoFiles,
                // The URL stands beside the error in the log.
                false => DeliveryError::Unanswered(error),
            }
        })?;
        let status = response.status();
        answer.retry_after = retry_after(status, response.headers());
        answer.beginning = read_beginning(response.into_body(), self.beginning).await;
        match status {
            status if self.acknowledgement.is_given_by(status.as_u16()) => Ok(status),
            status if status.is_success() => Err(DeliveryError::Misunderstood(status)),
            status => Err(DeliveryError::Refused(status)),
        }
    }

    /// Each event is a message; all of a queue have one ordering key.
    async fn publish(&self, topic: &str, batch: &Batch) -> Result<StatusCode, PubSubError> {
        let attributes = Attributes::from([("webhook-id".to_owned(), batch.id.to_string())]);
        let messages: Vec<PubSubMessage<'_>> = batch
            .items
            .iter()
            .map(|queued| PubSubMessage {
                data: queued.item.slice_ref(ItemParts::of(&queued.item).json),
                attributes: &attributes,
                ordering_key: Some(&batch.id.queue),
            })
            .collect();
        self.pubsub.publish_all(topic, &messages, self.timeout).await?;
        Ok(StatusCode::OK)
    }
}

#[async_trait]
impl Courier for BatchCourier {
    async fn deliver(
        &self,
        leased: &LeasedBatch,
        answer: &mut Answer,
    ) -> Result<StatusCode, DeliveryError> {
        match &leased.terms.target {
            Target::Callback(callback) => {
                let request = request(callback, leased).map_err(|_| DeliveryError::Unusable)?;
                self.post(callback, request, answer).await
            }
            Target::PubSub(topic) => Ok(self.publish(topic, &leased.batch).await?),
            Target::Pull => Err(DeliveryError::Unusable),
        }
    }
}

fn request(callback: &CallbackUrl, leased: &LeasedBatch) -> http::Result<Request<Full<Bytes>>> {
    let (headers, body) = batch::written(&leased.batch, &leased.options);
    let mut request = Request::post(callback.as_url().as_str())
        .header(header::ACCEPT, "*/*")
        .header(header::USER_AGENT, USER_AGENT);
    if let Some(own) = request.headers_mut() {
        own.extend(headers);
    }
    if let Some(uuid) = &leased.terms.uuid {
        let mut authorization =
            HeaderValue::try_from(basic::authorization(uuid.as_bytes(), uuid.as_bytes()))?;
        authorization.set_sensitive(true);
        request = request.header(header::AUTHORIZATION, authorization);
    }
    request.body(Full::new(body))
}
