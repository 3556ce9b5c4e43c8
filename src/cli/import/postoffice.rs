//! Moves in from a Postoffice: its topics, its publishers, and what its jobs still have to forward. Its PostgreSQL is
//! only read. It can be run any number of times: a job is taken once.

use std::collections::HashMap;
use std::io::Write;
use std::time::Duration;

use anyhow::{Context, bail};
use indicatif::HumanCount;
use serde::{Deserialize, Serialize};
use serde_json::json;
use serde_json::value::RawValue;
use tokio::time::Instant;
use tokio_postgres::Client;
use tokio_util::sync::CancellationToken;

use super::progress::Progress;
use super::target::Target;
use crate::bus::message::{MessageContent, MessageTopicName, NewPublisher, NewTopic, NotTaken};
use crate::bus::token::ClientToken;
use crate::config::Settings;
use crate::egress::postgres::{self, PostgresOptions};
use crate::signals;
use crate::store::{
    MessagePublisher, MessageTopic, MessagesAccepted, NewMessageGroup, PublisherAdded, Store,
    TopicAdded,
};

/// How many jobs are read at once.
const PORTION: i64 = 200;
/// How long the store may take to keep one.
const PATIENCE: Duration = Duration::from_secs(20);
/// Whose topics and publishers these are: nobody said at Postoffice.
const OWNER: &str = "open";
const NO_LIMIT: u32 = u32::MAX;
/// What an origin is that none was given for; it is never asked.
const NO_ORIGIN: &str = "http://unknown.invalid/";

/// What was found, and what became of it.
#[derive(Default, Serialize)]
struct Moved {
    from: String,
    to: String,
    dry_run: bool,
    complete: bool,
    topics: Counts,
    publishers: Counts,
    jobs: Counts,
    /// The id that each publisher had there, and has here.
    publisher_ids: Vec<(i64, u64)>,
    /// What was not taken, and why.
    skipped: Vec<String>,
}

#[derive(Default, Serialize)]
struct Counts {
    found: u64,
    /// Or would be.
    imported: u64,
    /// Here already.
    known: u64,
    skipped: u64,
}

#[derive(Deserialize)]
struct Topic {
    id: i64,
    name: String,
    #[serde(default)]
    origin_host: Option<String>,
    #[serde(default)]
    recovery_enabled: Option<bool>,
}

#[derive(Deserialize)]
struct Publisher {
    id: i64,
    topic_id: i64,
    target: String,
    r#type: String,
    #[serde(default)]
    active: Option<bool>,
    #[serde(default)]
    deleted: Option<bool>,
    #[serde(default)]
    seconds_timeout: Option<i64>,
    #[serde(default)]
    seconds_retry: Option<i64>,
    #[serde(default)]
    chunk_size: Option<i64>,
}

/// What a job of Postoffice has to do.
#[derive(Deserialize)]
struct Arguments<'a> {
    consumer_id: i64,
    #[serde(borrow)]
    payload: &'a RawValue,
    #[serde(default)]
    attributes: Option<HashMap<String, serde_json::Value>>,
}

/// A publisher there, and where its messages go here.
struct Route {
    topic: String,
    /// `None` in a dry run, where it would have to be made.
    publisher: Option<u64>,
    /// Whether a job has several messages.
    is_packed: bool,
}

/// # Errors
/// If the database cannot be read, the store cannot be used, or it was interrupted; what was moved until then is here.
pub async fn run(
    url: &str,
    settings: &Settings,
    dry_run: bool,
    skip_jobs: bool,
    json: bool,
) -> anyhow::Result<()> {
    let options = PostgresOptions {
        config: postgres::read(url).context("--from")?,
        ca_files: settings.callback_ca_file.iter().cloned().collect(),
        connect_timeout: settings.connect_timeout,
    };
    let client = postgres::connect(&options).await.context("--from cannot be used")?;
    // One view of it all, in which nothing can be changed.
    let begin = "BEGIN TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY";
    client.batch_execute(begin).await.map_err(read_failed)?;
    let target = Target::open(settings, dry_run).await?;
    let stop = signals::stop_on_signal(Duration::ZERO)?;
    let name = postgres::name(&options.config);
    let moved =
        Moved { from: name.clone(), to: target.name().to_owned(), dry_run, ..Moved::default() };
    let mut moving = Moving { client, target, name, max_bytes: settings.messages_room(), moved };
    let ended = moving.run(skip_jobs, &stop).await;
    moving.moved.complete = ended.is_ok() && !stop.is_cancelled();
    let mut out = std::io::stdout().lock();
    moving.moved.write(&mut out, json)?;
    out.flush()?;
    ended.context("not all of it was imported; run it again, it goes on from there")?;
    if stop.is_cancelled() {
        bail!("interrupted: not all of it was imported; run it again, it goes on from there");
    }
    Ok(())
}

