//! What handlers take from a request: who calls, and the body.

use std::future::poll_fn;
use std::net::{IpAddr, SocketAddr};
use std::pin::pin;

use axum::body::{Bytes, HttpBody};
use axum::extract::{ConnectInfo, FromRequest, FromRequestParts, Request};
use axum::http::request::Parts;
use axum::http::{HeaderMap, Uri, header};
use bytes::BytesMut;

use super::auth::Caller;
use super::error::ApiError;
use super::state::{Api, Shared};

impl FromRequestParts<Shared> for Caller {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, api: &Shared) -> Result<Self, ApiError> {
        let peer = parts.extensions.get().map(|ConnectInfo(peer): &ConnectInfo<SocketAddr>| *peer);
        Self::authenticate(&parts.headers, peer, api).await
    }
}

impl Caller {
    /// Who calls from `peer` with these headers.
    ///
    /// # Errors
    /// As [`Tokens::caller`](super::auth::Tokens::caller), and if too many from there are unknown.
    pub async fn authenticate(
        headers: &HeaderMap,
        peer: Option<SocketAddr>,
        api: &Api,
    ) -> Result<Self, ApiError> {
        let authorization = headers.get(header::AUTHORIZATION);
        let authorization = authorization.ok_or(ApiError::Unauthorized)?.as_bytes();
        if let Some(caller) = api.tokens.known(authorization) {
            return Ok(caller);
        }
        // Counted before the store is asked: guessing must not be work for it.
        if let Some(address) = client_address(headers, peer, api) {
            api.limits.failed_authentication(address)?;
        }
        api.tokens.caller(authorization).await
    }
}

/// Where a request comes from: the other end of its connection or, behind a trusted proxy, of the
/// proxy's, which it adds to `X-Forwarded-For` last.
fn client_address(headers: &HeaderMap, peer: Option<SocketAddr>, api: &Api) -> Option<IpAddr> {
    let forwarded = || {
        let addresses = headers.get_all("x-forwarded-for").iter().next_back()?;
        addresses.to_str().ok()?.rsplit(',').next()?.trim().parse().ok()
    };
    let proxied = if api.settings.trust_proxy { forwarded() } else { None };
    proxied.or_else(|| peer.map(|peer| peer.ip()))
}

/// Whether a switch in the query is on; `false` if it is not there.
pub fn query_flag(uri: &Uri, name: &str) -> Result<bool, ApiError> {
    let pairs = url::form_urlencoded::parse(uri.query().unwrap_or_default().as_bytes());
    match pairs.filter(|(key, _)| key == name).map(|(_, value)| value).last().as_deref() {
        None | Some("false") => Ok(false),
        Some("true") => Ok(true),
        Some(_) => Err(ApiError::bad_request(format!("`{name}` must be true or false"))),
    }
}

/// A body that arrived in time and is not larger than `ROUTEMASTER_MAX_BODY`.
pub struct Body(pub Bytes);

impl FromRequest<Shared> for Body {
    type Rejection = ApiError;

    async fn from_request(request: Request, api: &Shared) -> Result<Self, ApiError> {
        let (parts, body) = request.into_parts();
        Self::read(&parts.headers, body, api).await
    }
}

impl Body {
    /// # Errors
    /// If the body is encoded, too large, too slow, or broken off.
    pub async fn read<B>(headers: &HeaderMap, body: B, api: &Api) -> Result<Self, ApiError>
    where
        B: HttpBody<Data = Bytes>,
    {
        let encoding = headers.get(header::CONTENT_ENCODING);
        if encoding.is_some_and(|encoding| !encoding.as_bytes().eq_ignore_ascii_case(b"identity")) {
            return Err(ApiError::EncodedBody);
        }
        let read = read_whole(body, api.settings.max_body);
        match tokio::time::timeout(api.settings.body_timeout, read).await {
            Err(_) => Err(ApiError::BodyTimeout),
            Ok(whole) => whole.map(Self),
        }
    }
}

async fn read_whole<B>(body: B, max: usize) -> Result<Bytes, ApiError>
where
    B: HttpBody<Data = Bytes>,
{
    let mut body = pin!(body);
    if body.size_hint().lower() > max as u64 {
        return Err(ApiError::BodyTooLarge { max });
    }
    // Nearly always it is in one piece, which is taken as it is.
    let (mut first, mut joined) = (Bytes::new(), BytesMut::new());
    while let Some(frame) = poll_fn(|context| body.as_mut().poll_frame(context)).await {
        let broken = |_| ApiError::bad_request("the body ended early or is not well-formed");
        let Ok(data) = frame.map_err(broken)?.into_data() else { continue };
        if first.len().max(joined.len()) + data.len() > max {
            return Err(ApiError::BodyTooLarge { max });
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
