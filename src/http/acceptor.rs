//! New connections: TLS or plain, and how long they may take to say which.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use rustls::ServerConfig;
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio_rustls::TlsAcceptor;

use super::connection::Stream;

/// The first byte of a TLS connection: a handshake record. No HTTP request begins with it.
const TLS_HANDSHAKE: u8 = 0x16;

/// Tells TLS from plain HTTP by a connection's first byte.
pub struct Acceptor {
    /// What is shown at the moment; `None` where a proxy ends TLS: everything is plain.
    pub tls: Option<watch::Receiver<Arc<ServerConfig>>>,
    /// For the handshake.
    pub timeout: Duration,
}

impl Acceptor {
    /// # Errors
    /// If the client goes away, or is too slow.
    pub async fn open(&self, stream: TcpStream) -> io::Result<Stream> {
        stream.set_nodelay(true)?;
        tokio::time::timeout(self.timeout, self.shake_hands(stream)).await?
    }

    async fn shake_hands(&self, stream: TcpStream) -> io::Result<Stream> {
        let Some(tls) = &self.tls else {
            return Ok(Stream::Plain(stream));
        };
        let mut first = [0];
        if stream.peek(&mut first).await? == 1 && first[0] != TLS_HANDSHAKE {
            return Ok(Stream::Plain(stream));
        }
        let shown = tls.borrow().clone();
        Ok(Stream::Tls(Box::new(TlsAcceptor::from(shown).accept(stream).await?)))
    }
}
