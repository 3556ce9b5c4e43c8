//! Messages into Google Pub/Sub: what is packed together is published together.

use bytes::Bytes;
use serde_json::value::RawValue;

use crate::bus::message::MessageContent;

/// What one message becomes: its payload, or if that is an array, each of its elements.
pub fn data_of(content: &MessageContent) -> Vec<Bytes> {
    let payload = content.payload.as_str();
    match serde_json::from_str::<Vec<&RawValue>>(payload) {
        Ok(elements) => elements
            .iter()
            .map(|element| Bytes::copy_from_slice(element.get().as_bytes()))
            .collect(),
        Err(_) => vec![Bytes::copy_from_slice(payload.as_bytes())],
    }
}
