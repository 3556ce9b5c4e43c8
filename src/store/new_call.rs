//! What a store is given of a call, by where it comes from.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use super::{CallKey, CallTitle, NewCall};
use crate::bus::call::{Call, CallId, CallKind, Dialect, Due};
use crate::bus::postback::Postbacks;
use crate::bus::token::ClientToken;

/// What calls queue behind that were taken unread and cannot be made.
const NOWHERE: &str = "nowhere";

impl NewCall {
    pub fn of(client: &ClientToken, call: &Call, id: CallId) -> Self {
        Self {
            key: CallKey { client: client.clone(), id },
            kind: CallKind::Call,
            fingerprint: call.fingerprint(),
            destination: call.request.destination(),
            title: CallTitle::Own(call.request.title()),
            content: call.content(),
            due: call.due,
        }
    }

    /// A body that nobody was told anything about: if there is a call of the original's in it, that.
    pub fn unread(client: &ClientToken, body: Bytes, id: CallId) -> Self {
        if let Ok(call) = Call::parse(&body, Dialect::Original) {
            return Self::of(client, &call, id);
        }
        Self {
            key: CallKey { client: client.clone(), id },
            kind: CallKind::Unread,
            fingerprint: String::new(),
            destination: NOWHERE.into(),
            title: CallTitle::Own(String::new()),
            content: body,
            due: Due::In(Duration::ZERO),
        }
    }

    /// A call for each object.
    ///
    /// # Errors
    /// Why there is no id for one.
    pub fn postbacks<E>(
        client: &ClientToken,
        postbacks: &Postbacks,
        made_id: impl Fn() -> Result<CallId, E>,
    ) -> Result<Vec<Self>, E> {
        let title: Arc<str> = postbacks.endpoint.title().into();
        let destination = postbacks.endpoint.destination();
        let call = |content: &str| {
            Ok(Self {
                key: CallKey { client: client.clone(), id: made_id()? },
                kind: CallKind::Postback,
                fingerprint: String::new(),
                destination: destination.clone(),
                title: match postbacks.data.len() {
                    1 => CallTitle::Own(title.to_string()),
                    _ => CallTitle::Shared(title.clone()),
                },
                content: Bytes::copy_from_slice(content.as_bytes()),
                due: Due::In(Duration::ZERO),
            })
        };
        postbacks.data.iter().map(|object| call(object.get())).collect()
    }
}
