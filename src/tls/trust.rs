//! What clients over TLS trust, and show of themselves if they are asked to.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, bail};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};

use super::CertificateFiles;

/// What a client trusts beside the system's authorities, and shows of itself if it is asked to.
///
/// # Errors
/// If a file cannot be used.
pub fn config(
    ca_files: &[PathBuf],
    identity: Option<&CertificateFiles>,
) -> anyhow::Result<ClientConfig> {
    let config = ClientConfig::builder().with_root_certificates(roots(ca_files)?);
    let Some(files) = identity else { return Ok(config.with_no_client_auth()) };
    let chain = read_certificates(&files.certificate)?;
    let key = PrivateKeyDer::from_pem_file(&files.key)
        .with_context(|| format!("failed to read a private key from {}", files.key.display()))?;
    config.with_client_auth_cert(chain, key).with_context(|| {
        format!("failed to use {} with {}", files.certificate.display(), files.key.display())
    })
}

/// What a client trusts that takes every certificate.
///
/// # Errors
/// If no cryptography provider is installed.
pub fn config_for_all() -> anyhow::Result<ClientConfig> {
    let provider = CryptoProvider::get_default().context("no cryptography provider")?.clone();
    Ok(ClientConfig::builder()
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(NoVerification(provider)))
        .with_no_client_auth())
}

/// The system's certificate authorities, and those of these files.
///
/// # Errors
/// If a file cannot be read.
pub fn roots(ca_files: &[PathBuf]) -> anyhow::Result<RootCertStore> {
    let mut roots = RootCertStore::empty();
    let system = rustls_native_certs::load_native_certs();
    for error in &system.errors {
        tracing::warn!(%error, "failed to read some of the system's certificate authorities");
    }
    roots.add_parsable_certificates(system.certs);
    for file in ca_files {
        for certificate in read_certificates(file)? {
            roots.add(certificate).with_context(|| {
                format!("failed to use a certificate authority of {}", file.display())
            })?;
        }
    }
    Ok(roots)
}

/// The certificates of a PEM file, of which there must be one.
///
/// # Errors
/// If there is none, or the file cannot be read.
pub fn read_certificates(file: &Path) -> anyhow::Result<Vec<CertificateDer<'static>>> {
    let certificates = CertificateDer::pem_file_iter(file)
        .and_then(Iterator::collect::<Result<Vec<_>, _>>)
        .with_context(|| format!("failed to read certificates from {}", file.display()))?;
    if certificates.is_empty() {
        bail!("there is no certificate in {}", file.display());
    }
    Ok(certificates)
}

/// Takes every certificate: what `ROUTEMASTER_SSL_VERIFY=no` asks for.
#[derive(Debug)]
pub struct NoVerification(pub Arc<CryptoProvider>);

impl ServerCertVerifier for NoVerification {
    fn verify_server_cert(
        &self,
        _certificate: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        verify_tls12_signature(message, certificate, signature, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        verify_tls13_signature(message, certificate, signature, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
