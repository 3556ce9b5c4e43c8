//! Items: what a queue holds of an event. To the stores they are bytes; here stands how they are written.

use bytes::Bytes;

use super::position::EventPosition;
use super::trace::TraceParent;

/// What a queue holds, opaque to it: the event as the JSON that is delivered, behind marks that are not.
///
/// A mark is a letter, what it says, and a semicolon.
pub type Item = Bytes;

/// An item with its place among all events.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QueuedItem {
    pub position: EventPosition,
    pub item: Item,
}

const TRACE: u8 = b't';
const REPLAY: u8 = b'r';
const MARK_END: u8 = b';';

/// An item, read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ItemParts<'a> {
    /// The trace that its publisher was in.
    pub trace: Option<TraceParent>,
    /// Where the event stood that is delivered once more; `None` if this is not the first time.
    pub replay_of: Option<EventPosition>,
    /// What is delivered.
    pub json: &'a [u8],
}

impl<'a> ItemParts<'a> {
    /// Reads an item; a mark that is not known is passed over.
    pub fn of(item: &'a [u8]) -> Self {
        let mut parts = Self { json: item, ..Self::default() };
        while let Some((kind, rest)) = parts.json.split_first().filter(|(kind, _)| is_mark(**kind))
        {
            let Some(end) = rest.iter().position(|byte| *byte == MARK_END) else { break };
            let text = std::str::from_utf8(&rest[..end]).unwrap_or_default();
            match *kind {
                TRACE => parts.trace = TraceParent::parse(text),
                REPLAY => parts.replay_of = text.parse().ok(),
                _ => {}
            }
            parts.json = &rest[end + 1..];
        }
        parts
    }

    /// The topic of the event, which stands at the beginning of all that is stored.
    pub fn topic(&self) -> Option<&'a str> {
        let name = self.json.strip_prefix(b"{\"topic\":\"")?;
        let end = name.iter().position(|byte| *byte == b'"')?;
        std::str::from_utf8(&name[..end]).ok()
    }

    pub fn to_item(self) -> Item {
        let mut item = Vec::with_capacity(self.json.len() + 80);
        if let Some(trace) = self.trace {
            push_mark(&mut item, TRACE, &trace.to_string());
        }
        if let Some(replay_of) = self.replay_of {
            push_mark(&mut item, REPLAY, &replay_of.to_string());
        }
        item.extend_from_slice(self.json);
        item.into()
    }
}

/// The item of an event that is put into a queue once more.
pub fn replayed(queued: &QueuedItem) -> Item {
    let parts = ItemParts::of(&queued.item);
    // Of one that is replayed again, the event itself is told.
    let replay_of = parts.replay_of.or(Some(queued.position));
    ItemParts { replay_of, ..parts }.to_item()
}

/// Marks begin with a small letter, which no JSON of an event does.
fn is_mark(byte: u8) -> bool {
    byte.is_ascii_lowercase()
}

fn push_mark(item: &mut Vec<u8>, kind: u8, text: &str) {
    item.push(kind);
    item.extend_from_slice(text.as_bytes());
    item.push(MARK_END);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn marks_are_read_as_they_are_written_and_are_no_part_of_what_is_delivered() {
        let trace = TraceParent::parse("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01");
        let plain = ItemParts { json: br#"{"topic":"a;b"}"#, ..ItemParts::default() };
        assert_eq!(plain.to_item(), plain.json);
        let replay_of = Some(EventPosition::new(17));
        for parts in [plain, ItemParts { trace, ..plain }, ItemParts { trace, replay_of, ..plain }]
        {
            let item = parts.to_item();
            assert_eq!(ItemParts::of(&item), parts);
        }
        assert_eq!(ItemParts::of(br#"xnewer;{"a":1}"#).json, br#"{"a":1}"#);
        assert_eq!(ItemParts::of(b"damaged").json, b"damaged");
        assert_eq!(ItemParts::of(br#"r17;{"topic":"widgets","a":1}"#).topic(), Some("widgets"));
        assert_eq!(ItemParts::of(br#"{"topic"}"#).topic(), None);
    }

    #[test]
    fn an_event_that_is_replayed_twice_names_the_first_one() {
        let first = QueuedItem { position: EventPosition::new(5), item: Bytes::from("{}") };
        let again = QueuedItem { position: EventPosition::new(9), item: replayed(&first) };
        assert_eq!(ItemParts::of(&replayed(&again)).replay_of, Some(EventPosition::new(5)));
    }
}
