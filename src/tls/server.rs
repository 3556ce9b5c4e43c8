//! What the HTTPS servers show: the bus's API, and the receiver of `routemaster listen`.

use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, bail};
use rustls::ServerConfig;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

use crate::config::Settings;
use crate::tls::development::{DevelopmentCa, Identity};

/// The API's certificate: the one that is set, else the development certificate.
pub fn for_api(settings: &Settings) -> anyhow::Result<Arc<ServerConfig>> {
    match (&settings.tls_cert, &settings.tls_key) {
        (Some(certificate), Some(key)) => from_files(certificate, key),
        _ => {
            let ca = DevelopmentCa::open_or_create(&settings.data_dir)?;
            let (certificate, key) = ca.bus_identity();
            from_files(&certificate, &key)
        }
    }
}

/// Reads a certificate chain and its key from PEM files.
fn from_files(certificate: &Path, key: &Path) -> anyhow::Result<Arc<ServerConfig>> {
    let read = |path: &Path| {
        std::fs::read_to_string(path).with_context(|| format!("failed to read {}", path.display()))
    };
    let identity = Identity { certificate: read(certificate)?, key: read(key)? };
    from_identity(&identity)
        .with_context(|| format!("failed to use {} with {}", certificate.display(), key.display()))
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