fn read_failed(error: tokio_postgres::Error) -> anyhow::Error {
    anyhow::anyhow!("failed to read Postoffice's database: {}", postgres::told(&error))
}

struct Moving {
    client: Client,
    target: Target,
    /// Of the database, which names its jobs here.
    name: String,
    max_bytes: u64,
    moved: Moved,
}

impl Moving {
    async fn run(&mut self, skip_jobs: bool, stop: &CancellationToken) -> anyhow::Result<()> {
        let topics = self.topics().await?;
        let routes = self.publishers(&topics).await?;
        if skip_jobs { Ok(()) } else { self.jobs(&routes, stop).await }
    }

    /// The rows of a table, each as JSON: older versions have fewer columns.
    async fn rows<T: serde::de::DeserializeOwned>(&self, table: &str) -> anyhow::Result<Vec<T>> {
        let query = format!("SELECT to_jsonb(t)::text FROM {table} AS t ORDER BY t.id");
        let rows = self.client.query(&query, &[]).await.map_err(read_failed)?;
        let read = |row: &tokio_postgres::Row| {
            let json: String = row.try_get(0).map_err(read_failed)?;
            let what = || format!("{table} are not as Postoffice has them");
            serde_json::from_str(&json).with_context(what)
        };
        rows.iter().map(read).collect()
    }

    /// Brings the topics here; their names by the ids that they had.
    async fn topics(&mut self) -> anyhow::Result<HashMap<i64, String>> {
        let mut known = match self.target.store() {
            Some(store) => store.message_topics().await?,
            None => Vec::new(),
        };
        let mut names = HashMap::new();
        for topic in self.rows::<Topic>("topics").await? {
            self.moved.topics.found += 1;
            names.insert(topic.id, topic.name.clone());
            if known.iter().any(|here: &MessageTopic| here.name.as_str() == topic.name) {
                self.moved.topics.known += 1;
                continue;
            }
            let origin = topic.origin_host.as_deref().filter(|origin| !origin.trim().is_empty());
            let body = json!({
                "name": topic.name,
                "origin_host": origin.unwrap_or(NO_ORIGIN),
                "recovery_enabled": topic.recovery_enabled.unwrap_or(false) && origin.is_some(),
            });
            let new = match NewTopic::parse(body.to_string().as_bytes()) {
                Ok(new) => new,
                Err(error) => {
                    self.moved.topics.skipped += 1;
                    self.skip(format!("topic {:?}: {}", topic.name, reason(error)));
                    names.remove(&topic.id);
                    continue;
                }
            };
            if let Some(store) = self.target.to_write().cloned() {
                let owner = ClientToken::from_stored(OWNER);
                match store.add_message_topic(&new, &owner, NO_LIMIT).await? {
                    TopicAdded::Added(_) => self.moved.topics.imported += 1,
                    _ => self.moved.topics.known += 1,
                }
                known = store.message_topics().await?;
            } else {
                self.moved.topics.imported += 1;
            }
        }
        Ok(names)
    }

    /// Brings the publishers here; where the jobs of each go.
    async fn publishers(
        &mut self,
        topics: &HashMap<i64, String>,
    ) -> anyhow::Result<HashMap<i64, Route>> {
        let mut routes = HashMap::new();
        for publisher in self.rows::<Publisher>("publishers").await? {
            self.moved.publishers.found += 1;
            if publisher.deleted == Some(true) {
                self.moved.publishers.skipped += 1;
                self.skip(format!("publisher {}: it was deleted, its jobs with it", publisher.id));
                continue;
            }
            let Some(topic) = topics.get(&publisher.topic_id) else {
                self.moved.publishers.skipped += 1;
                self.skip(format!("publisher {}: its topic is not there", publisher.id));
                continue;
            };
            let body = json!({
                "topic": topic, "target": publisher.target, "type": publisher.r#type,
                "active": publisher.active.unwrap_or(true), "from_now": true,
                "seconds_timeout": publisher.seconds_timeout, "seconds_retry": publisher.seconds_retry,
                "chunk_size": publisher.chunk_size,
            });
            let new = match NewPublisher::parse(body.to_string().as_bytes()) {
                Ok(new) => new,
                Err(error) => {
                    self.moved.publishers.skipped += 1;
                    self.skip(format!("publisher {}: {}", publisher.id, reason(error)));
                    continue;
                }
            };
            let here = self.publisher(&new).await?;
            if let Some(id) = here {
                self.moved.publisher_ids.push((publisher.id, id));
            }
            let is_packed = publisher.r#type == "pubsub";
            routes.insert(publisher.id, Route { topic: topic.clone(), publisher: here, is_packed });
        }
        Ok(routes)
    }

