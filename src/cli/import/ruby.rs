//! What a Ruby Routemaster keeps in its Redis: the keys, and what stands behind them.
//!
//! Nothing in there is taken on trust: the original checks some things after it has stored them,
//! and people repair such a store by hand.

use bytes::Bytes;

use crate::bus::health::Health;
use crate::bus::subscription::{BATCH_MAX, CallbackUrl, TIMEOUT_MAX_MS};
use crate::bus::token::ClientToken;
use crate::store::redis::source::{Ranked, Source, SourceError, SourceResult};

pub const TOPICS: &[u8] = b"topics";
pub const SUBSCRIBERS: &[u8] = b"subscribers";
/// Token → the service it was made for.
pub const TOKENS: &[u8] = b"api_tokens:by_token";
/// Ids of batches, by when they were begun, in milliseconds since the epoch.
pub const BATCHES: &[u8] = b"batches:index";
/// Elements of a batch before its entries: subscriber, when it was begun, attempts to deliver it.
pub const HEAD: u64 = 3;

/// How many batches are looked at together.
const PAGE: u64 = 500;
/// Ids are 20 characters long; what is much longer is none.
const ID_LENGTH_MAX: usize = 64;

fn key(prefix: &str, name: &[u8]) -> Vec<u8> {
    [prefix.as_bytes(), name].concat()
}

/// A topic's publisher and counter, as they stand there.
pub async fn topic(source: &Source, name: &str) -> SourceResult<[Option<Bytes>; 2]> {
    source.values(&key("topic:", name.as_bytes()), ["publisher", "counter"]).await
}

/// The names of the topics that a subscriber listens to.
pub async fn topics_of(source: &Source, subscriber: &ClientToken) -> SourceResult<Vec<Bytes>> {
    source.members(&key("topics:", subscriber.reveal().as_bytes())).await
}

/// How a subscriber is delivered to.
pub struct Settings {
    pub callback: CallbackUrl,
    pub uuid: Option<String>,
    pub timeout_ms: u64,
    pub max: u32,
    pub health: Health,
    /// Whether a number was no number, or not within the bounds of today.
    pub corrected: bool,
}

/// Reads a subscriber's settings; the inner error says why they cannot be used, of all subscribers with this trouble.
pub async fn settings(
    source: &Source,
    subscriber: &ClientToken,
) -> SourceResult<Result<Settings, &'static str>> {
    let fields = ["callback", "uuid", "timeout", "max_events", "health_points"];
    let values = source.values(&key("subscriber:", subscriber.reveal().as_bytes()), fields).await;
    match values {
        Ok(values) => Ok(Settings::parse(values)),
        Err(SourceError::WrongType) => Ok(Err("their settings are no hash")),
        Err(error) => Err(error),
    }
}

impl Settings {
    fn parse(values: [Option<Bytes>; 5]) -> Result<Self, &'static str> {
        let [callback, uuid, timeout, max, health] = values;
        let callback = callback.ok_or("they have no callback")?;
        let callback = str::from_utf8(&callback).map_err(|_| "their callback is no text")?;
        let parsed = CallbackUrl::parse_with_user(callback);
        let (callback, user) = parsed.map_err(|reason| match reason {
            "must start with https://" => "their callback does not start with https://",
            "must not have a query string" => "their callback has a query string",
            _ => "their callback is no URL",
        })?;
        let uuid = match uuid.map(|uuid| String::from_utf8(uuid.into())) {
            Some(Ok(uuid)) if !uuid.chars().any(char::is_control) => Some(uuid),
            Some(_) => return Err("their uuid is no text"),
            None => None,
        };
        // The original writes nothing for no uuid.
        let uuid = uuid.filter(|uuid| !uuid.is_empty()).or(user);
        let mut corrected = false;
        let mut within = |value: Option<Bytes>, default: u64, least: u64, most: u64| {
            let Some(value) = value else { return default };
            let number = integer(&value);
            let taken = number.map_or(default, |number| {
                u64::try_from(number).unwrap_or(least).clamp(least, most)
            });
            corrected |= number != i64::try_from(taken).ok();
            taken
        };
        let timeout_ms = within(timeout, 500, 0, TIMEOUT_MAX_MS);
        let max = within(max, 100, 1, u64::from(BATCH_MAX));
        let health = Health::new(within(health, 100, 0, 100));
        let max = u32::try_from(max).unwrap_or(BATCH_MAX);
        Ok(Self { callback, uuid, timeout_ms, max, health, corrected })
    }
}

