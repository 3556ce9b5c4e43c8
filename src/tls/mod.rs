//! TLS, with rustls and ring everywhere: what the servers show and what the clients trust.

pub mod certificate;
pub mod client;
pub mod development;
pub mod probe;
pub mod reload;
pub mod reuse;
pub mod server;

use anyhow::anyhow;

/// Makes ring the process's one cryptography provider. Called once, at the start.
pub fn install_provider() -> anyhow::Result<()> {
    rustls::crypto::ring::default_provider()
        .install_default()
        .map_err(|_| anyhow!("a cryptography provider is installed already"))
}