    /// The id that a publisher has here; `None` if a dry run would make it.
    async fn publisher(&mut self, new: &NewPublisher) -> anyhow::Result<Option<u64>> {
        let counts = &mut self.moved.publishers;
        let Some(store) = self.target.store() else {
            counts.imported += 1;
            return Ok(None);
        };
        if let Some(here) = find(&*store, new).await? {
            counts.known += 1;
            return Ok(Some(here.id));
        }
        counts.imported += 1;
        let Some(store) = self.target.to_write() else { return Ok(None) };
        let owner = ClientToken::from_stored(OWNER);
        match store.add_message_publisher(new, &owner, NO_LIMIT).await? {
            PublisherAdded::Added(id) => Ok(Some(id)),
            other => bail!("a publisher of {:?} could not be made: {other:?}", new.target.as_str()),
        }
    }

    async fn jobs(
        &mut self,
        routes: &HashMap<i64, Route>,
        stop: &CancellationToken,
    ) -> anyhow::Result<()> {
        const WAITING: &str = "state IN ('available', 'scheduled', 'executing', 'retryable')";
        let count = format!("SELECT count(*) FROM oban_jobs WHERE {WAITING}");
        let count = self.client.query_one(&count, &[]).await.map_err(read_failed)?;
        self.moved.jobs.found = count.try_get::<_, i64>(0).map_err(read_failed)? as u64;
        let mut progress = Progress::start(("jobs", "messages"), self.moved.jobs.found);
        let mut done = 0;
        let query = format!(
            "SELECT id::bigint, args::text, state::text,
                 (extract(epoch FROM scheduled_at) * 1000)::bigint
             FROM oban_jobs WHERE {WAITING} AND id > $1 ORDER BY id LIMIT $2"
        );
        let mut after: i64 = 0;
        while !stop.is_cancelled() {
            let rows = self.client.query(&query, &[&after, &PORTION]).await.map_err(read_failed)?;
            let Some(last) = rows.last() else { break };
            after = last.try_get(0).map_err(read_failed)?;
            for row in &rows {
                let id: i64 = row.try_get(0).map_err(read_failed)?;
                let arguments: String = row.try_get(1).map_err(read_failed)?;
                let state: String = row.try_get(2).map_err(read_failed)?;
                let scheduled_ms: Option<i64> = row.try_get(3).map_err(read_failed)?;
                // What waits to be tried again has waited enough.
                let at_ms = scheduled_ms.filter(|_| state == "scheduled");
                let at_ms = at_ms.and_then(|ms| u64::try_from(ms).ok());
                self.job(id, &arguments, at_ms, routes).await?;
                done += 1;
                progress.at(done, self.moved.jobs.imported);
            }
        }
        Ok(())
    }

    async fn job(
        &mut self,
        id: i64,
        arguments: &str,
        at_ms: Option<u64>,
        routes: &HashMap<i64, Route>,
    ) -> anyhow::Result<()> {
        let Some((route, contents)) = read_job(arguments, routes) else {
            self.moved.jobs.skipped += 1;
            self.skip(format!("job {id}: its publisher is not there, or it has no message"));
            return Ok(());
        };
        let (Some(store), Some(publisher)) = (self.target.to_write().cloned(), route.publisher)
        else {
            self.moved.jobs.imported += 1;
            return Ok(());
        };
        let group = NewMessageGroup {
            topic: MessageTopicName::from_checked(&route.topic),
            sender: ClientToken::from_stored(OWNER),
            contents: contents.iter().map(MessageContent::to_bytes).collect(),
            at_ms,
            once: Some(format!("{}\n{id}", self.name)),
            only: Some(publisher),
        };
        let accepted =
            store.accept_messages(vec![group], self.max_bytes, Instant::now() + PATIENCE);
        match accepted.await?.groups.first() {
            Some(MessagesAccepted::Kept(_)) => self.moved.jobs.imported += 1,
            Some(MessagesAccepted::Known) => self.moved.jobs.known += 1,
            Some(MessagesAccepted::Full) => {
                bail!("messages have no more room: raise ROUTEMASTER_MESSAGES_MAX_BYTES")
            }
            Some(MessagesAccepted::UnknownTopic) | None => bail!("the topic of job {id} is gone"),
        }
        Ok(())
    }

