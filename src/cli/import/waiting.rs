//! Moves in what still waits at the services that calls and postbacks came from before: the call proxy's queue in
//! RabbitMQ, the postback service's list in a Redis.
//!
//! What waits there is to be made once. So other than a bus's events it is taken out of there, portion by portion,
//! each one as soon as it is kept here. Nothing is lost if that is interrupted; a portion that was kept and not yet
//! taken out is then kept a second time.

use std::collections::HashMap;
use std::io::Write;
use std::time::Duration;

use anyhow::{Context, bail};
use bytes::Bytes;
use indicatif::HumanCount;
use serde::Serialize;
use tokio_util::sync::CancellationToken;

use super::progress::Progress;
use super::rabbitmq::{RabbitQueue, Reading};
use super::target::Target;
use crate::bus::call::{CallId, CallKind};
use crate::bus::postback::Postbacks;
use crate::bus::token::ClientToken;
use crate::config::Settings;
use crate::signals;
use crate::store::NewCall;
use crate::store::redis::source::Source;

/// How much is moved at once.
const PORTION: usize = 100;
/// How many messages a dry run looks at where all of them cannot be had without taking them.
const LOOKED_AT: usize = 1_000;
/// Whose calls these are: without the hash that came with them, nobody knows it better.
const OWNER: &str = "calls-key";

/// Where something waits.
pub enum Waiting {
    Calls(RabbitQueue),
    Postbacks { redis: Source, list: String },
}

/// What was found, and what became of it.
#[derive(Default, Serialize)]
struct Moved {
    from: String,
    to: String,
    dry_run: bool,
    complete: bool,
    /// Messages, or requests with postbacks.
    found: u64,
    /// How many of those were looked at: a dry run sees the first ones of a queue only.
    looked_at: u64,
    /// Calls and postbacks that are here now, or would be.
    imported: u64,
    /// Of those, what can be read as neither, and is a dead letter here.
    unreadable: u64,
}

/// # Errors
/// If the source cannot be read, the store cannot be used, or it was interrupted; what was moved until then is here.
pub async fn run(
    waiting: Waiting,
    settings: &Settings,
    dry_run: bool,
    json: bool,
) -> anyhow::Result<()> {
    waiting.check().await?;
    let target = Target::open(settings, dry_run).await?;
    let stop = signals::stop_on_signal(Duration::ZERO)?;
    let found = waiting.length().await?;
    let mut moved = Moved {
        from: waiting.name(),
        to: target.name().to_owned(),
        dry_run,
        found,
        ..Moved::default()
    };
    let ended = match dry_run {
        true => look(&waiting, &mut moved).await,
        false => {
            let max_bytes = settings.calls_room();
            transfer(&waiting, &target, max_bytes, &stop, &mut moved).await
        }
    };
    moved.complete = ended.is_ok() && !stop.is_cancelled();
    let mut out = std::io::stdout().lock();
    moved.write(&mut out, json)?;
    out.flush()?;
    ended.context("not all of it was moved; run it again, it goes on from there")?;
    if stop.is_cancelled() {
        bail!("interrupted: not all of it was moved; run it again, it goes on from there");
    }
    Ok(())
}

async fn look(waiting: &Waiting, moved: &mut Moved) -> anyhow::Result<()> {
    match waiting {
        Waiting::Calls(queue) => {
            let count = LOOKED_AT.min(moved.found as usize);
            for message in &queue.messages(count, Reading::Look).await? {
                moved.note(&waiting.calls(message)?);
            }
        }
        Waiting::Postbacks { redis, list } => {
            let mut from = 0;
            while from < moved.found {
                let portion = redis.list(list.as_bytes(), from, PORTION as u64).await?;
                if portion.is_empty() {
                    break;
                }
                for request in &portion {
                    moved.note(&waiting.calls(request)?);
                }
                from += portion.len() as u64;
            }
        }
    }
    Ok(())
}

async fn transfer(
    waiting: &Waiting,
    target: &Target,
    max_bytes: u64,
    stop: &CancellationToken,
    moved: &mut Moved,
) -> anyhow::Result<()> {
    let mut progress = Progress::start(("messages", "calls"), moved.found);
    while !stop.is_cancelled() {
        let portion = waiting.oldest(PORTION).await?;
        if portion.is_empty() {
            break;
        }
        keep(waiting, target, max_bytes, &portion, moved).await?;
        let others = waiting.take(&portion).await?;
        if let Err(error) = keep(waiting, target, max_bytes, &others, moved).await {
            for message in &others {
                waiting.put_back(message).await?;
            }
            return Err(error);
        }
        moved.found = moved.found.max(moved.looked_at);
        progress.at(moved.looked_at, moved.imported);
    }
    Ok(())
}

