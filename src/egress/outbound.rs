//! The client for what the bus sends by itself: pooled, HTTP/1.1, no redirects, no proxy but the one of
//! the settings. It is hyper's own, because what a receiver may do to it has to be bounded on the way.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::BoxFuture;
use http::header::PROXY_AUTHORIZATION;
use http::{HeaderValue, Request, Response, Uri};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::ext::on_informational;
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::client::legacy::{Client, Error as ClientError};
use hyper_util::rt::{TokioExecutor, TokioTimer};
use rustls::client::Resumption;
use tokio::sync::Notify;
use tower::Service;

use super::names::{ConnectError, Names};
use super::proxy::{Proxy, ProxyConnector, Reached};
use super::resolver::CheckedResolver;
use super::reuse;
use crate::causes;
use crate::files;
use crate::tls::{refusal, trust};

/// Receivers close idle connections after 5 s (Puma, Node.js) or later. A pooled connection is
/// given up before, so that a batch is not sent into one that is just being closed.
const POOL_IDLE_TIMEOUT: Duration = Duration::from_secs(4);
/// The most headers of an answer.
const HEADERS_MAX: usize = 500;
/// The most bytes of an answer's head.
const HEAD_MAX: usize = 400 * 1024;
/// How many informational answers (1xx) may come before the one that counts.
const INFORMATIONAL_MAX: usize = 32;

/// What a client trusts and whom it connects to.
pub struct OutboundOptions {
    /// Files with certificate authorities to trust beside the system's.
    pub ca_files: Vec<PathBuf>,
    /// Whether certificates are checked at all.
    pub verify: bool,
    /// For a connection to stand, TLS included.
    pub connect_timeout: Duration,
    pub resolver: Arc<CheckedResolver>,
    pub proxy: Option<Proxy>,
}

/// What clients with connections of their own are made from.
pub struct OutboundTemplate {
    connector: Connector,
    proxy: Option<Proxy>,
}