    fn skip(&mut self, what: String) {
        const TOLD_MAX: usize = 50;
        if self.moved.skipped.len() < TOLD_MAX {
            self.moved.skipped.push(what);
        }
    }
}

async fn find(store: &dyn Store, new: &NewPublisher) -> anyhow::Result<Option<MessagePublisher>> {
    let topics = store.message_topics().await?;
    let Some(topic) = topics.iter().find(|topic| topic.name == new.topic) else { return Ok(None) };
    let all = store.message_publishers().await?;
    Ok(all.into_iter().find(|one| {
        one.topic_id == topic.id
            && one.kind == new.target.kind()
            && one.target == new.target.as_str()
    }))
}

/// Where a job goes, and its messages: one, or those that were packed for Pub/Sub.
fn read_job<'a>(
    arguments: &str,
    routes: &'a HashMap<i64, Route>,
) -> Option<(&'a Route, Vec<MessageContent>)> {
    let arguments: Arguments<'_> = serde_json::from_str(arguments).ok()?;
    let route = routes.get(&arguments.consumer_id)?;
    let attributes = arguments.attributes.unwrap_or_default().into_iter();
    let text = |value: serde_json::Value| match value {
        serde_json::Value::String(text) => text,
        other => other.to_string(),
    };
    let attributes = attributes.map(|(name, value)| (name, text(value))).collect();
    let packed: Option<Vec<&RawValue>> =
        serde_json::from_str(arguments.payload.get()).ok().filter(|_| route.is_packed);
    let contents: Option<Vec<_>> = match packed {
        Some(payloads) => {
            payloads.iter().map(|payload| MessageContent::new(payload, &attributes)).collect()
        }
        None => MessageContent::new(arguments.payload, &attributes).map(|one| vec![one]),
    };
    contents.map(|contents| (route, contents))
}

fn reason(error: NotTaken) -> String {
    match error {
        NotTaken::NoObject(rejection) => rejection.to_string(),
        NotTaken::Faulty(faults) => serde_json::to_string(&faults).unwrap_or_default(),
        NotTaken::TooMany(_) | NotTaken::TooLarge => "it is too large".to_owned(),
    }
}

impl Moved {
    fn write(&self, out: &mut impl Write, json: bool) -> anyhow::Result<()> {
        if json {
            serde_json::to_writer(&mut *out, self)?;
            return Ok(writeln!(out)?);
        }
        writeln!(out, "from  {}\nto    {}\n", self.from, self.to)?;
        let imported = if self.dry_run { "would import" } else { "imported" };
        writeln!(
            out,
            "{:12} {:>10} {:>13} {:>10} {:>10}",
            "", "found", imported, "here", "skipped"
        )?;
        for (name, counts) in
            [("topics", &self.topics), ("publishers", &self.publishers), ("jobs", &self.jobs)]
        {
            let number = |number| HumanCount(number).to_string();
            writeln!(
                out,
                "{name:12} {:>10} {:>13} {:>10} {:>10}",
                number(counts.found),
                number(counts.imported),
                number(counts.known),
                number(counts.skipped)
            )?;
        }
        for skipped in &self.skipped {
            writeln!(out, "\nskipped {skipped}")?;
        }
        if !self.publisher_ids.is_empty() {
            writeln!(out, "\nThe ids of publishers, for who deletes by them:")?;
            for (there, here) in &self.publisher_ids {
                writeln!(out, "  {there} is {here} here")?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_job_for_pubsub_is_unpacked_and_one_for_a_service_is_not() {
        let route = |is_packed| Route { topic: "t".into(), publisher: Some(1), is_packed };
        let routes = HashMap::from([(1, route(false)), (2, route(true))]);
        let contents = |consumer: i64, payload: &str| {
            let json = format!(
                r#"{{"consumer_id":{consumer},"payload":{payload},"attributes":{{"a":1}}}}"#
            );
            let (_, contents) = read_job(&json, &routes)?;
            assert!(contents.iter().all(|one| one.attributes["a"] == "1"));
            Some(contents.iter().map(|one| one.payload.as_str().to_owned()).collect::<Vec<_>>())
        };
        assert_eq!(contents(1, "[{},{}]").unwrap(), ["[{},{}]"]);
        assert_eq!(contents(2, "[{},{}]").unwrap(), ["{}", "{}"]);
        assert_eq!(contents(2, r#"{"a":1}"#).unwrap(), [r#"{"a":1}"#]);
        assert_eq!(contents(3, "{}"), None);
        assert_eq!(contents(1, "7"), None);
    }
}