/// The number that stands there as text.
pub fn integer(value: &[u8]) -> Option<i64> {
    str::from_utf8(value).ok()?.parse().ok()
}

/// A batch, as far as its head tells.
pub struct Batch {
    pub id: String,
    pub subscriber: ClientToken,
    pub created_ms: u64,
    /// How many entries it held when its head was read.
    pub entries: u64,
}

/// A batch that cannot be taken.
pub struct BadBatch {
    pub reason: &'static str,
    /// How many entries it holds, as far as that can be told.
    pub entries: u64,
}

/// Reads the head of a batch.
pub async fn batch(source: &Source, id: &[u8]) -> SourceResult<Result<Batch, BadBatch>> {
    let key = key("batches:", id);
    let bad = |reason, entries| Ok(Err(BadBatch { reason, entries }));
    let read = async { Ok((source.list(&key, 0, HEAD).await?, source.list_length(&key).await?)) };
    let (head, length) = match read.await {
        Ok(read) => read,
        Err(SourceError::WrongType) => return bad("they are no lists", 0),
        Err(error) => return Err(error),
    };
    let entries = length.saturating_sub(HEAD);
    let is_id = |id: &&str| id.len() <= ID_LENGTH_MAX && id.bytes().all(|b| b.is_ascii_graphic());
    let Some(id) = str::from_utf8(id).ok().filter(is_id) else {
        return bad("their id is none", entries);
    };
    if head.is_empty() {
        return bad("they are gone, probably delivered meanwhile", 0);
    }
    let [subscriber, created, attempts] = &head[..] else {
        return bad("their head is garbled", entries);
    };
    let subscriber = str::from_utf8(subscriber).ok().and_then(|it| ClientToken::parse(it).ok());
    let created_ms = integer(created).and_then(|created| u64::try_from(created).ok());
    let (Some(created_ms), Some(_)) = (created_ms, integer(attempts)) else {
        return bad("their head is garbled", entries);
    };
    let Some(subscriber) = subscriber else {
        return bad("their subscriber has no token that is allowed here", entries);
    };
    if entries == 0 {
        return bad("they hold no events", 0);
    }
    Ok(Ok(Batch { id: id.to_owned(), subscriber, created_ms, entries }))
}

impl Batch {
    /// Entries from this one on, `count` of them, or fewer where the batch ends.
    pub async fn entries(
        &self,
        source: &Source,
        from: u64,
        count: u64,
    ) -> SourceResult<Vec<Bytes>> {
        source.list(&key("batches:", self.id.as_bytes()), HEAD + from, count).await
    }
}

/// Goes through all batches in the order of the queues: by when they were begun, and then by id.
///
/// Batches that are delivered meanwhile make the ranks of those after them move. So each page must
/// overlap with the one before it, which shows that none was passed over.
#[derive(Default)]
pub struct Batches {
    /// About where the next page begins.
    rank: u64,
    last: Option<Ranked>,
}

