//! Requests over connections that were used before, which the other side may just have closed.
//!
//! Whoever keeps a connection for later cannot know whether the server has ended it meanwhile. A request
//! that meets the end of such a connection was, as a rule, never read; nothing is wrong with the server.

use std::cell::Cell;
use std::io;

use hyper::Response;
use hyper::body::Incoming;
use hyper_util::client::legacy::Error as ClientError;

use crate::causes;

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
/// What the last try came to.
pub async fn execute<F>(request: impl Fn() -> F) -> Result<Response<Incoming>, ClientError>
where
    F: Future<Output = Result<Response<Incoming>, ClientError>>,
{
    for _ in 1..TRIES {
        let (result, connected) = CONNECTED
            .scope(Cell::new(false), async {
                let result = request().await;
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
    request().await
}

/// Whether the other side ended the connection before it answered.
fn was_closed(error: &ClientError) -> bool {
    use io::ErrorKind::{BrokenPipe, ConnectionAborted, ConnectionReset, UnexpectedEof};
    let by_http = causes::all(error)
        .filter_map(|cause| cause.downcast_ref::<hyper::Error>())
        .any(|error| error.is_incomplete_message() || error.is_canceled() || error.is_closed());
    by_http
        || causes::io(error).map(io::Error::kind).is_some_and(|kind| {
            matches!(kind, BrokenPipe | ConnectionAborted | ConnectionReset | UnexpectedEof)
        })
}

/// Notes that a connection is made for a request, in [`execute`]. A client connects when nothing that it has
/// kept is free, within the request's own task.
pub(super) fn note_connect() {
    let _ = CONNECTED.try_with(|connected| connected.set(true));
}
