//! Google Pub/Sub as the settings have it.

use std::sync::Arc;
use std::time::Duration;

use crate::config::Settings;
use crate::egress::client::{self, ClientOptions};
use crate::egress::google::pubsub::PubSub;
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
pub fn pubsub(settings: &Settings) -> anyhow::Result<Arc<PubSub>> {
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
    Ok(PubSub::new(client, endpoint, settings.pubsub_project.clone(), tokens).into())
}
