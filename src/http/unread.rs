//! What is left of a body that nobody read to its end.
//!
//! An answer that is given early (401, 404, 413…) meets a client that is still sending. With HTTP/1.1 the
//! connection would then be reset, with HTTP/2 the stream, and many clients report that in place of the
//! answer. So the rest is read first and thrown away.

use std::future::poll_fn;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use axum::body::{Bytes, HttpBody};
use axum::http::{HeaderMap, Request, header};
use hyper::body::{Frame, Incoming, SizeHint};

/// How much is read, in bytes: clients that send more have to stand a reset.
const MAX: u64 = 8 * 1024 * 1024;
/// How long in all, and how long the client may say nothing.
const TIMEOUT: Duration = Duration::from_secs(15);
const SILENCE: Duration = Duration::from_secs(1);

/// A body that leaves to its [`Unread`] what is not read of it.
pub struct RequestBody {
    /// None: it has been left.
    incoming: Option<Incoming>,
    is_begun: bool,
    unread: Arc<Mutex<Option<(Incoming, bool)>>>,
}

/// Where the rest of a body is to be found.
pub struct Unread {
    left: Arc<Mutex<Option<(Incoming, bool)>>>,
    /// The client sends nothing before it is told to.
    waits_for_continue: bool,
}

/// Takes the body of a request in care.
pub fn watch(request: Request<Incoming>) -> (Request<RequestBody>, Option<Unread>) {
    // Most requests without one.
    let is_empty = request.body().is_end_stream();
    let left = Arc::default();
    let unread = Unread { left: Arc::clone(&left), waits_for_continue: waits(request.headers()) };
    let request = request.map(|incoming| RequestBody {
        incoming: Some(incoming),
        is_begun: false,
        unread: left,
    });
    (request, (!is_empty).then_some(unread))
}

fn waits(headers: &HeaderMap) -> bool {
    let expect = headers.get(header::EXPECT);
    expect.is_some_and(|expect| expect.as_bytes().eq_ignore_ascii_case(b"100-continue"))
}

impl Unread {
    /// Reads what is left, as far as it is worth it.
    pub async fn read(self) {
        let left = self.left.lock().unwrap_or_else(PoisonError::into_inner).take();
        let Some((mut incoming, is_begun)) = left else { return };
        // To read would be to tell it to send.
        let is_silent = self.waits_for_continue && !is_begun;
        if is_silent || incoming.size_hint().lower() > MAX {
            return;
        }
        let all = async {
            let mut read = 0;
            while read < MAX {
                let next = poll_fn(|context| Pin::new(&mut incoming).poll_frame(context));
                // Nothing more, or nothing soon.
                let Ok(Some(Ok(frame))) = tokio::time::timeout(SILENCE, next).await else { return };
                read += frame.data_ref().map_or(0, |data| data.len() as u64);
            }
        };
        // Late, the answer goes out as it is.
        let _ = tokio::time::timeout(TIMEOUT, all).await;
    }
}

impl HttpBody for RequestBody {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        self.is_begun = true;
        match &mut self.incoming {
            Some(incoming) => Pin::new(incoming).poll_frame(cx),
            None => Poll::Ready(None),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.incoming.as_ref().is_none_or(HttpBody::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        self.incoming.as_ref().map(HttpBody::size_hint).unwrap_or_default()
    }
}

impl Drop for RequestBody {
    fn drop(&mut self) {
        let Some(incoming) = self.incoming.take().filter(|incoming| !incoming.is_end_stream())
        else {
            return;
        };
        *self.unread.lock().unwrap_or_else(PoisonError::into_inner) =
            Some((incoming, self.is_begun));
    }
}
