//! What the HTTPS servers show: the bus's API, and the receiver of `routemaster listen`.

use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, bail};
use rustls::ServerConfig;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

use super::CertificateFiles;
use super::development::Identity;

impl CertificateFiles {
    /// Reads both files into what a server shows.
    pub fn load(&self) -> anyhow::Result<Arc<ServerConfig>> {
        let read = |path: &Path| {
            std::fs::read_to_string(path)
                .with_context(|| format!("failed to read {}", path.display()))
        };
        let identity = Identity { certificate: read(&self.certificate)?, key: read(&self.key)? };
        from_identity(&identity).with_context(|| {
            format!("failed to use {} with {}", self.certificate.display(), self.key.display())
        })
    }
}

/// A server that offers HTTP/2 and HTTP/1.1 under this certificate.
pub fn from_identity(identity: &Identity) -> anyhow::Result<Arc<ServerConfig>> {
    let chain = CertificateDer::pem_slice_iter(identity.certificate.as_bytes())
        .collect::<Result<Vec<_>, _>>()
        .context("the certificate is not PEM")?;
    if chain.is_empty() {
        bail!("there is no certificate in the file");
    }
    let key = PrivateKeyDer::from_pem_slice(identity.key.as_bytes())
        .context("there is no private key in the file")?;
    let mut config = ServerConfig::builder()
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .context("the certificate and the key do not go together")?;
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}
