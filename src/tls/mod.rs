//! TLS, with rustls and ring everywhere: what the servers show and what the clients trust.

pub mod certificate;
pub mod development;
pub mod probe;
pub mod refusal;
pub mod reload;
pub mod server;
pub mod trust;

use std::path::PathBuf;

use anyhow::anyhow;

/// A certificate chain and its key, two PEM files.
#[derive(Clone, Debug)]
pub struct CertificateFiles {
    pub certificate: PathBuf,
    pub key: PathBuf,
}

/// Makes ring the process's one cryptography provider. Called once, at the start.
pub fn install_provider() -> anyhow::Result<()> {
    rustls::crypto::ring::default_provider()
        .install_default()
        .map_err(|_| anyhow!("a cryptography provider is installed already"))
}
