//! Reads another program's Redis, from which a bus imports: portion by portion, and with commands
//! that only read; but a list can be moved, whose elements are taken out once they are here.
//!
//! It knows nothing of what is in there. Keys, members and values are bytes.

use std::time::Duration;

use anyhow::anyhow;
use bytes::Bytes;
use fred::error::ErrorKind;
use fred::prelude::{Client, ClientLike};
use fred::types::{ClusterHash, CustomCommand, Value};
use tokio::time::Instant;

use super::options::{CALL_TIMEOUT, RedisOptions};

/// How long a read is tried again while the connection is lost.
const PATIENCE: Duration = Duration::from_secs(20);
/// The pause between two tries.
const PAUSE: Duration = Duration::from_millis(100);
/// How many elements of a set or hash are asked for at once.
const SCAN_COUNT: i64 = 500;

/// Takes one element after the other off the end of a list.
const TAKE_LAST: &str = "
    for _, element in ipairs(ARGV) do
        if redis.call('LINDEX', KEYS[1], -1) == element then redis.call('RPOP', KEYS[1]) end
    end
    return 0";

/// A connection to a Redis that is read.
pub struct Source {
    client: Client,
    name: String,
}

/// Why something could not be read.
#[derive(Debug, thiserror::Error)]
pub enum SourceError {
    /// The key holds another type of value than was asked for.
    #[error("the key holds another type of value")]
    WrongType,
    #[error("failed to read from {name}: {reason}")]
    Unreadable { name: String, reason: String },
}

pub type SourceResult<T> = Result<T, SourceError>;

/// A member of a sorted set. They are ordered by score, and then by member.
#[derive(Clone, Debug, PartialEq, PartialOrd)]
pub struct Ranked {
    pub score: f64,
    pub member: Bytes,
}

impl Source {
    /// Connects, or says at once why that fails. No password is in what it says.
    ///
    /// # Errors
    /// If the URL cannot be understood, or the server cannot be reached or refuses.
    pub async fn connect(options: &RedisOptions) -> anyhow::Result<Self> {
        let name = options.describe();
        let mut builder = options.builder()?;
        builder.with_config(|config| config.fail_fast = true);
        // A reader that may only read need not be allowed to give itself a name.
        builder.with_connection_config(|connection| connection.auto_client_setname = false);
        let client = builder.build()?;
        let failed = |reason: &str| anyhow!("failed to connect to {name}: {reason}");
        match tokio::time::timeout(CALL_TIMEOUT, client.init()).await {
            Err(_) => return Err(failed("no answer in time")),
            Ok(Err(error)) => return Err(failed(error.details())),
            Ok(Ok(_)) => {}
        }
        let source = Self { client, name: name.clone() };
        // A server that wants a password says so at the first command only.
        source.command("EXISTS", vec!["topics".into()]).await.map_err(|error| match error {
            SourceError::Unreadable { reason, .. } => failed(&reason),
            SourceError::WrongType => failed("it answers wrongly"),
        })?;
        Ok(source)
    }

    /// The server in a few words, without password.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// All members of a set; one that is added or removed meanwhile may be left out.
    pub async fn members(&self, key: &[u8]) -> SourceResult<Vec<Bytes>> {
        self.scan("SSCAN", key).await
    }

    /// All fields of a hash with their values.
    pub async fn fields(&self, key: &[u8]) -> SourceResult<Vec<(Bytes, Bytes)>> {
        let flat = self.scan("HSCAN", key).await?;
        Ok(flat.chunks_exact(2).map(|pair| (pair[0].clone(), pair[1].clone())).collect())
    }

    /// The values of some fields of a hash.
    pub async fn values<const N: usize>(
        &self,
        key: &[u8],
        fields: [&str; N],
    ) -> SourceResult<[Option<Bytes>; N]> {
        let mut args = vec![bytes(key)];
        args.extend(fields.map(Value::from));
        let mut values = self.command("HMGET", args).await?.into_array().into_iter();
        Ok(fields.map(|_| values.next().and_then(Value::into_bytes)))
    }

