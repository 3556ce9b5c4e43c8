//! The one place where HTTPS clients are built: for callbacks and for the operator's commands.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, bail};
use reqwest::dns::Resolve;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};

use crate::tls::reuse::NoticeConnects;
use crate::tls::server::CertificateFiles;

/// What a client trusts and how long it waits.
pub struct ClientOptions {
    /// Files with certificate authorities to trust beside the system's.
    pub ca_files: Vec<PathBuf>,
    /// Whether certificates are checked at all.
    pub verify: bool,
    /// For a connection to stand, TLS included.
    pub connect_timeout: Duration,
    /// For a request from its start to the end of the answer.
    pub timeout: Duration,
    /// What looks up the names of hosts; none: the system's resolver, as it is.
    pub resolver: Option<Arc<dyn Resolve>>,
}

/// Receivers close idle connections after 5 s (Puma, Node.js) or later. A pooled connection is
/// given up before, so that a batch is not sent into one that is just being closed.
const POOL_IDLE_TIMEOUT: Duration = Duration::from_secs(4);

/// Builds a client: pooled, HTTP/1.1, no redirects, no proxy from the environment.
///
/// # Errors
/// If a file with certificate authorities cannot be read.
pub fn build(options: &ClientOptions) -> anyhow::Result<reqwest::Client> {
    let tls = if options.verify {
        ClientConfig::builder().with_root_certificates(roots(&options.ca_files)?)
    } else {
        let provider = CryptoProvider::get_default().context("no cryptography provider")?.clone();
        ClientConfig::builder()
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(NoVerification(provider)))
    };
    #[allow(clippy::disallowed_methods, reason = "this is the one place that may")]
    let builder = reqwest::Client::builder();
    let mut builder = builder
        .tls_backend_preconfigured(tls.with_no_client_auth())
        .user_agent(concat!("routemaster/", env!("CARGO_PKG_VERSION")))
        .connect_timeout(options.connect_timeout)
        .timeout(options.timeout)
        .pool_idle_timeout(POOL_IDLE_TIMEOUT)
        .redirect(reqwest::redirect::Policy::none())
        .referer(false)
        .no_proxy()
        .https_only(true)
        .connector_layer(NoticeConnects);
    if let Some(resolver) = &options.resolver {
        builder = builder.dns_resolver(resolver.clone());
    }
    Ok(builder.build()?)
}

/// What a client over TLS trusts, and shows of itself if it is asked to, where no HTTP is spoken.
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

pub(super) fn roots(ca_files: &[PathBuf]) -> anyhow::Result<RootCertStore> {
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

pub(super) fn read_certificates(file: &Path) -> anyhow::Result<Vec<CertificateDer<'static>>> {
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
pub(super) struct NoVerification(pub(super) Arc<CryptoProvider>);

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