/// A client; its clones share its connections.
#[derive(Clone)]
pub struct Outbound {
    client: Client<Connector, Full<Bytes>>,
    /// What a plain request has to show a proxy.
    proxy_authorization: Option<HeaderValue>,
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum SendError {
    #[error("no answer within {} ms", .0.as_millis())]
    TimedOut(Duration),
    #[error("more than {INFORMATIONAL_MAX} informational answers (1xx), and none that counts")]
    Flood,
    #[error("{}", told(.0))]
    Failed(#[source] ClientError),
}

impl SendError {
    /// Whether this process had no file left for it, which is not the receiver's fault.
    pub fn is_for_lack_of_files(&self) -> bool {
        files::are_used_up_by(self) || files::are_used_up()
    }
}

/// The last cause is what helps.
fn told(error: &ClientError) -> String {
    match causes::tls(error) {
        Some(tls) => refusal::told(tls),
        None if error.is_connect() => format!("failed to connect: {}", causes::root(error)),
        None => format!("the connection failed: {}", causes::root(error)),
    }
}

impl OutboundTemplate {
    /// # Errors
    /// If a file with certificate authorities cannot be read.
    pub fn new(options: OutboundOptions) -> anyhow::Result<Self> {
        let mut tls = match options.verify {
            true => trust::config(&options.ca_files, None)?,
            false => trust::config_for_all()?,
        };
        // A ticket is kept by name alone, and would be shown in clear to another port of it, which may be
        // another server. Connections are kept instead.
        tls.resumption = Resumption::disabled();
        let resolver = options.resolver;
        let is_checked = options.proxy.is_none();
        let mut tcp =
            HttpConnector::new_with_resolver(Names { resolver: resolver.clone(), is_checked });
        tcp.enforce_http(false);
        tcp.set_nodelay(true);
        tcp.set_connect_timeout(Some(options.connect_timeout));
        let https =
            HttpsConnectorBuilder::new().with_tls_config(tls).https_or_http().enable_http1();
        let way = match &options.proxy {
            None => Way::Direct(https.wrap_connector(tcp)),
            Some(proxy) => {
                let wrap = |tunnel| https.wrap_connector(tunnel);
                Way::Proxy(ProxyConnector::new(proxy.clone(), resolver, tcp, wrap).into())
            }
        };
        let connector = Connector { way, timeout: options.connect_timeout };
        Ok(Self { connector, proxy: options.proxy })
    }

    /// A client with connections of its own.
    pub fn client(&self) -> Outbound {
        let mut builder = Client::builder(TokioExecutor::new());
        builder
            .timer(TokioTimer::new())
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(POOL_IDLE_TIMEOUT)
            .http1_max_buf_size(HEAD_MAX)
            .http1_max_headers(HEADERS_MAX)
            // What curl and Ruby's client read past is no failure.
            .http1_allow_spaces_after_header_name_in_responses(true)
            .http1_allow_obsolete_multiline_headers_in_responses(true)
            .http1_ignore_invalid_headers_in_responses(true);
        Outbound {
            client: builder.build(self.connector.clone()),
            proxy_authorization: self.proxy.as_ref().and_then(Proxy::authorization).cloned(),
        }
    }
}

impl Outbound {
    /// Sends a request that may arrive twice; once more, over another connection, if one that had been used
    /// before turned out to be closed. The answer's body is left to the caller, who bounds it.
    ///
    /// # Errors
    /// Why there is no answer within `timeout`.
    pub async fn send_batch(
        &self,
        request: Request<Full<Bytes>>,
        timeout: Duration,
    ) -> Result<Response<Incoming>, SendError> {
        self.send(request, timeout, |request| {
            reuse::execute(move || self.client.request(request.clone()))
        })
        .await
    }

    /// Sends a request of which nobody knows what it does when it arrives twice: once more only if nothing of
    /// it had left when its connection turned out to be closed, which the client knows.
    ///
    /// # Errors
    /// Why there is no answer within `timeout`.
    pub async fn send_once(
        &self,
        request: Request<Full<Bytes>>,
        timeout: Duration,
    ) -> Result<Response<Incoming>, SendError> {
        self.send(request, timeout, |request| self.client.request(request)).await
    }

    async fn send<F>(
        &self,
        mut request: Request<Full<Bytes>>,
        timeout: Duration,
        execute: impl FnOnce(Request<Full<Bytes>>) -> F,
    ) -> Result<Response<Incoming>, SendError>
    where
        F: Future<Output = Result<Response<Incoming>, ClientError>>,
    {
        let is_plain = request.uri().scheme_str() == Some("http");
        if let Some(value) = self.proxy_authorization.as_ref().filter(|_| is_plain) {
            request.headers_mut().insert(PROXY_AUTHORIZATION, value.clone());
        }
        let flooded = Arc::new(Notify::new());
        let (count, told) = (AtomicUsize::new(0), flooded.clone());
        on_informational(&mut request, move |_| {
            if count.fetch_add(1, Ordering::Relaxed) >= INFORMATIONAL_MAX {
                told.notify_one();
            }
        });
        let sending = execute(request);
        tokio::select! {
            biased;
            () = flooded.notified() => Err(SendError::Flood),
            sent = tokio::time::timeout(timeout, sending) => match sent {
                Ok(sent) => sent.map_err(SendError::Failed),
                Err(_) => Err(SendError::TimedOut(timeout)),
            },
        }
    }
}

/// How much of an answer's body is read, and for how long, so that its connection can be used again.
const ANSWER_MAX: usize = 64 * 1024;
const ANSWER_TIMEOUT: Duration = Duration::from_millis(500);

/// Reads a body as far as that makes sense, and gives back the first bytes of it. If it does not come in time or
/// is broken off, its connection is not used again, and that is all.
pub async fn read_beginning(mut body: Incoming, bytes: usize) -> Vec<u8> {
    let mut beginning = Vec::new();
    let reading = async {
        let mut read = 0;
        while let Some(Ok(frame)) = body.frame().await {
            let Some(data) = frame.data_ref() else { continue };
            read += data.len();
            let missing = bytes.saturating_sub(beginning.len());
            beginning.extend_from_slice(&data[..data.len().min(missing)]);
            if read > ANSWER_MAX {
                return;
            }
        }
    };
    let _ = tokio::time::timeout(ANSWER_TIMEOUT, reading).await;
    beginning
}

/// Connects within a time, TLS included, and notes that it was done.
#[derive(Clone)]
struct Connector {
    way: Way,
    timeout: Duration,
}

#[derive(Clone)]
enum Way {
    Direct(HttpsConnector<HttpConnector<Names>>),
    Proxy(Box<ProxyConnector>),
}

impl Service<Uri> for Connector {
    type Response = Reached;
    type Error = ConnectError;
    type Future = BoxFuture<'static, Result<Reached, ConnectError>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), ConnectError>> {
        match &mut self.way {
            Way::Direct(https) => https.poll_ready(cx),
            Way::Proxy(_) => Poll::Ready(Ok(())),
        }
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        reuse::note_connect();
        let connecting = match &mut self.way {
            Way::Direct(https) => {
                let connecting = https.call(uri);
                let direct = |stream| Reached { stream, by_plain_proxy: false };
                Box::pin(async move { connecting.await.map(direct) }) as Self::Future
            }
            Way::Proxy(proxy) => proxy.connect(uri),
        };
        let limit = self.timeout;
        Box::pin(async move {
            let late = |_| {
                let text = format!("no connection within {} ms", limit.as_millis());
                io::Error::new(io::ErrorKind::TimedOut, text)
            };
            tokio::time::timeout(limit, connecting).await.map_err(late)?
        })
    }
}
