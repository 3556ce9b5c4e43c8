//! What a server serves, and how one request is answered: over HTTPS or not at all, and perhaps past the
//! router.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::panic::resume_unwind;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use axum::Router;
use axum::body::{Body, Bytes, HttpBody};
use axum::extract::ConnectInfo;
use axum::http::{HeaderValue, Method, Request, StatusCode, Version, header};
use axum::response::{IntoResponse, Response};
use futures_util::future::BoxFuture;
use futures_util::{StreamExt, stream};
use hyper::body::{Frame, Incoming, SizeHint};
use hyper::service::Service;
use tokio::runtime::Handle;
use tokio::sync::mpsc;
use tokio_util::task::AbortOnDropHandle;
use tower::ServiceExt;

use super::connection::{OpenRequest, OpenRequests};
use super::course::{Course, Stage};
use super::cross_site;
use super::in_flight::{BytesInFlight, Held, NoRoom, Requester};
use super::refusal::Refusal;
use super::transport::{HSTS, Transport, TransportRules, drop_slash, join_slashes, redirect};
use super::unread::{self, RequestBody};

const CLOSE: HeaderValue = HeaderValue::from_static("close");

/// A way past the router, for the kind of request that most requests are, as long as they are short: what a
/// router spends on finding its handler is a fifth of what it costs.
pub trait ShortWay: Send + Sync {
    /// Whether it answers such a request; the router is asked for all others.
    fn is_for(&self, method: &Method, path: &str) -> bool;

    /// Answers a request that it is for.
    fn answer(
        &self,
        request: Request<RequestBody>,
        peer: SocketAddr,
    ) -> BoxFuture<'static, Response>;
}

/// What a server serves.
pub struct Site {
    pub router: Router,
    /// Where the router's handlers run: they may take long, and nobody would take over what else waits on a front.
    pub runtime: Handle,
    /// Whether no handler takes long over a short request: those are answered on the front.
    pub is_quick: bool,
    /// One for each front, or none.
    pub short_ways: Vec<Arc<dyn ShortWay>>,
    pub transport: TransportRules,
    pub in_flight: Arc<BytesInFlight>,
}

/// What the requests of one connection share.
pub struct ConnectionState {
    pub site: Arc<Site>,
    /// The front that it is on.
    pub front: usize,
    pub peer: SocketAddr,
    pub transport: Transport,
    /// Those that came over this connection.
    pub open_requests: OpenRequests,
    pub course: Arc<Course>,
}

/// Answers the requests of one connection.
pub struct ConnectionService(Arc<ConnectionState>);

impl ConnectionService {
    pub fn new(state: ConnectionState) -> Self {
        Self(Arc::new(state))
    }
}

impl ConnectionState {
    async fn answer(&self, mut request: Request<RequestBody>, requester: &Requester) -> Response {
        let Site { short_ways, transport, .. } = &*self.site;
        join_slashes(request.uri_mut());
        if request.uri().path().ends_with('/') && (transport.ignores_slash)(request.uri().path()) {
            drop_slash(request.uri_mut());
        }
        let is_https = transport.is_https(self.transport, request.headers());
        if !is_https && !(transport.is_answered_plain)(request.uri().path()) {
            return redirect(&request);
        }
        if cross_site::is_foreign(&request) {
            return Refusal::Forbidden(cross_site::REFUSED).into_response();
        }
        let is_strict = is_https && transport.is_strict_about(&request);
        let is_head = request.method() == Method::HEAD;
        let is_short = request.body().size_hint().exact().is_some_and(|bytes| bytes <= SHORT);
        let is_for = |way: &&Arc<dyn ShortWay>| {
            is_short && way.is_for(request.method(), request.uri().path())
        };
        let mut response = match short_ways.get(self.front).filter(is_for) {
            Some(way) => way.answer(request, self.peer).await,
            None => self.route(request, is_short, requester.clone()).await,
        };
        if is_strict {
            response.headers_mut().insert(header::STRICT_TRANSPORT_SECURITY, HSTS);
        }
        // The router gives each answer to HEAD a length; HTTP allows none with this status.
        if is_head && response.status() == StatusCode::NO_CONTENT {
            response.headers_mut().remove(header::CONTENT_LENGTH);
        }
        response
    }

    /// Has the router answer a request, on its runtime unless that is quick.
    async fn route(
        &self,
        mut request: Request<RequestBody>,
        is_short: bool,
        requester: Requester,
    ) -> Response {
        request.extensions_mut().insert(requester);
        request.extensions_mut().insert(ConnectInfo(self.peer));
        let Site { router, runtime, is_quick, .. } = &*self.site;
        let router = router.clone();
        let routed = async move {
            match router.oneshot(request).await {
                Ok(response) => response.map(made_here),
                Err(never) => match never {},
            }
        };
        match *is_quick && is_short {
            true => routed.await,
            false => on(runtime, routed).await,
        }
    }
}

