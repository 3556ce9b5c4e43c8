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

/// What is left of a body, and whether somebody has begun to read it.
struct Rest {
    incoming: Incoming,
    is_begun: bool,
}

/// Where a body that is dropped leaves its rest.
type Left = Arc<Mutex<Option<Rest>>>;

/// The body of a request, which leaves to its [`Unread`] what is not read of it.
pub struct RequestBody {
    /// None: it has been left.
    rest: Option<Rest>,
    left: Left,
}

/// What is not read of a request's body.
pub struct Unread {
    left: Left,
    /// The client sends nothing before it is told to.
    waits_for_continue: bool,
}

/// Takes the body of a request in care.
pub fn watch(request: Request<Incoming>) -> (Request<RequestBody>, Option<Unread>) {
    // Most requests without one.
    let is_empty = request.body().is_end_stream();
    let left = Left::default();
    let unread = Unread { left: Arc::clone(&left), waits_for_continue: waits(request.headers()) };
    let request = request
        .map(|incoming| RequestBody { rest: Some(Rest { incoming, is_begun: false }), left });
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
        let Some(Rest { mut incoming, is_begun }) = left else { return };
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
        let Some(rest) = &mut self.rest else { return Poll::Ready(None) };
        rest.is_begun = true;
        Pin::new(&mut rest.incoming).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.rest.as_ref().is_none_or(|rest| rest.incoming.is_end_stream())
    }

    fn size_hint(&self) -> SizeHint {
        self.rest.as_ref().map(|rest| rest.incoming.size_hint()).unwrap_or_default()
    }
}

impl Drop for RequestBody {
    fn drop(&mut self) {
        let rest = self.rest.take().filter(|rest| !rest.incoming.is_end_stream());
        if rest.is_some() {
            *self.left.lock().unwrap_or_else(PoisonError::into_inner) = rest;
        }
    }
}