    /// How many elements a list has.
    pub async fn list_length(&self, key: &[u8]) -> SourceResult<u64> {
        let length = self.command("LLEN", vec![bytes(key)]).await?;
        length.as_u64().ok_or_else(|| self.unreadable("LLEN was answered without a number"))
    }

    /// Elements of a list, `count` of them from this position on, or fewer where it ends.
    pub async fn list(&self, key: &[u8], from: u64, count: u64) -> SourceResult<Vec<Bytes>> {
        let until = from + count - 1;
        let args = vec![bytes(key), number(from), number(until)];
        let elements = self.command("LRANGE", args).await?.into_array();
        Ok(elements.into_iter().filter_map(Value::into_bytes).collect())
    }

    /// Takes these elements out of a list, the last of which is the last of the list. Those that somebody else
    /// has taken meanwhile are passed over.
    pub async fn take_last(&self, key: &[u8], elements: &[Bytes]) -> SourceResult<()> {
        let mut args = vec![TAKE_LAST.into(), 1.into(), bytes(key)];
        args.extend(elements.iter().rev().map(|element| bytes(element)));
        self.command("EVAL", args).await.map(drop)
    }

    /// How many members a sorted set has.
    pub async fn ranked_length(&self, key: &[u8]) -> SourceResult<u64> {
        let length = self.command("ZCARD", vec![bytes(key)]).await?;
        length.as_u64().ok_or_else(|| self.unreadable("ZCARD was answered without a number"))
    }

    /// Members of a sorted set from this rank on, `count` of them or fewer where it ends.
    pub async fn ranked(&self, key: &[u8], from: u64, count: u64) -> SourceResult<Vec<Ranked>> {
        let until = from + count - 1;
        let args = vec![bytes(key), number(from), number(until), "WITHSCORES".into()];
        let flat = self.command("ZRANGE", args).await?.into_array();
        let pairs = flat.chunks_exact(2).map(|pair| {
            let member = pair[0].clone().into_bytes();
            let score = pair[1].as_f64();
            match (member, score) {
                (Some(member), Some(score)) => Ok(Ranked { score, member }),
                _ => Err(self.unreadable("ZRANGE was answered without scores")),
            }
        });
        pairs.collect()
    }

    async fn scan(&self, command: &'static str, key: &[u8]) -> SourceResult<Vec<Bytes>> {
        let mut found = Vec::new();
        let mut cursor = Value::from("0");
        loop {
            let args = vec![bytes(key), cursor, "COUNT".into(), SCAN_COUNT.into()];
            let mut parts = self.command(command, args).await?.into_array().into_iter();
            let (Some(next), Some(elements)) = (parts.next(), parts.next()) else {
                return Err(self.unreadable("a scan was answered without a cursor"));
            };
            found.extend(elements.into_array().into_iter().filter_map(Value::into_bytes));
            if next.as_str().is_none_or(|next| next == "0") {
                return Ok(found);
            }
            cursor = next;
        }
    }

    /// Sends a command that only reads, and so may be sent again.
    async fn command(&self, name: &'static str, args: Vec<Value>) -> SourceResult<Value> {
        let give_up = Instant::now() + PATIENCE;
        loop {
            let command = CustomCommand::new_static(name, ClusterHash::FirstValue, false);
            let error = match self.client.custom::<Value, Value>(command, args.clone()).await {
                Ok(value) => return Ok(value),
                Err(error) => error,
            };
            if error.details().starts_with("WRONGTYPE") {
                return Err(SourceError::WrongType);
            }
            let may_pass =
                matches!(error.kind(), ErrorKind::IO | ErrorKind::Canceled | ErrorKind::Timeout)
                    || error.details().starts_with("LOADING");
            if !may_pass || Instant::now() >= give_up {
                return Err(self.unreadable(error.details()));
            }
            tokio::time::sleep(PAUSE).await;
        }
    }

    fn unreadable(&self, reason: &str) -> SourceError {
        SourceError::Unreadable { name: self.name.clone(), reason: reason.to_owned() }
    }
}

fn bytes(key: &[u8]) -> Value {
    Value::Bytes(Bytes::copy_from_slice(key))
}

/// A position as Redis takes it.
fn number(position: u64) -> Value {
    Value::Integer(i64::try_from(position).unwrap_or(i64::MAX))
}
