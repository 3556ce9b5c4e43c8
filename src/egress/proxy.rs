//! The way to receivers through an HTTP proxy, for networks that have no other one.
//!
//! What is encrypted goes through a tunnel (`CONNECT`); a plain request is given to the proxy whole. Either
//! way the proxy is told the name, as proxies that let through by name want it.

use std::fmt;
use std::io::{self, IoSlice};
use std::net::IpAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use futures_util::future::BoxFuture;
use http::{HeaderValue, Uri};
use hyper::rt::{Read, ReadBufCursor, Write};
use hyper_rustls::{HttpsConnector, MaybeHttpsStream};
use hyper_util::client::legacy::connect::proxy::Tunnel;
use hyper_util::client::legacy::connect::{Connected, Connection, HttpConnector};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tower::Service;
use url::Url;

use super::names::{ConnectError, Names};
use super::resolver::CheckedResolver;
use crate::bus::user_info;
use crate::causes;

/// An HTTP proxy. Its password is shown nowhere.
#[derive(Clone, PartialEq, Eq)]
pub struct Proxy {
    uri: Uri,
    authorization: Option<HeaderValue>,
}

impl Proxy {
    /// `None` unless it is `http://host:port`, with or without user and password.
    pub fn parse(text: &str) -> Option<Self> {
        let url = Url::parse(text).ok()?;
        let is_bare = url.path() == "/" && url.query().is_none() && url.fragment().is_none();
        if url.scheme() != "http" || !is_bare {
            return None;
        }
        let host = url.host_str().filter(|host| !host.is_empty())?;
        let port = url.port_or_known_default()?;
        let authorization = match (url.username(), url.password()) {
            ("", None) => None,
            (user, password) => {
                let value = user_info::authorization(user, password.unwrap_or_default());
                let mut value = HeaderValue::from_str(&value).ok()?;
                value.set_sensitive(true);
                Some(value)
            }
        };
        Some(Self { uri: format!("http://{host}:{port}/").parse().ok()?, authorization })
    }

    /// What a plain request has to carry.
    pub fn authorization(&self) -> Option<&HeaderValue> {
        self.authorization.as_ref()
    }

    /// Host and port.
    pub fn address(&self) -> &str {
        self.uri.authority().map_or("", |authority| authority.as_str())
    }

    fn tunnel<C>(&self, connector: C) -> Tunnel<C> {
        let tunnel = Tunnel::new(self.uri.clone(), connector);
        match &self.authorization {
            Some(authorization) => tunnel.with_auth(authorization.clone()),
            None => tunnel,
        }
    }
}

impl fmt::Debug for Proxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Proxy({})", self.address())
    }
}

/// How long it is waited for a name that is looked up here only to hold its addresses against the rules.
const LOOK_UP: Duration = Duration::from_millis(500);

/// Connects to the proxy instead of to the receiver.
#[derive(Clone)]
pub(super) struct ProxyConnector {
    proxy: Proxy,
    resolver: Arc<CheckedResolver>,
    encrypted: HttpsConnector<Tunnel<HttpConnector<Names>>>,
    plain: HttpConnector<Names>,
}

impl ProxyConnector {
    /// `tcp` connects to the proxy; `wrap` adds TLS.
    pub fn new(
        proxy: Proxy,
        resolver: Arc<CheckedResolver>,
        tcp: HttpConnector<Names>,
        wrap: impl FnOnce(Tunnel<HttpConnector<Names>>) -> HttpsConnector<Tunnel<HttpConnector<Names>>>,
    ) -> Self {
        let encrypted = wrap(proxy.tunnel(tcp.clone()));
        Self { proxy, resolver, encrypted, plain: tcp }
    }

    pub fn connect(&mut self, uri: Uri) -> BoxFuture<'static, Result<Reached, ConnectError>> {
        let (proxy, resolver) = (self.proxy.clone(), self.resolver.clone());
        let is_plain = uri.scheme_str() == Some("http");
        let name = uri.host().map(str::to_owned).unwrap_or_default();
        let (mut encrypted, mut plain) = (self.encrypted.clone(), self.plain.clone());
        Box::pin(async move {
            check(&resolver, &name).await.map_err(io::Error::other)?;
            if is_plain {
                let stream = plain.call(proxy.uri.clone()).await;
                let stream = stream.map_err(|error| not_reached(&proxy, error.into()))?;
                return Ok(Reached {
                    stream: MaybeHttpsStream::Http(stream),
                    by_plain_proxy: true,
                });
            }
            let stream = encrypted.call(uri).await.map_err(|error| not_reached(&proxy, error))?;
            Ok(Reached { stream, by_plain_proxy: false })
        })
    }
}

/// Holds the addresses of a name against the rules, if it has any here: where names are the proxy's affair
/// alone, so is what they stand for. Which one the proxy takes, nobody here knows, so that each must be allowed.
async fn check(resolver: &CheckedResolver, name: &str) -> Result<(), String> {
    // An address in the URL was held against them before.
    if name.trim_matches(['[', ']']).parse::<IpAddr>().is_ok() {
        return Ok(());
    }
    match tokio::time::timeout(LOOK_UP, resolver.addresses(name)).await {
        Ok(Ok(addresses)) => resolver.check_all(name, &addresses),
        Ok(Err(_)) | Err(_) => Ok(()),
    }
}

/// Says that it is the proxy's fault. What is wrong with the receiver's certificate stays what it is.
fn not_reached(proxy: &Proxy, error: ConnectError) -> ConnectError {
    if causes::tls(&*error).is_some() {
        return error;
    }
    let why = match causes::root(&*error).to_string() {
        // What the library says is all there is to tell by.
        text if text.contains("authorization required") => {
            "it does not accept the user and password of ROUTEMASTER_OUTBOUND_PROXY".into()
        }
        text if text.contains("unsuccessful") => {
            "it refuses to connect there, or the user of ROUTEMASTER_OUTBOUND_PROXY".into()
        }
        text => text,
    };
    io::Error::other(format!("through the proxy {}: {why}", proxy.address())).into()
}

/// A connection to a receiver, or to a proxy that is given whole requests.
pub struct Reached {
    pub(super) stream: MaybeHttpsStream<TokioIo<TcpStream>>,
    pub(super) by_plain_proxy: bool,
}

impl Connection for Reached {
    fn connected(&self) -> Connected {
        self.stream.connected().proxy(self.by_plain_proxy)
    }
}

impl Read for Reached {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buffer)
    }
}

impl Write for Reached {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, slices)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_proxy_is_an_address_with_or_without_a_password() {
        let proxy = Proxy::parse("http://proxy.example:3128").unwrap();
        assert_eq!((proxy.address(), proxy.authorization()), ("proxy.example:3128", None));
        let proxy = Proxy::parse("http://us%40er:pa%3Ass@10.0.0.5/").unwrap();
        assert_eq!(proxy.address(), "10.0.0.5:80");
        assert_eq!(proxy.authorization().unwrap(), "Basic dXNAZXI6cGE6c3M=");
        assert!(!format!("{proxy:?}").contains("pa"), "{proxy:?}");
        assert_eq!(Proxy::parse("http://[::1]:3128").unwrap().address(), "[::1]:3128");
        for wrong in ["proxy.example:3128", "https://a:1", "socks5://a:1", "http://a/x", "http://"]
        {
            assert_eq!(Proxy::parse(wrong), None, "{wrong}");
        }
    }
}
