//! Which entries somebody looks for.

use std::time::Duration;

use super::entry::{Entry, EntryKind, Owner};
use crate::bus::position::EventPosition;

/// How long a page is looked for before it ends with what was found.
pub const PAGE_TIME: Duration = Duration::from_secs(1);

/// What is `None` does not matter.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct JournalQuery {
    pub kind: Option<EntryKind>,
    pub owner: Option<Owner>,
    /// Subscriber or destination.
    pub target: Option<String>,
    pub id: Option<String>,
    pub status: Option<u16>,
    pub failed: Option<bool>,
    /// What stands in the error, the answer or the URL, whatever its case.
    pub text: Option<String>,
    /// Then or later, in milliseconds since the epoch.
    pub since_ms: Option<u64>,
    /// Before then.
    pub until_ms: Option<u64>,
    /// Batches among whose events this one may be: see [`CarriedEvents`](super::CarriedEvents).
    pub event: Option<EventPosition>,
    /// For how long is looked at most; `None` for [`PAGE_TIME`].
    pub within: Option<Duration>,
}

/// Entries that match.
#[derive(Clone, Debug, Default)]
pub struct JournalPage {
    /// The newest first.
    pub entries: Vec<Entry>,
    /// Where the next page begins, if there may be more.
    pub next: Option<String>,
    /// How far back was looked, in milliseconds since the epoch, if not to the end.
    pub back_to_ms: Option<u64>,
}

impl JournalQuery {
    /// For how long is looked at most.
    pub fn time(&self) -> Duration {
        self.within.map_or(PAGE_TIME, |within| within.min(PAGE_TIME))
    }

    pub fn matches(&self, entry: &Entry) -> bool {
        let text = self.text.as_ref().map(|text| text.to_lowercase());
        let has = |text: &String| {
            [&entry.error, &entry.answer, &entry.title]
                .iter()
                .any(|field| field.to_lowercase().contains(text))
        };
        self.kind.is_none_or(|kind| kind == entry.kind)
            && self.owner.as_ref().is_none_or(|owner| *owner == entry.owner)
            && self.target.as_ref().is_none_or(|target| *target == entry.target)
            && self.id.as_ref().is_none_or(|id| *id == entry.id)
            && self.status.is_none_or(|status| Some(status) == entry.status)
            && self.failed.is_none_or(|failed| failed == entry.failed)
            && self.since_ms.is_none_or(|since| entry.at_ms >= since)
            && self.until_ms.is_none_or(|until| entry.at_ms < until)
            && self.event.is_none_or(|event| {
                entry.events.as_ref().is_some_and(|events| events.may_have(event))
            })
            && text.as_ref().is_none_or(has)
    }
}
