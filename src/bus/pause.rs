//! Pauses: a subscription that is paused keeps everything and sends nothing.

use serde::Serialize;
use utoipa::ToSchema;

/// Who has paused a subscription, and so what ends it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum PausedBy {
    /// The subscriber itself.
    Subscriber,
    /// The holder of the root key.
    Root,
    /// Its callback, which answered `410 Gone`. Any new subscription ends this pause too.
    Callback,
    /// Its token was revoked, and its queue was to be kept.
    Revocation,
}

impl PausedBy {
    const ALL: [Self; 4] = [Self::Subscriber, Self::Root, Self::Callback, Self::Revocation];

    /// As it is stored, and shown.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Subscriber => "subscriber",
            Self::Root => "root",
            Self::Callback => "callback",
            Self::Revocation => "revocation",
        }
    }

    /// Takes what was stored; what a newer version wrote is taken for root's.
    pub(crate) fn from_stored(text: &str) -> Self {
        Self::ALL.into_iter().find(|by| by.as_str() == text).unwrap_or(Self::Root)
    }

    /// For people: why nothing is sent.
    pub fn reason(self) -> &'static str {
        match self {
            Self::Subscriber => "the subscriber has paused it",
            Self::Root => "the operator has paused it",
            Self::Callback => "its callback answered 410 Gone",
            Self::Revocation => "its token was revoked, and its queue kept",
        }
    }
}

/// That a subscription is paused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pause {
    /// Since when, in milliseconds since the epoch.
    pub since_ms: u64,
    pub by: PausedBy,
}
