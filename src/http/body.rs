//! Bodies of requests: whole, in time, and not too large.

use std::future::poll_fn;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use axum::body::{Bytes, HttpBody};
use axum::http::{HeaderMap, header};
use bytes::BytesMut;

use super::in_flight::{BytesInFlight, Held, Holder};
use super::refusal::Refusal;

/// A body that arrived in time and is not too large. Its bytes count as held until it is dropped.
pub struct Body {
    pub bytes: Bytes,
    _held: Held,
}

/// How large a body may be (`ROUTEMASTER_MAX_BODY`), and how long it may take
/// (`ROUTEMASTER_BODY_TIMEOUT`).
#[derive(Clone)]
pub struct BodyLimits {
    /// Bytes.
    pub max: usize,
    pub timeout: Duration,
    pub in_flight: Arc<BytesInFlight>,
}

impl BodyLimits {
    /// Reads a body once there is room for it.
    ///
    /// # Errors
    /// If the body is encoded, too large, too slow, or broken off, or there is no room for a while.
    pub async fn read<B>(
        &self,
        headers: &HeaderMap,
        body: B,
        holder: Holder,
    ) -> Result<Body, Refusal>
    where
        B: HttpBody<Data = Bytes>,
    {
        let encoding = headers.get(header::CONTENT_ENCODING);
        if encoding.is_some_and(|encoding| !encoding.as_bytes().eq_ignore_ascii_case(b"identity")) {
            return Err(Refusal::EncodedBody);
        }
        let max = self.max;
        let length = body.size_hint();
        if length.lower() > max as u64 {
            return Err(Refusal::BodyTooLarge { max });
        }
        let _held = self.in_flight.take(holder, length.exact().unwrap_or(max as u64)).await?;
        match tokio::time::timeout(self.timeout, read_whole(body, max)).await {
            Err(_) => Err(Refusal::BodyTimeout),
            Ok(whole) => whole.map(|bytes| Body { bytes, _held }),
        }
    }
}

async fn read_whole<B>(body: B, max: usize) -> Result<Bytes, Refusal>
where
    B: HttpBody<Data = Bytes>,
{
    let mut body = pin!(body);
    // Nearly always it is in one piece, which is taken as it is.
    let (mut first, mut joined) = (Bytes::new(), BytesMut::new());
    while let Some(frame) = poll_fn(|context| body.as_mut().poll_frame(context)).await {
        let broken = |_| Refusal::bad_request("the body ended early or is not well-formed");
        let Ok(data) = frame.map_err(broken)?.into_data() else { continue };
        if first.len().max(joined.len()) + data.len() > max {
            return Err(Refusal::BodyTooLarge { max });
        }
        if first.is_empty() {
            first = data;
            continue;
        }
        if joined.is_empty() {
            joined.extend_from_slice(&first);
        }
        joined.extend_from_slice(&data);
    }
    Ok(if joined.is_empty() { first } else { joined.freeze() })
}