impl Batches {
    /// The ids of the next batches; none at the end.
    pub async fn next(&mut self, source: &Source) -> SourceResult<Vec<Bytes>> {
        loop {
            let mut page = source.ranked(BATCHES, self.rank, PAGE).await?;
            let is_new = |ranked: &Ranked| self.last.as_ref().is_none_or(|last| ranked > last);
            if self.rank > 0 && page.first().is_none_or(is_new) {
                self.rank = self.rank.saturating_sub(PAGE - 1);
                continue;
            }
            let is_full = page.len() as u64 == PAGE;
            self.rank += (page.len() as u64).saturating_sub(1);
            let seen = page.iter().position(is_new).unwrap_or(page.len());
            let new = page.split_off(seen);
            match new.last() {
                None if is_full => continue,
                None => {}
                Some(last) => self.last = Some(last.clone()),
            }
            return Ok(new.into_iter().map(|ranked| ranked.member).collect());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::conformance::redis_server::RedisServer;
    use crate::store::redis::RedisOptions;

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn no_batch_is_passed_over_while_others_come_and_go() {
        let server = RedisServer::start();
        let source = Source::connect(&RedisOptions::plain(&server.url())).await.unwrap();
        let id = |number: u64| format!("{number:020}");
        let change = |command: &str, numbers: std::ops::Range<u64>| {
            for number in numbers {
                // Many have the same time.
                let (score, id) = ((number / 1_000).to_string(), id(number));
                let words = [command, "batches:index", &score, &id];
                let words = if command == "ZADD" { &words[..] } else { &[command, words[1], &id] };
                server.command(words).unwrap();
            }
        };
        change("ZADD", 1_000..3_500);
        let mut batches = Batches::default();
        let mut seen: Vec<Bytes> = Vec::new();
        let mut pages = 0;
        loop {
            let page = batches.next(&source).await.unwrap();
            if page.is_empty() {
                break;
            }
            seen.extend(page);
            pages += 1;
            match pages {
                // The one that the next page should begin with goes, and all before it;
                1 => change("ZREM", 1_000..1_500),
                // a few do;
                2 => change("ZREM", 1_700..1_710),
                // and more come before than there were.
                3 => change("ZADD", 0..600),
                _ => {}
            }
        }
        let expected: Vec<Bytes> = (1_000..3_500).map(|number| id(number).into()).collect();
        assert!(seen == expected, "{} seen, {} expected", seen.len(), expected.len());
    }

    fn settings(values: [Option<&'static str>; 5]) -> Result<Settings, &'static str> {
        Settings::parse(values.map(|value| value.map(|text| Bytes::from_static(text.as_bytes()))))
    }

    #[test]
    fn settings_have_defaults_and_are_put_within_the_bounds_of_today() {
        let callback = Some("https://a.example/events");
        for (numbers, expected, corrected) in [
            ([None, None, None], (500, 100, 100), false),
            ([Some("0"), Some("1"), Some("0")], (0, 1, 0), false),
            ([Some("3600000"), Some("10000"), Some("42")], (3_600_000, 10_000, 42), false),
            ([Some("3600001"), Some("10001"), Some("101")], (3_600_000, 10_000, 100), true),
            ([Some("-1"), Some("-1"), Some("-1")], (0, 1, 0), true),
            ([Some("x"), Some(""), Some("\u{e9}")], (500, 100, 100), true),
            ([Some("500"), Some("0"), None], (500, 1, 100), true),
        ] {
            let [timeout, max, health] = numbers;
            let read = settings([callback, Some("u"), timeout, max, health]).ok().unwrap();
            let found = (read.timeout_ms, read.max, read.health.points());
            assert_eq!((found, read.corrected), (expected, corrected), "{numbers:?}");
        }
        let uuid =
            |callback, uuid| settings([Some(callback), uuid, None, None, None]).ok().unwrap().uuid;
        assert_eq!(uuid("https://a.example", None), None);
        assert_eq!(uuid("https://a.example", Some("")), None);
        assert_eq!(uuid("https://demo:x@a.example#b", Some("")).as_deref(), Some("demo"));
        assert_eq!(uuid("https://demo@a.example", Some("own")).as_deref(), Some("own"));
    }

    #[test]
    fn settings_that_cannot_be_used_say_why() {
        for (callback, uuid, expected) in [
            (None, None, "no callback"),
            (Some("http://a.example"), None, "https://"),
            (Some("https://a.example?x=1"), None, "query"),
            (Some("https:///x"), None, "no URL"),
            (Some("https://a.example"), Some("a\nb"), "uuid"),
        ] {
            let reason = settings([callback, uuid, None, None, None]).err().unwrap();
            assert!(reason.contains(expected), "{reason}, not {expected}");
        }
    }
}
