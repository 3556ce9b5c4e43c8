//! Development certificates: so that a bus, its clients and a listener on one machine can talk
//! HTTPS without any set-up, and without anybody switching a check off.
//!
//! The first process that needs one makes a certificate authority in `<data>/tls`. Its
//! certificate says itself that it may vouch for this machine's loopback names and addresses
//! only, so that trusting it weakens nothing towards other hosts, not even if its key leaks.

use std::fs;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::{Path, PathBuf};

use anyhow::Context;
use rcgen::{
    BasicConstraints, CertificateParams, CidrSubnet, DnType, ExtendedKeyUsagePurpose,
    GeneralSubtree, IsCa, Issuer, KeyPair, KeyUsagePurpose, NameConstraints, SanType,
};

use crate::files::create_private_directory;

/// The certificates' validity. They never leave the machine, and renewing them has no use.
const VALID_YEARS: (i32, i32) = (2020, 2120);

/// A certificate with its private key, both as PEM.
pub struct Identity {
    pub certificate: String,
    pub key: String,
}

/// The development certificate authority of a data directory.
pub struct DevelopmentCa {
    directory: PathBuf,
    key: String,
}

const CA_FILE: &str = "ca.pem";
const CA_KEY_FILE: &str = "ca-key.pem";
const CERTIFICATE_FILE: &str = "cert.pem";
const KEY_FILE: &str = "key.pem";

/// Where the authority's certificate of a data directory is, for `--cacert` and the like.
pub fn ca_path(data_dir: &Path) -> PathBuf {
    data_dir.join("tls").join(CA_FILE)
}

impl DevelopmentCa {
    /// Opens the authority of a data directory; makes it, and the bus's own certificate, if it is
    /// not there. Several processes may do so at once: one of them wins.
    pub fn open_or_create(data_dir: &Path) -> anyhow::Result<Self> {
        let directory = data_dir.join("tls");
        if !directory.join(CA_FILE).exists() {
            create(data_dir, &directory).context("failed to make the development certificate")?;
        }
        let key_file = directory.join(CA_KEY_FILE);
        let key = fs::read_to_string(&key_file)
            .with_context(|| format!("failed to read {}", key_file.display()))?;
        Ok(Self { directory, key })
    }

    /// The bus's certificate and key: PEM files.
    pub fn bus_identity(&self) -> (PathBuf, PathBuf) {
        (self.directory.join(CERTIFICATE_FILE), self.directory.join(KEY_FILE))
    }

    /// Makes one more certificate for this machine's loopback names, for a listener.
    pub fn issue(&self) -> anyhow::Result<Identity> {
        issue(&self.key)
    }
}

/// Makes everything in a directory of its own, which then takes its final name in one step.
fn create(data_dir: &Path, directory: &Path) -> anyhow::Result<()> {
    create_private_directory(data_dir)?;
    let draft = data_dir.join(format!("tls.{}.{}", std::process::id(), fastrand::u32(..)));
    create_private_directory(&draft)?;
    let key = KeyPair::generate()?;
    let ca = ca_params()?.self_signed(&key)?;
    let identity = issue(&key.serialize_pem())?;
    for (file, content) in [
        (CA_FILE, ca.pem()),
        (CA_KEY_FILE, key.serialize_pem()),
        (CERTIFICATE_FILE, identity.certificate),
        (KEY_FILE, identity.key),
    ] {
        write_private(&draft.join(file), &content)?;
    }
    if let Err(error) = fs::rename(&draft, directory) {
        fs::remove_dir_all(&draft)?;
        if !directory.join(CA_FILE).exists() {
            return Err(error).context(format!("failed to create {}", directory.display()));
        }
    }
    Ok(())
}

fn write_private(path: &Path, content: &str) -> anyhow::Result<()> {
    use std::io::Write;
    let mut options = fs::OpenOptions::new();
    options.write(true).create(true).truncate(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options.open(path)?.write_all(content.as_bytes())?;
    Ok(())
}

/// Everything about the authority but its key: the same each time, so that the key is all that
/// issuing a certificate needs.
fn ca_params() -> anyhow::Result<CertificateParams> {
    let mut params = params("Routemaster development CA")?;
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::DigitalSignature];
    // For servers: nobody proves with it who he is as a client, or signs a program or a letter.
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    let loopback_v4 = CidrSubnet::from_addr_prefix(IpAddr::V4(Ipv4Addr::new(127, 0, 0, 0)), 8);
    let loopback_v6 = CidrSubnet::from_addr_prefix(IpAddr::V6(Ipv6Addr::LOCALHOST), 128);
    params.name_constraints = Some(NameConstraints {
        permitted_subtrees: vec![
            GeneralSubtree::DnsName("localhost".into()),
            GeneralSubtree::IpAddress(loopback_v4),
            GeneralSubtree::IpAddress(loopback_v6),
        ],
        excluded_subtrees: vec![],
    });
    Ok(params)
}

