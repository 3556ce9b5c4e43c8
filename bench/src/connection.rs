//! One keep-alive connection to the bus, with TLS or without, as lean as it can be: the benchmark shares the
//! machine with what it measures.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use url::Url;

use routemaster::cli::connect::Bus;
use routemaster::tls::trust;

/// For a connection to stand, TLS included.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// The longest answer that is read, header included, in bytes.
const ANSWER_MAX: usize = 64 * 1024;
const HEADERS_MAX: usize = 32;

/// Where requests go.
pub struct Endpoint {
    url: Url,
    /// None for plain HTTP.
    tls: Option<(ServerName<'static>, TlsConnector)>,
}

impl Endpoint {
    /// # Errors
    /// If the bus's address or its certificate authorities cannot be used.
    pub fn of(bus: &Bus) -> anyhow::Result<Self> {
        let url = Url::parse(bus.url()).context("the bus's address is not a URL")?;
        let host = url.host_str().context("the bus's address has no host")?;
        let name = host.trim_start_matches('[').trim_end_matches(']').to_owned();
        let name = ServerName::try_from(name).context("the bus's host is no name")?;
        let mut config = trust::config(bus.ca_files(), None)?;
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(Self { tls: Some((name, TlsConnector::from(Arc::new(config)))), url })
    }

    /// A plain listener.
    ///
    /// # Errors
    /// If its address is no URL.
    pub fn plain(url: &str) -> anyhow::Result<Self> {
        Ok(Self {
            url: Url::parse(url).context("a plain listener's address is not a URL")?,
            tls: None,
        })
    }

    /// What stands before the paths of the API, without a slash at the end.
    pub fn path(&self) -> &str {
        self.url.path().trim_end_matches('/')
    }

    /// Host and port.
    pub fn authority(&self) -> &str {
        self.url.authority()
    }
}

/// The answer to one request.
pub struct Answer {
    pub status: u16,
    /// The first line of its body.
    pub reason: String,
}

trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<S: AsyncRead + AsyncWrite + Send + Unpin> Stream for S {}

pub struct Connection {
    stream: Box<dyn Stream>,
    /// What was read and not yet used.
    buffer: Vec<u8>,
}

impl Connection {
    pub async fn open(endpoint: &Endpoint) -> io::Result<Self> {
        let host = endpoint.url.host_str().unwrap_or_default();
        let host = host.trim_start_matches('[').trim_end_matches(']');
        let port = endpoint.url.port_or_known_default().unwrap_or(443);
        let connect = async {
            let stream = TcpStream::connect((host, port)).await?;
            stream.set_nodelay(true)?;
            io::Result::Ok(match &endpoint.tls {
                Some((name, tls)) => Box::new(tls.connect(name.clone(), stream).await?) as _,
                None => Box::new(stream) as Box<dyn Stream>,
            })
        };
        let stream = tokio::time::timeout(CONNECT_TIMEOUT, connect).await??;
        Ok(Self { stream, buffer: Vec::with_capacity(4096) })
    }

    /// Sends a request in one write and reads its answer. The caller bounds the time.
    pub async fn exchange(&mut self, request: &[u8]) -> io::Result<Answer> {
        self.send(request).await?;
        loop {
            if let Some(answer) = self.take_answer()? {
                return Ok(answer);
            }
            if self.buffer.len() >= ANSWER_MAX {
                return Err(io::Error::other("the answer is too long"));
            }
            if self.stream.read_buf(&mut self.buffer).await? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
    }

    /// Sends a request, and leaves its answer alone.
    pub async fn send(&mut self, request: &[u8]) -> io::Result<()> {
        self.stream.write_all(request).await?;
        self.stream.flush().await
    }

    /// Sends a request and reads its whole answer, head and body, however long.
    pub async fn ask(&mut self, request: &[u8]) -> io::Result<Vec<u8>> {
        self.send(request).await?;
        loop {
            let mut headers = [httparse::EMPTY_HEADER; HEADERS_MAX];
            let mut response = httparse::Response::new(&mut headers);
            let parsed = response.parse(&self.buffer).map_err(io::Error::other)?;
            if let httparse::Status::Complete(head) = parsed {
                let whole = head + content_length(response.headers)?;
                if self.buffer.len() >= whole {
                    return Ok(self.buffer.drain(..whole).collect());
                }
            }
            if self.stream.read_buf(&mut self.buffer).await? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
    }

    /// Takes an answer off the buffer; none if it is not whole yet.
    fn take_answer(&mut self) -> io::Result<Option<Answer>> {
        let mut headers = [httparse::EMPTY_HEADER; HEADERS_MAX];
        let mut response = httparse::Response::new(&mut headers);
        let parsed = response.parse(&self.buffer).map_err(io::Error::other)?;
        let httparse::Status::Complete(head) = parsed else { return Ok(None) };
        let status = response.code.unwrap_or_default();
        let length = match status {
            204 | 304 => 0,
            _ => content_length(response.headers)?,
        };
        if self.buffer.len() < head + length {
            return Ok(None);
        }
        let reason =
            if length == 0 { String::new() } else { first_line(&self.buffer[head..][..length]) };
        self.buffer.drain(..head + length);
        Ok(Some(Answer { status, reason }))
    }
}

/// The length of a body, which must be said before it.
pub fn content_length(headers: &[httparse::Header<'_>]) -> io::Result<usize> {
    let header = headers.iter().find(|header| header.name.eq_ignore_ascii_case("content-length"));
    let length =
        header.and_then(|header| std::str::from_utf8(header.value).ok()?.trim().parse().ok());
    length.ok_or_else(|| io::Error::other("there is no Content-Length"))
}

fn first_line(body: &[u8]) -> String {
    let text = String::from_utf8_lossy(body);
    let line = text.lines().next().unwrap_or_default();
    line.chars().filter(|c| !c.is_control()).take(300).collect()
}
