//! What the journal keeps of an attempt.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::CarriedEvents;
use crate::bus::token::ClientToken;

/// What an attempt was made at.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum EntryKind {
    Batch,
    Call,
    Postback,
    Message,
}

impl EntryKind {
    pub const ALL: [Self; 4] = [Self::Batch, Self::Call, Self::Postback, Self::Message];

    pub fn as_str(self) -> &'static str {
        match self {
            Self::Batch => "batch",
            Self::Call => "call",
            Self::Postback => "postback",
            Self::Message => "message",
        }
    }

    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.as_str() == text)
    }
}

/// Whose an entry is: a hash of a token, so that the journal holds none.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Owner(String);

impl Owner {
    pub fn of(token: &ClientToken) -> Self {
        Self(token.short_hash())
    }

    pub fn nobody() -> Self {
        Self(String::new())
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }

    pub(crate) fn from_stored(text: String) -> Self {
        Self(text)
    }
}

/// One attempt.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Entry {
    /// When it ended, in milliseconds since the epoch.
    pub at_ms: u64,
    pub kind: EntryKind,
    /// Of the call, or of the batch.
    pub id: String,
    pub owner: Owner,
    /// The owner as it may be shown to anybody.
    pub client: String,
    /// Where it went: of a batch the subscriber, of others the destination.
    pub target: String,
    /// Method and URL.
    pub title: String,
    /// From 1.
    pub attempt: u32,
    pub failed: bool,
    /// What was answered, if anything was.
    pub status: Option<u16>,
    /// Why it failed; empty if it did not.
    pub error: String,
    pub took_ms: u64,
    /// Of the body that was sent.
    pub bytes: u64,
    /// The beginning of the answer.
    pub answer: String,
    /// When the next attempt is made, in milliseconds since the epoch, if there is one.
    pub next_ms: Option<u64>,
    /// Of a batch.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub events: Option<CarriedEvents>,
}

impl Entry {
    /// What it takes in memory, about, in bytes.
    pub fn size(&self) -> usize {
        let texts = [&self.id, &self.client, &self.target, &self.title, &self.error, &self.answer];
        let events = self.events.as_ref().map_or(0, |events| events.list.len());
        size_of::<Self>() + texts.map(String::len).iter().sum::<usize>() + events
    }
}