fn issue(ca_key: &str) -> anyhow::Result<Identity> {
    let issuer = Issuer::new(ca_params()?, KeyPair::from_pem(ca_key)?);
    let mut params = params("localhost")?;
    params.subject_alt_names = vec![
        SanType::DnsName("localhost".try_into()?),
        SanType::IpAddress(Ipv4Addr::LOCALHOST.into()),
        SanType::IpAddress(Ipv6Addr::LOCALHOST.into()),
    ];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    params.use_authority_key_identifier_extension = true;
    let key = KeyPair::generate()?;
    let certificate = params.signed_by(&key, &issuer)?;
    Ok(Identity { certificate: certificate.pem(), key: key.serialize_pem() })
}

fn params(common_name: &str) -> anyhow::Result<CertificateParams> {
    let mut params = CertificateParams::new(Vec::<String>::new())?;
    params.distinguished_name.push(DnType::CommonName, common_name);
    params.not_before = rcgen::date_time_ymd(VALID_YEARS.0, 1, 1);
    params.not_after = rcgen::date_time_ymd(VALID_YEARS.1, 1, 1);
    Ok(params)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use rustls::RootCertStore;
    use rustls::client::WebPkiServerVerifier;
    use rustls::client::danger::ServerCertVerifier;
    use rustls::pki_types::pem::PemObject;
    use rustls::pki_types::{CertificateDer, ServerName, UnixTime};

    use super::*;

    /// Whether a client that trusts the authority of `data_dir` takes this certificate for a host.
    fn is_trusted(data_dir: &Path, certificate: &str, host: &str) -> bool {
        let ca = CertificateDer::from_pem_file(ca_path(data_dir)).unwrap();
        let mut roots = RootCertStore::empty();
        roots.add(ca).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let verifier =
            WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider).build().unwrap();
        let certificate = CertificateDer::from_pem_slice(certificate.as_bytes()).unwrap();
        let host = ServerName::try_from(host.to_owned()).unwrap();
        verifier.verify_server_cert(&certificate, &[], &host, &[], UnixTime::now()).is_ok()
    }

    #[test]
    fn the_authority_vouches_for_this_machine_and_for_no_other() {
        let data_dir = tempfile::tempdir().unwrap();
        let ca = DevelopmentCa::open_or_create(data_dir.path()).unwrap();
        let local = ca.issue().unwrap();
        for host in ["localhost", "127.0.0.1", "::1"] {
            assert!(is_trusted(data_dir.path(), &local.certificate, host), "{host}");
        }
        for foreign in ["bank.example", "10.1.2.3"] {
            let mut params = params(foreign).unwrap();
            params.subject_alt_names = vec![match foreign.parse() {
                Ok(address) => SanType::IpAddress(address),
                Err(_) => SanType::DnsName(foreign.try_into().unwrap()),
            }];
            let stolen_key = KeyPair::from_pem(&ca.key).unwrap();
            let issuer = Issuer::new(ca_params().unwrap(), stolen_key);
            let key = KeyPair::generate().unwrap();
            let forged = params.signed_by(&key, &issuer).unwrap().pem();
            assert!(!is_trusted(data_dir.path(), &forged, foreign), "{foreign}");
        }
    }

    #[test]
    fn several_processes_that_start_at_once_end_up_with_one_authority() {
        let data_dir = tempfile::tempdir().unwrap();
        let keys: Vec<String> = std::thread::scope(|scope| {
            let open = || DevelopmentCa::open_or_create(data_dir.path()).unwrap().key;
            let threads: Vec<_> = (0..8).map(|_| scope.spawn(open)).collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).collect()
        });
        assert!(keys.iter().all(|key| *key == keys[0]));
    }
}
