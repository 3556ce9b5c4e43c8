//! Connections to write anything into, for what a well-behaved client cannot do.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};

use super::run::within;

/// No connection is served for longer than this in these tests.
const LIMIT: Duration = Duration::from_secs(20);

trait Duplex: AsyncRead + AsyncWrite + Unpin + Send {}
impl<T: AsyncRead + AsyncWrite + Unpin + Send> Duplex for T {}

/// A connection, with TLS or without.
pub struct Stream(Box<dyn Duplex>);

/// A TCP connection with no byte sent.
pub async fn connect_tcp(port: u16) -> Stream {
    Stream(Box::new(tcp(port).await.expect("the bus accepts the connection")))
}

/// Whether anybody listens on the port.
pub async fn is_open(port: u16) -> bool {
    tcp(port).await.is_ok()
}

async fn tcp(port: u16) -> std::io::Result<TcpStream> {
    TcpStream::connect(("127.0.0.1", port)).await
}

/// A connection with a TLS handshake done, for HTTP/1.1.
pub async fn connect_tls(port: u16, ca: &Path) -> Stream {
    try_connect_tls(port, ca).await.expect("the TLS handshake succeeds")
}

/// As [`connect_tls`], for another protocol.
pub async fn connect_tls_speaking(port: u16, ca: &Path, protocol: &[u8]) -> Stream {
    let tcp = tcp(port).await.expect("the bus accepts the connection");
    shake_hands(tcp, ca, vec![protocol.to_vec()]).await.expect("the TLS handshake succeeds")
}

/// As [`connect_tls`], for a handshake that may fail.
pub async fn try_connect_tls(port: u16, ca: &Path) -> std::io::Result<Stream> {
    shake_hands(tcp(port).await?, ca, vec![]).await
}

/// As [`try_connect_tls`], from another address of loopback.
pub async fn try_connect_tls_from(address: &str, port: u16, ca: &Path) -> std::io::Result<Stream> {
    shake_hands(tcp_from(address, port).await?, ca, vec![]).await
}

/// As [`connect_tcp`], from another address of loopback.
pub async fn connect_tcp_from(address: &str, port: u16) -> Stream {
    Stream(Box::new(tcp_from(address, port).await.expect("the bus accepts the connection")))
}

async fn tcp_from(address: &str, port: u16) -> std::io::Result<TcpStream> {
    let socket = TcpSocket::new_v4()?;
    socket.bind(SocketAddr::new(address.parse().unwrap(), 0))?;
    socket.connect(SocketAddr::from(([127, 0, 0, 1], port))).await
}

async fn shake_hands(
    tcp: TcpStream,
    ca: &Path,
    protocols: Vec<Vec<u8>>,
) -> std::io::Result<Stream> {
    let mut roots = rustls::RootCertStore::empty();
    for certificate in CertificateDer::pem_file_iter(ca).unwrap() {
        roots.add(certificate.unwrap()).unwrap();
    }
    let config = rustls::ClientConfig::builder().with_root_certificates(roots);
    let mut config = config.with_no_client_auth();
    config.alpn_protocols = protocols;
    let connector = tokio_rustls::TlsConnector::from(Arc::new(config));
    let name = ServerName::try_from("localhost").unwrap();
    let handshake = connector.connect(name, tcp);
    let stream = within(LIMIT, "the TLS handshake ends", handshake).await?;
    Ok(Stream(Box::new(stream)))
}

impl Stream {
    /// Writes; whether the other side still took it.
    pub async fn send(&mut self, bytes: impl AsRef<[u8]>) -> bool {
        let write = async {
            self.0.write_all(bytes.as_ref()).await?;
            self.0.flush().await
        };
        within(LIMIT, "the bus takes what is sent", write).await.is_ok()
    }

    /// Everything until the bus closes the connection, which it must.
    pub async fn read_to_end(&mut self) -> String {
        let mut read = Vec::new();
        // An error, such as a reset, ends the connection as well.
        let ended = self.0.read_to_end(&mut read);
        let _ = within(LIMIT, "the bus closes the connection", ended).await;
        String::from_utf8_lossy(&read).into_owned()
    }

    /// Reads so many bytes, such as a body.
    pub async fn read_exactly(&mut self, length: usize) -> String {
        let mut read = vec![0; length];
        let whole = self.0.read_exact(&mut read);
        within(LIMIT, "the bus answers", whole).await.expect("the answer is whole");
        String::from_utf8_lossy(&read).into_owned()
    }

    /// Reads until the end of an answer's head; what was read so far if the connection ends.
    pub async fn read_head(&mut self) -> String {
        self.read_until(b"\r\n\r\n").await
    }

    /// Reads until these bytes; what was read so far if the connection ends.
    pub async fn read_until(&mut self, end: &[u8]) -> String {
        let mut read = Vec::new();
        let head = async {
            while !read.ends_with(end) {
                match self.0.read_u8().await {
                    Ok(byte) => read.push(byte),
                    Err(_) => break,
                }
            }
        };
        within(LIMIT, "the bus answers", head).await;
        String::from_utf8_lossy(&read).into_owned()
    }
}

/// The status of a raw answer; `None` if there was none.
pub fn status(answer: &str) -> Option<u16> {
    answer.strip_prefix("HTTP/1.1 ")?.get(..3)?.parse().ok()
}

/// A header of a raw answer.
pub fn header<'a>(answer: &'a str, name: &str) -> Option<&'a str> {
    let head = answer.split("\r\n\r\n").next()?;
    head.lines().skip(1).find_map(|line| {
        let (key, value) = line.split_once(':')?;
        key.eq_ignore_ascii_case(name).then(|| value.trim())
    })
}
