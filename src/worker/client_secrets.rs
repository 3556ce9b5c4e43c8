//! What the calls of each client are signed with.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Mutex;
use tokio::time::Instant;

use crate::bus::signature::SigningSecrets;
use crate::bus::token::ClientToken;
use crate::store::Store;

/// How long is believed what the store has told: a new secret holds within this time.
const BELIEVED: Duration = Duration::from_millis(800);

/// Asks the store, for all clients at once and not for each call.
pub struct ClientSecrets {
    store: Arc<dyn Store>,
    known: Mutex<Known>,
}

#[derive(Default)]
struct Known {
    at: Option<Instant>,
    secrets: HashMap<ClientToken, SigningSecrets>,
}

impl ClientSecrets {
    pub fn new(store: Arc<dyn Store>) -> Self {
        Self { store, known: Mutex::default() }
    }

    pub async fn of(&self, client: &ClientToken) -> SigningSecrets {
        let mut known = self.known.lock().await;
        if known.at.is_none_or(|at| at.elapsed() >= BELIEVED) {
            match self.store.client_secrets().await {
                Ok(secrets) => known.secrets = secrets.into_iter().collect(),
                Err(error) => tracing::debug!(%error, "failed to ask for clients' secrets"),
            }
            known.at = Some(Instant::now());
        }
        known.secrets.get(client).cloned().unwrap_or_default()
    }
}
