//! Requests over connections that were used before, which the other side may just have closed.
//!
//! Whoever keeps a connection for later cannot know whether the server has ended it meanwhile. A request
//! that meets the end of such a connection was, as a rule, never read; nothing is wrong with the server.

use std::cell::Cell;
use std::error::Error;
use std::io;
use std::task::{Context, Poll};

use reqwest::{Client, Request, Response};
use tower::{Layer, Service};

tokio::task_local! {
    /// Whether a connection was made for the request that this task makes.
    static CONNECTED: Cell<bool>;
}

/// How often a request meets a connection that ends, at most: a client keeps few for a server.
const TRIES: usize = 3;

/// Makes a request; once more, over another connection, if a connection that had been used before
/// turned out to be closed.
///
/// # Errors
/// As [`Client::execute`].
pub async fn execute(client: &Client, request: Request) -> reqwest::Result<Response> {
    for _ in 1..TRIES {
        // A body that streams can be sent once only.
        let Some(copy) = request.try_clone() else { break };
        let (result, connected) = CONNECTED
            .scope(Cell::new(false), async {
                let result = client.execute(copy).await;
                (result, CONNECTED.with(Cell::get))
            })
            .await;
        match result {
            Err(error) if !connected && was_closed(&error) => {
                tracing::debug!("a connection had been closed by the server: taking another one");
            }
            result => return result,
        }
    }
    client.execute(request).await
}

/// Whether the other side ended the connection before it answered.
fn was_closed(error: &reqwest::Error) -> bool {
    let mut cause = error.source();
    while let Some(error) = cause {
        let http = error.downcast_ref::<hyper::Error>();
        if http.is_some_and(|e| e.is_incomplete_message() || e.is_canceled() || e.is_closed()) {
            return true;
        }
        if let Some(error) = error.downcast_ref::<io::Error>() {
            use io::ErrorKind::{BrokenPipe, ConnectionAborted, ConnectionReset, UnexpectedEof};
            return matches!(
                error.kind(),
                BrokenPipe | ConnectionAborted | ConnectionReset | UnexpectedEof
            );
        }
        cause = error.source();
    }
    false
}

/// Notes when a connection is made for a request, in [`execute`].
#[derive(Clone)]
pub(super) struct NoticeConnects;

impl<S> Layer<S> for NoticeConnects {
    type Service = Noticed<S>;

    fn layer(&self, connector: S) -> Noticed<S> {
        Noticed(connector)
    }
}

#[derive(Clone)]
pub(super) struct Noticed<S>(S);

impl<S: Service<R>, R> Service<R> for Noticed<S> {
    type Response = S::Response;
    type Error = S::Error;
    type Future = S::Future;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.0.poll_ready(cx)
    }

    fn call(&mut self, request: R) -> S::Future {
        // A client connects when nothing that it has kept is free, within the request's own task.
        let _ = CONNECTED.try_with(|connected| connected.set(true));
        self.0.call(request)
    }
}
