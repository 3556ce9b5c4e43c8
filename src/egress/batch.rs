//! A batch as its subscriber gets it, whether it is sent or asked for.

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, header};

use super::signing::name_and_sign;
use crate::bus::batch::Batch;
use crate::bus::cloudevents;
use crate::bus::subscription::options::{BatchFormat, DeliveryOptions};

/// Headers and body of a batch that leaves now.
pub fn written(batch: &Batch, options: &DeliveryOptions) -> (HeaderMap, Bytes) {
    let (media_type, body) = match options.format {
        BatchFormat::Routemaster => ("application/json", batch.to_json()),
        BatchFormat::CloudEvents => (cloudevents::BATCH_TYPE, cloudevents::batch(&batch.items)),
    };
    let mut headers = HeaderMap::with_capacity(8);
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(media_type));
    headers.insert("routemaster-attempt", batch.attempt.into());
    if batch.has_replay() {
        headers.insert("routemaster-replay", HeaderValue::from_static("true"));
    }
    name_and_sign(&mut headers, &options.secrets, &batch.id.to_string(), &body);
    (headers, body)
}
