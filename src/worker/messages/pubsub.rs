//! Messages into Google Pub/Sub: what is packed together is published together.

use std::time::Duration;

use bytes::Bytes;
use serde_json::value::RawValue;

use crate::bus::message::MessageContent;
use crate::config::Settings;
use crate::egress::client::{self, ClientOptions};
use crate::egress::google::pubsub::{BYTES_MAX, MESSAGES_MAX, PubSub, PubSubError, PubSubMessage};
use crate::egress::google::tokens::{Account, Tokens};

/// How long a request to Google may take, beyond which no publisher's own time-out goes.
const TIMEOUT: Duration = Duration::from_secs(3600);
/// Where a machine on Google Cloud finds out about itself, unless this variable of Google's own says otherwise.
const METADATA_HOST: &str = "metadata.google.internal";
const METADATA_VARIABLE: &str = "GCE_METADATA_HOST";

/// Google Pub/Sub as the settings have it.
///
/// # Errors
/// If a file with certificate authorities cannot be read.
pub fn of_settings(settings: &Settings) -> anyhow::Result<PubSub> {
    let client = client::build(&ClientOptions {
        ca_files: settings.callback_ca_file.iter().cloned().collect(),
        connect_timeout: settings.connect_timeout,
        timeout: TIMEOUT,
        plain: true,
    })?;
    let account = || match &settings.google_credentials {
        Some(path) => Account::Service(path.clone()),
        None => {
            let host = std::env::var(METADATA_VARIABLE).ok().filter(|host| !host.is_empty());
            Account::Machine(host.unwrap_or_else(|| METADATA_HOST.into()))
        }
    };
    let (endpoint, tokens) = match &settings.pubsub_emulator {
        Some(emulator) => (emulator.clone(), None),
        None => (settings.pubsub_endpoint.clone(), Some(Tokens::new(account(), client.clone()))),
    };
    Ok(PubSub::new(client, endpoint, settings.pubsub_project.clone(), tokens))
}

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

/// Publishes messages in their order, in as many requests as they need. If one fails, nothing after it is sent, so
/// that what is sent again comes in order too.
///
/// # Errors
/// Why the first that failed did.
pub async fn publish(
    pubsub: &PubSub,
    topic: &str,
    messages: &[PubSubMessage<'_>],
    timeout: Duration,
) -> Result<(), PubSubError> {
    let (mut from, mut bytes) = (0, 0);
    for (index, message) in messages.iter().enumerate() {
        if index > from && (index - from >= MESSAGES_MAX || bytes + message.data.len() > BYTES_MAX)
        {
            pubsub.publish(topic, &messages[from..index], timeout).await?;
            (from, bytes) = (index, 0);
        }
        bytes += message.data.len();
    }
    match &messages[from..] {
        [] => Ok(()),
        rest => pubsub.publish(topic, rest, timeout).await,
    }
}
