//! A batch as its subscriber gets it, whether it is sent or asked for.

use std::time::{SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, header};

use crate::bus::batch::Batch;
use crate::bus::cloudevents;
use crate::bus::subscription::options::{BatchFormat, DeliveryOptions};

/// Headers and body of a batch that leaves now.
pub fn written(batch: &Batch, options: &DeliveryOptions) -> (HeaderMap, Bytes) {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    let (media_type, body) = match options.format {
        BatchFormat::Routemaster => ("application/json", batch.to_json()),
        BatchFormat::CloudEvents => (cloudevents::BATCH_TYPE, cloudevents::batch(&batch.items)),
    };
    let id = batch.id.to_string();
    let mut headers = HeaderMap::with_capacity(8);
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(media_type));
    // Hexadecimal digits, a hyphen and a number.
    if let Ok(id) = HeaderValue::from_str(&id) {
        headers.insert("webhook-id", id);
    }
    headers.insert("webhook-timestamp", now.into());
    headers.insert("routemaster-attempt", batch.attempt.into());
    if batch.has_replay() {
        headers.insert("routemaster-replay", HeaderValue::from_static("true"));
    }
    let signature = options.secrets.signature(&id, now, &body);
    if let Some(Ok(signature)) = signature.map(HeaderValue::try_from) {
        headers.insert("webhook-signature", signature);
    }
    (headers, body)
}