async fn keep(
    waiting: &Waiting,
    target: &Target,
    max_bytes: u64,
    messages: &[Bytes],
    moved: &mut Moved,
) -> anyhow::Result<()> {
    let calls = messages.iter().map(|message| waiting.calls(message));
    let calls = calls.collect::<anyhow::Result<Vec<_>>>()?;
    let kept = target.calls(calls.iter().flatten().cloned().collect(), max_bytes).await;
    kept.context("they cannot be kept; if there is no room, raise ROUTEMASTER_CALLS_MAX_BYTES")?;
    calls.iter().for_each(|calls| moved.note(calls));
    Ok(())
}

impl Waiting {
    fn name(&self) -> String {
        match self {
            Self::Calls(queue) => queue.name(),
            Self::Postbacks { redis, list } => format!("the list {list} in {}", redis.name()),
        }
    }

    /// Whether somebody else takes from there too.
    async fn check(&self) -> anyhow::Result<()> {
        let Self::Calls(queue) = self else { return Ok(()) };
        let standing = queue.standing().await?;
        if standing.consumers > 0 || standing.messages_unacknowledged > 0 {
            bail!(
                "{} has {} consumers, who have {} of its messages: stop the call proxy first, or calls are made \
                 by both (RabbitMQ takes some seconds to notice)",
                queue.name(),
                standing.consumers,
                standing.messages_unacknowledged
            );
        }
        Ok(())
    }

    async fn length(&self) -> anyhow::Result<u64> {
        Ok(match self {
            Self::Calls(queue) => queue.standing().await?.messages,
            Self::Postbacks { redis, list } => redis.list_length(list.as_bytes()).await?,
        })
    }

    /// What waits longest; new ones come in at the other end.
    async fn oldest(&self, count: usize) -> anyhow::Result<Vec<Bytes>> {
        Ok(match self {
            Self::Calls(queue) => queue.messages(count, Reading::Look).await?,
            Self::Postbacks { redis, list } => {
                let length = redis.list_length(list.as_bytes()).await?;
                let count = length.min(count as u64);
                match count {
                    0 => Vec::new(),
                    count => redis.list(list.as_bytes(), length - count, count).await?,
                }
            }
        })
    }

    /// Takes a portion out, which is kept here. What came out in place of something of it, and is not kept yet.
    async fn take(&self, portion: &[Bytes]) -> anyhow::Result<Vec<Bytes>> {
        match self {
            Self::Postbacks { redis, list } => {
                redis.take_last(list.as_bytes(), portion).await?;
                Ok(Vec::new())
            }
            Self::Calls(queue) => {
                let mut kept: HashMap<&Bytes, usize> = HashMap::new();
                portion.iter().for_each(|message| *kept.entry(message).or_default() += 1);
                let mut taken = queue.messages(portion.len(), Reading::Take).await?;
                taken.retain(|message| match kept.get_mut(message) {
                    Some(left) if *left > 0 => {
                        *left -= 1;
                        false
                    }
                    _ => true,
                });
                Ok(taken)
            }
        }
    }

    async fn put_back(&self, message: &[u8]) -> anyhow::Result<()> {
        match self {
            Self::Calls(queue) => queue.put_back(message).await,
            Self::Postbacks { .. } => Ok(()),
        }
    }

    /// What a message asks for. One that cannot be read is told of here as a dead letter.
    fn calls(&self, message: &Bytes) -> anyhow::Result<Vec<NewCall>> {
        let owner = ClientToken::from_stored(OWNER);
        let unread = || anyhow::Ok(vec![NewCall::unread(&owner, message.clone(), CallId::made()?)]);
        match self {
            Self::Calls(_) => unread(),
            Self::Postbacks { .. } => match Postbacks::parse(message, usize::MAX) {
                Ok(postbacks) => NewCall::postbacks(&owner, &postbacks, CallId::made),
                Err(_) => unread(),
            },
        }
    }
}

impl Moved {
    fn note(&mut self, calls: &[NewCall]) {
        self.looked_at += 1;
        self.imported += calls.len() as u64;
        let unreadable = calls.iter().filter(|call| call.kind == CallKind::Unread).count();
        self.unreadable += unreadable as u64;
    }

    fn write(&self, out: &mut impl Write, json: bool) -> anyhow::Result<()> {
        if json {
            serde_json::to_writer(&mut *out, self)?;
            return Ok(writeln!(out)?);
        }
        let imported = if self.dry_run { "would import" } else { "imported" };
        writeln!(out, "from  {}\nto    {}\n", self.from, self.to)?;
        let mut line = |name: &str, number: u64| {
            writeln!(out, "{name:14} {:>11}", HumanCount(number).to_string())
        };
        line("found", self.found)?;
        if self.dry_run && self.looked_at < self.found {
            line("looked at", self.looked_at)?;
        }
        line(imported, self.imported)?;
        if self.unreadable > 0 {
            line("of which unread", self.unreadable)?;
            writeln!(out, "\nWhat cannot be read is a dead letter here: routemaster dead-letters")?;
        }
        Ok(())
    }
}
