//! Entities: the things that events are about.

use ring::digest::{SHA256, digest};

use super::hex::hex;
use super::item::ItemParts;

/// Names the thing that an event is about, by a hash of its URL. Two with the same name count as one thing.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Entity(String);

impl Entity {
    /// The entity of an item. What has no URL is all one thing.
    pub fn of(item: &[u8]) -> Self {
        Self(hex(&digest(&SHA256, url(ItemParts::of(item).json)).as_ref()[..10]))
    }

    pub(crate) fn from_stored(text: String) -> Self {
        Self(text)
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// The URL of an event as it is written there.
fn url(json: &[u8]) -> &[u8] {
    const URL: &[u8] = b"\"url\":\"";
    // Neither of the fields before it can hold a quote.
    let Some(start) = json.windows(URL.len()).position(|part| part == URL) else { return b"" };
    let rest = &json[start + URL.len()..];
    let mut is_escaped = false;
    let end = rest.iter().position(|byte| {
        let is_end = *byte == b'"' && !is_escaped;
        is_escaped = *byte == b'\\' && !is_escaped;
        is_end
    });
    &rest[..end.unwrap_or(rest.len())]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_of_one_url_are_of_one_entity_whatever_else_they_say() {
        let of = |json: &str| Entity::of(json.as_bytes());
        let created = of(r#"{"topic":"a","type":"create","url":"https://a.example/1","t":1}"#);
        let marked = r#"r17;{"topic":"b","type":"update","url":"https://a.example/1","t":2,"data":{"url":"x"}}"#;
        assert_eq!(created, of(marked));
        assert_ne!(created, of(r#"{"topic":"a","type":"create","url":"https://a.example/12"}"#));
        assert_eq!(
            url(br#"{"topic":"a","type":"noop","url":"https://a/\"1\\","t":1}"#),
            br#"https://a/\"1\\"#
        );
        assert_eq!(url(b"{}"), b"");
        assert_eq!(of("{}").as_str().len(), 20);
    }
}