/// How large a body may be that is read on a front, in bytes: a few hundred microseconds.
const SHORT: u64 = 64 * 1024;

/// Does something on another runtime, for as long as somebody waits for it.
async fn on<T: Send + 'static>(
    runtime: &Handle,
    work: impl Future<Output = T> + Send + 'static,
) -> T {
    match AbortOnDropHandle::new(runtime.spawn(work)).await {
        Ok(done) => done,
        Err(error) => match error.try_into_panic() {
            Ok(panic) => resume_unwind(panic),
            // The process ends.
            Err(_) => std::future::pending().await,
        },
    }
}

/// The body of an answer that is made while it is read: made on this runtime, and not where it is sent.
fn made_here(body: Body) -> Body {
    if body.size_hint().exact().is_some() {
        return body;
    }
    let (parts, made) = mpsc::channel(1);
    let making = AbortOnDropHandle::new(tokio::spawn(async move {
        let mut body = body.into_data_stream();
        while let Some(part) = body.next().await {
            if parts.send(part).await.is_err() {
                break;
            }
        }
    }));
    let made = (made, making);
    Body::from_stream(stream::unfold(made, async |mut made| Some((made.0.recv().await?, made))))
}

/// Bytes of an answer that are handed over at once: what a client does not read stays here, where it is
/// known of, and not in the buffers of its connection.
const PART: usize = 16 * 1024;

/// Bytes of an answer that are not counted: those of errors and health checks, which come whatever is held.
const SMALL: u64 = 1024;

/// The body of an answer; its request is open until it is handed over whole.
struct OpenBody {
    body: Body,
    /// Of the last frame of the body.
    rest: Bytes,
    open: OpenRequest,
    _held: Held,
}

impl HttpBody for OpenBody {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        self.open.step();
        if self.rest.is_empty() {
            let frame = ready!(Pin::new(&mut self.body).poll_frame(cx));
            match frame.map(|frame| frame.map(Frame::into_data)) {
                Some(Ok(Ok(data))) => self.rest = data,
                Some(Ok(Err(other))) => return Poll::Ready(Some(Ok(other))),
                Some(Err(error)) => return Poll::Ready(Some(Err(error))),
                None => return Poll::Ready(None),
            }
        }
        let part = self.rest.len().min(PART);
        Poll::Ready(Some(Ok(Frame::data(self.rest.split_to(part)))))
    }

    fn is_end_stream(&self) -> bool {
        self.rest.is_empty() && self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        let (rest, body) = (self.rest.len() as u64, self.body.size_hint());
        let mut hint = SizeHint::new();
        hint.set_lower(rest + body.lower());
        if let Some(upper) = body.upper() {
            hint.set_upper(rest + upper);
        }
        hint
    }
}

impl Service<Request<Incoming>> for ConnectionService {
    type Response = Response;
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<Response, Infallible>>;

    fn call(&self, request: Request<Incoming>) -> Self::Future {
        let connection = self.0.clone();
        Box::pin(async move {
            let mut open = connection.open_requests.begin();
            let requester = Requester::default();
            let is_read = matches!(*request.method(), Method::GET | Method::HEAD);
            // HTTP/2 has a way of its own to say so.
            let can_be_told = request.version() <= Version::HTTP_11;
            let (request, unread) = unread::watch(request);
            let mut response = connection.answer(request, &requester).await;
            // A client that was too slow is not waited for again.
            if let Some(unread) =
                unread.filter(|_| response.status() != StatusCode::REQUEST_TIMEOUT)
            {
                unread.read().await;
            }
            if can_be_told && connection.course.has_reached(Stage::Leaving) {
                response.headers_mut().insert(header::CONNECTION, CLOSE);
            }
            if response.body().is_end_stream() {
                return Ok(response);
            }
            // What answers a change is small, and must not be taken back for want of room.
            let bytes = response.body().size_hint().lower();
            let counted = if is_read && bytes > SMALL { bytes } else { 0 };
            let in_flight = &connection.site.in_flight;
            let Ok(held) = in_flight.take(requester.holder(), counted).await else {
                return Ok(Refusal::from(NoRoom).into_response());
            };
            open.answered();
            Ok(response
                .map(|body| Body::new(OpenBody { body, rest: Bytes::new(), open, _held: held })))
        })
    }
}
