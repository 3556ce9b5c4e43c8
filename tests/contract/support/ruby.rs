//! The Redis of a Ruby Routemaster, filled by hand, key by key.

use std::collections::BTreeMap;

use rmpv::Value;

use super::redis_server::RedisServer;

/// When batches are begun unless a test says otherwise, in milliseconds: long ago.
pub const BEGUN_MS: u64 = 1_500_000_000_000;

pub struct RubyBus(pub RedisServer);

impl RubyBus {
    pub fn new() -> Self {
        // The debug command tells a digest of all that is in there.
        let options = ["--save", "", "--appendonly", "no", "--enable-debug-command", "yes"];
        Self(RedisServer::start_with(&options))
    }

    pub fn url(&self) -> String {
        self.0.url()
    }

    pub fn run<W: AsRef<[u8]>>(&self, words: &[W]) -> String {
        self.0.command(words).unwrap()
    }

    pub fn topic(&self, name: &str, publisher: &str, counter: u64) {
        self.run(&["SADD", "topics", name]);
        let key = format!("topic:{name}");
        self.run(&["HSET", &key, "publisher", publisher, "counter", &counter.to_string()]);
    }

    pub fn subscriber(&self, token: &str, callback: &str, topics: &[&str], more: &[&str]) {
        self.run(&["SADD", "subscribers", token]);
        let key = format!("subscriber:{token}");
        let fields = ["HSET", &key, "callback", callback, "last_attempted_at", "1500000000000"];
        self.run(&[&fields[..], more].concat());
        for topic in topics {
            self.run(&["SADD", &format!("topics:{token}"), topic]);
            self.run(&["SADD", &format!("subscribers:{topic}"), token]);
        }
    }

    /// A batch with these entries, begun at this time.
    pub fn batch(&self, id: &str, subscriber: &str, begun_ms: u64, entries: &[Vec<u8>]) {
        let begun = begun_ms.to_string();
        self.run(&["ZADD", "batches:index", &begun, id]);
        self.run(&["RPUSH", &format!("batches:{id}"), subscriber, &begun, "0"]);
        self.grows(id, entries);
    }

    /// More entries for a batch that is there.
    pub fn grows(&self, id: &str, entries: &[Vec<u8>]) {
        let key = format!("batches:{id}").into_bytes();
        for entries in entries.chunks(500) {
            self.run(&[&[b"RPUSH".to_vec(), key.clone()], entries].concat());
        }
    }

    /// All that is in there, as one digest.
    pub fn digest(&self) -> String {
        self.run(&["DEBUG", "DIGEST"])
    }

    /// The commands that were sent to it, but for those that look at it.
    pub fn commands(&self) -> Vec<String> {
        let stats = self.run(&["INFO", "commandstats"]);
        let names = stats.lines().filter_map(|line| line.strip_prefix("cmdstat_"));
        names.filter_map(|line| Some(line.split_once(':')?.0.to_owned())).collect()
    }

    pub fn forget_commands(&self) {
        self.run(&["CONFIG", "RESETSTAT"]);
    }
}

/// The fields of an event's map; a test may change them.
pub type Fields = BTreeMap<&'static str, Value>;

/// An entry of a batch: an event known by its number.
pub fn numbered_entry(topic: &str, number: u64) -> Vec<u8> {
    entry_with(topic, number, |_| {})
}

pub fn entry_with(topic: &str, number: u64, change: impl FnOnce(&mut Fields)) -> Vec<u8> {
    let mut fields = Fields::from([
        ("t", Value::from(BEGUN_MS + number)),
        ("o", Value::from(topic)),
        ("y", Value::from("update")),
        ("u", Value::from(format!("https://a.example/{number}"))),
        ("d", Value::Nil),
    ]);
    change(&mut fields);
    let fields = fields.into_iter().map(|(key, value)| (Value::from(key), value)).collect();
    packed(&Value::Array(vec!["e".into(), Value::Map(fields)]))
}

pub fn packed(value: &Value) -> Vec<u8> {
    let mut bytes = Vec::new();
    rmpv::encode::write_value(&mut bytes, value).unwrap();
    bytes
}
