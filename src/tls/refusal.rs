//! Why a TLS handshake came to nothing, in words that say what to change. The library's own are for
//! whoever writes programs with it.

use rustls::{AlertDescription, CertificateError, Error};

/// Why a client would not go on with the server, or the other way round. It begins with what of the
/// server is wrong, so that it can stand behind its name.
pub fn told(error: &Error) -> String {
    match error {
        Error::InvalidCertificate(flaw) => format!("its certificate {}", flaw_told(flaw)),
        Error::InvalidMessage(_) => "what answers there does not speak TLS".into(),
        Error::NoCertificatesPresented => "it shows no certificate".into(),
        Error::AlertReceived(alert) => {
            format!("it refused the TLS handshake: {}", alert_told(*alert))
        }
        Error::PeerIncompatible(_) => NO_SAFE_TLS.into(),
        other => format!("the TLS handshake failed: {other}"),
    }
}

/// As [`told`], of an error of which a library has kept the text alone, as programmers see it; `None` if it
/// is about something else.
pub fn told_of_text(text: &str) -> Option<String> {
    use CertificateError::{
        BadEncoding, BadSignature, Expired, InvalidPurpose, NotValidForName, NotValidYet, Revoked,
        UnknownIssuer,
    };
    let flaws = [
        ("UnknownIssuer", UnknownIssuer),
        ("NotValidForName", NotValidForName),
        ("NotValidYet", NotValidYet),
        ("Expired", Expired),
        ("InvalidPurpose", InvalidPurpose),
        ("BadSignature", BadSignature),
        ("BadEncoding", BadEncoding),
        ("Revoked", Revoked),
    ];
    let alerts = [
        AlertDescription::CertificateRequired,
        AlertDescription::UnknownCA,
        AlertDescription::BadCertificate,
        AlertDescription::CertificateUnknown,
        AlertDescription::CertificateExpired,
        AlertDescription::HandshakeFailure,
        AlertDescription::ProtocolVersion,
        AlertDescription::UnrecognisedName,
    ];
    if text.contains("AlertReceived") {
        let alert = alerts.into_iter().find(|alert| text.contains(&format!("({alert:?})")))?;
        return Some(told(&Error::AlertReceived(alert)));
    }
    if text.contains("CaUsedAsEndEntity") {
        return Some(format!("its certificate {AUTHORITYS}"));
    }
    if text.contains("InvalidMessage") {
        return Some("what answers there does not speak TLS".into());
    }
    let flaw = flaws.into_iter().find(|(name, _)| text.contains(name)).map(|(_, flaw)| flaw)?;
    Some(format!("its certificate {}", flaw_told(&flaw)))
}

/// What is wrong with a certificate, to stand behind its name.
pub fn flaw_told(flaw: &CertificateError) -> String {
    use CertificateError::{
        BadEncoding, BadSignature, Expired, ExpiredContext, InvalidPurpose, InvalidPurposeContext,
        NotValidForName, NotValidForNameContext, NotValidYet, NotValidYetContext, Other, Revoked,
        UnknownIssuer, UnsupportedSignatureAlgorithmContext,
        UnsupportedSignatureAlgorithmForPublicKeyContext,
    };
    match flaw {
        UnknownIssuer => {
            "comes from an authority that is not trusted here, or is shown without the \
                          certificates between it and its authority"
                .into()
        }
        Expired | ExpiredContext { .. } => "has expired: renew it".into(),
        NotValidYet | NotValidYetContext { .. } => {
            "is not valid yet: look at the clocks of both sides".into()
        }
        NotValidForNameContext { presented, .. } if presented.is_empty() => NAMELESS.into(),
        NotValidForNameContext { expected, presented } => {
            format!("is not for {}, but for {}", expected.to_str(), names(presented))
        }
        NotValidForName => "is for another name".into(),
        InvalidPurpose | InvalidPurposeContext { .. } => {
            "is not made for servers: its extended key usage lacks serverAuth".into()
        }
        Revoked => "was revoked: issue another one".into(),
        BadEncoding => "is damaged, or is none: issue another one".into(),
        BadSignature => "is not signed by the authority that it names: issue another one".into(),
        UnsupportedSignatureAlgorithmContext { .. }
        | UnsupportedSignatureAlgorithmForPublicKeyContext { .. } => {
            "is signed in a way that is not safe today, such as with SHA-1: issue another one"
                .into()
        }
        // The parser of certificates says this in its own type.
        Other(reason) if format!("{reason:?}").contains("CaUsedAsEndEntity") => AUTHORITYS.into(),
        other => format!("cannot be used ({other}): issue another one"),
    }
}

const NO_SAFE_TLS: &str = "it speaks neither TLS 1.2 nor 1.3 with a cipher that is safe today";

/// The library writes names as `DnsName("a.example")`.
fn names(presented: &[String]) -> String {
    let bare = presented.iter().map(|name| {
        let inner = name.split_once('(').and_then(|(_, rest)| rest.strip_suffix(')'));
        inner.unwrap_or(name).trim_matches('"')
    });
    bare.collect::<Vec<_>>().join(", ")
}

/// What is wrong with a certificate that names no host.
pub const NAMELESS: &str = "has no subject alternative name, and its common name does not count: issue one \
    with it, as with `openssl req -x509 -addext subjectAltName=DNS:…`";
const AUTHORITYS: &str = "is an authority's and not a server's: issue one that is none, as with \
    `openssl req -x509 -addext basicConstraints=critical,CA:FALSE`, or sign one with it";

fn alert_told(alert: AlertDescription) -> String {
    match alert {
        AlertDescription::CertificateRequired => "it wants a certificate of the client".into(),
        AlertDescription::UnrecognisedName => "it serves no host of this name".into(),
        AlertDescription::ProtocolVersion | AlertDescription::HandshakeFailure => {
            NO_SAFE_TLS.into()
        }
        AlertDescription::UnknownCA => {
            "it does not trust the authority of the certificate that it was shown".into()
        }
        AlertDescription::BadCertificate
        | AlertDescription::CertificateUnknown
        | AlertDescription::UnsupportedCertificate
        | AlertDescription::AccessDenied => {
            "it does not accept the certificate that it was shown".into()
        }
        AlertDescription::CertificateExpired => {
            "the certificate that it was shown has expired".into()
        }
        other => format!("{other:?}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_of_a_library_is_told_in_a_sentence() {
        for (text, said) in [
            ("InvalidCertificate(UnknownIssuer)", "its certificate comes from an authority"),
            ("invalid peer certificate: NotValidForName", "is for another name"),
            ("Other(OtherError(CaUsedAsEndEntity))", "is an authority's"),
            ("AlertReceived(CertificateRequired)", "wants a certificate"),
            ("AlertReceived(UnknownCA)", "does not trust"),
            ("InvalidMessage(InvalidContentType)", "does not speak TLS"),
        ] {
            let told = told_of_text(text).unwrap();
            assert!(told.contains(said), "{text}: {told}");
        }
        assert_eq!(told_of_text("Connection refused"), None);
    }
}
