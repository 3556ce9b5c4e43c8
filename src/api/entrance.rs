//! Where requests come in: over TLS or not at all, and publishes by the short way.
//!
//! Publishing is what most requests are there for. They go straight to their handler: what a router
//! spends on finding it is a fifth of what such a request costs. Everything else, and a publish that
//! is not written as usual, goes through the router, which has the same handler.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use axum::body::{Body, Bytes, HttpBody};
use axum::extract::ConnectInfo;
use axum::http::{HeaderValue, Method, Request, StatusCode, Version, header};
use axum::response::{IntoResponse, Response};
use axum::{BoxError, Router};
use futures_util::future::BoxFuture;
use hyper::body::{Frame, SizeHint};
use tokio_util::sync::CancellationToken;
use tower::Service;

use super::connection::{OpenRequest, OpenRequests};
use super::health;
use super::router::{bare_router, metrics_router, router};
use super::server::Routes;
use super::state::Shared;
use super::topics;
use super::transport::{HSTS, Transport, forwarded_https, host_of, join_slashes, redirect};

const CLOSE: HeaderValue = HeaderValue::from_static("close");

/// What a server answers with.
pub struct Answers {
    routes: Routes,
    api: Shared,
    router: Router,
}

impl Answers {
    pub fn of(routes: Routes, api: Shared) -> Self {
        let router = match routes {
            Routes::Api => router(api.clone()),
            Routes::Metrics => metrics_router(api.clone()),
            Routes::Bare => bare_router(),
        };
        Self { routes, api, router }
    }

    /// The topic's name that a publish has in its path, as it was written; `None` if it is not as
    /// simple as that, or not for this server.
    fn published_topic<'a, B>(&self, request: &'a Request<B>) -> Option<&'a str> {
        let topic = request.uri().path().strip_prefix("/topics/")?;
        let is_simple = topic.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_');
        let is_publish = self.routes == Routes::Api && request.method() == Method::POST;
        (is_publish && is_simple && !topic.is_empty()).then_some(topic)
    }
}

/// Answers the requests of one connection.
#[derive(Clone)]
pub struct Entrance {
    pub answers: Arc<Answers>,
    pub peer: SocketAddr,
    pub transport: Transport,
    /// Those that came over this connection.
    pub open_requests: OpenRequests,
    /// From then on, clients are told to leave with the answers that they get.
    pub stop: CancellationToken,
}

impl Entrance {
    async fn answer<B>(&self, mut request: Request<B>) -> Response
    where
        B: HttpBody<Data = Bytes> + Send + 'static,
        B::Error: Into<BoxError>,
    {
        let Answers { routes, api, router } = &*self.answers;
        join_slashes(request.uri_mut());
        if *routes == Routes::Bare {
            return route(router, request).await;
        }
        let is_https = self.transport == Transport::Tls
            || api.settings.trust_proxy && forwarded_https(request.headers());
        if !is_https && !health::is_asked_for(request.uri().path()) {
            return redirect(&request);
        }
        let is_strict = is_https && api.is_strict_about(host_of(&request));
        let is_head = request.method() == Method::HEAD;
        let mut response = if let Some(topic) = self.answers.published_topic(&request) {
            let topic = topic.to_owned();
            let (parts, body) = request.into_parts();
            let caller = (&parts.headers, Some(self.peer));
            topics::publish_to(api, &topic, caller, body).await.into_response()
        } else {
            request.extensions_mut().insert(ConnectInfo(self.peer));
            route(router, request).await
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
}

async fn route<B>(router: &Router, request: Request<B>) -> Response
where
    B: HttpBody<Data = Bytes> + Send + 'static,
    B::Error: Into<BoxError>,
{
    match router.clone().call(request).await {
        Ok(response) => response,
        Err(never) => match never {},
    }
}

/// The body of an answer; its request is open until it is handed over whole.
struct OpenBody {
    body: Body,
    _open: OpenRequest,
}

impl HttpBody for OpenBody {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        Pin::new(&mut self.body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

impl<B> Service<Request<B>> for Entrance
where
    B: HttpBody<Data = Bytes> + Send + 'static,
    B::Error: Into<BoxError>,
{
    type Response = Response;
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<Response, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let entrance = self.clone();
        Box::pin(async move {
            let open = entrance.open_requests.begin();
            // HTTP/2 has a way of its own to say so.
            let can_be_told = request.version() <= Version::HTTP_11;
            let mut response = entrance.answer(request).await;
            if can_be_told && entrance.stop.is_cancelled() {
                response.headers_mut().insert(header::CONNECTION, CLOSE);
            }
            if response.body().is_end_stream() {
                return Ok(response);
            }
            Ok(response.map(|body| Body::new(OpenBody { body, _open: open })))
        })
    }
}
