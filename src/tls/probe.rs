//! Looks at what a server shows in its TLS handshake, and asks it for nothing.
//!
//! A client breaks a handshake off as soon as it does not trust the certificate. Here the handshake
//! is ended in any case, so that the certificate can be looked at, and the verdict stands beside it.

use std::io;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::Context;
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::CryptoProvider;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{CertificateError, ClientConfig, DigitallySignedStruct, SignatureScheme};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use super::trust::{NoVerification, roots};

/// How long saying goodbye may take.
const GOODBYE: Duration = Duration::from_millis(200);

/// What a server has shown.
pub struct Shown {
    /// The certificate of the server itself.
    pub certificate: CertificateDer<'static>,
    /// Whether a client that sends requests would go on.
    pub verdict: Result<(), rustls::Error>,
}

/// Does handshakes with the trust of some client. Cheap to clone.
#[derive(Clone)]
pub struct Probe {
    provider: Arc<CryptoProvider>,
    /// None: nobody vouches for anything.
    judge: Option<Arc<dyn ServerCertVerifier>>,
}

impl Probe {
    /// A probe that trusts these authorities beside the system's; all certificates without
    /// `verify`.
    ///
    /// # Errors
    /// If a file with certificate authorities cannot be read.
    pub fn new(ca_files: &[PathBuf], verify: bool) -> anyhow::Result<Self> {
        let provider = CryptoProvider::get_default().context("no cryptography provider")?.clone();
        let judge: Option<Arc<dyn ServerCertVerifier>> = if verify {
            let roots = roots(ca_files)?;
            let judge = WebPkiServerVerifier::builder_with_provider(roots.into(), provider.clone());
            // It is refused for want of any authority only.
            judge.build().ok().map(|judge| judge as Arc<dyn ServerCertVerifier>)
        } else {
            Some(Arc::new(NoVerification(provider.clone())))
        };
        Ok(Self { provider, judge })
    }

    /// Does the handshake with a server that was asked for by this name, or address, and closes the
    /// connection. The caller bounds the time.
    ///
    /// # Errors
    /// If the other side does not get to the end of a handshake.
    pub async fn handshake(&self, stream: TcpStream, host: &str) -> io::Result<Shown> {
        let name = host.trim_start_matches('[').trim_end_matches(']').to_owned();
        let name = ServerName::try_from(name).map_err(io::Error::other)?;
        let witness = Arc::new(Witness {
            provider: self.provider.clone(),
            judge: self.judge.clone(),
            seen: Mutex::default(),
        });
        let config = ClientConfig::builder()
            .dangerous()
            .with_custom_certificate_verifier(witness.clone())
            .with_no_client_auth();
        let mut stream = TlsConnector::from(Arc::new(config)).connect(name, stream).await?;
        // It has said all that matters.
        let _ = tokio::time::timeout(GOODBYE, stream.shutdown()).await;
        let seen = witness.seen.lock().unwrap_or_else(PoisonError::into_inner).take();
        seen.ok_or_else(|| io::Error::other("the server has shown no certificate"))
    }
}

/// Takes every certificate, and remembers it with what the judge says.
#[derive(Debug)]
struct Witness {
    provider: Arc<CryptoProvider>,
    judge: Option<Arc<dyn ServerCertVerifier>>,
    seen: Mutex<Option<Shown>>,
}

impl std::fmt::Debug for Shown {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Shown").field("verdict", &self.verdict).finish_non_exhaustive()
    }
}

impl ServerCertVerifier for Witness {
    fn verify_server_cert(
        &self,
        certificate: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let verdict = match &self.judge {
            Some(judge) => {
                judge.verify_server_cert(certificate, intermediates, name, ocsp_response, now)
            }
            None => Err(CertificateError::UnknownIssuer.into()),
        };
        let shown =
            Shown { certificate: certificate.clone().into_owned(), verdict: verdict.map(drop) };
        *self.seen.lock().unwrap_or_else(PoisonError::into_inner) = Some(shown);
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        rustls::crypto::verify_tls12_signature(message, certificate, signature, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        rustls::crypto::verify_tls13_signature(message, certificate, signature, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}
