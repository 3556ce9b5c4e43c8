//! The console on a bus that has seen much: how long its pages take, and what one that is left open costs.
//!
//! There are many subscribers, each of which has got many batches, so that the journal is long, and many messages. Then each
//! page is asked for again and again, by one visitor.

use std::time::{Duration, Instant};

use anyhow::{Context, ensure};

use super::Wishes;
use crate::connection::Connection;
use crate::latency::{Quantiles, histogram, record};
use crate::receivers::Times;
use crate::report::{ConsoleFigures, PageFigures, Run, WatchedFigures};
use crate::stage::{Cast, Crew, Stage};
use crate::target::Terms;
use crate::usage::Usage;
use routemaster::config::Role;

/// Subscribers, and journal entries and messages, unless the command line says otherwise.
const SUBSCRIBERS: usize = 10_000;
const ENTRIES: u64 = 1_000_000;
/// How often each page is asked for.
const TIMES: usize = 100;
/// What is left of the work before is not to be measured.
const REST: Duration = Duration::from_secs(5);

/// What is asked for: lists, searches that find something and some that do not, and the first thing of a list.
const PAGES: [&str; 16] = [
    "/console",
    "/console?range=week",
    "/console/live",
    "/console/subscriptions",
    "/console/subscriptions?text=_77",
    "/console/subscriptions?state=failing",
    "/console/subscriptions?after=5000",
    FIRST_SUBSCRIPTION,
    "/console/topics",
    "/console/calls",
    "/console/messages",
    "/console/messages?text=needle",
    "/console/journal",
    "/console/journal?failed=true",
    "/console/journal?text=nowhere",
    "/console/dead-letters",
];
/// Stands for the page of the first subscription that is listed.
const FIRST_SUBSCRIPTION: &str = "/console/subscriptions/:first";

pub async fn play(crew: &Crew, wishes: &Wishes, runs: &mut Vec<Run>) -> anyhow::Result<()> {
    if !crew.has_fresh_buses() {
        crew.progress.note("note: console is left out: it is measured on a bus of its own");
        return Ok(());
    }
    crew.progress.subject("console");
    let subscribers = wishes.subscribers.unwrap_or(SUBSCRIBERS);
    let entries = wishes.events.unwrap_or(ENTRIES);
    // An event a batch: each delivery is an entry of the journal.
    let terms = Terms { max: 1, timeout: Duration::ZERO };
    let times = Times::new(terms.timeout)?;
    let events = entries.div_ceil(subscribers as u64).max(1);
    let mut script = super::Script { connections: 1, ..wishes.script() };
    script.until.items = events;
    script.until.after = Duration::from_secs(3600);
    let cast = Cast::of(subscribers, &(0..1), &times, terms);
    let run = crew.play(cast, Role::Serve, async |stage| {
        stage.target().send_messages(entries).await?;
        let published = stage.publish(script).await?;
        stage.drain(super::due(&published, subscribers)).await;
        let console = look(stage, entries, wishes.seconds).await?;
        let mut run = script.run("console", subscribers, terms).measured(stage, &published);
        run.console = Some(console);
        Ok(run)
    });
    runs.push(run.await?);
    Ok(())
}

async fn look(
    stage: &Stage<'_>,
    entries: u64,
    seconds: Duration,
) -> anyhow::Result<ConsoleFigures> {
    tokio::time::sleep(REST).await;
    let mut visitor = Visitor::sign_in(stage).await?;
    let mut pages = Vec::new();
    for page in PAGES {
        let path = match page {
            FIRST_SUBSCRIPTION => visitor.first_subscription().await?,
            page => page.to_owned(),
        };
        let (mut taken, mut bytes) = (histogram()?, 0);
        for _ in 0..TIMES {
            let began = Instant::now();
            let answer = visitor.get(&path).await?;
            record(&mut taken, began.elapsed().as_micros() as u64);
            bytes = answer.len();
        }
        pages.push(PageFigures { page, bytes, latency: Quantiles::of(&taken) });
    }
    Ok(ConsoleFigures {
        messages: entries,
        journal_entries: entries,
        pages,
        watched: watched(stage, &mut visitor, seconds).await?,
    })
}

/// What a bus costs while nothing happens, with and without somebody who watches the overview.
async fn watched(
    stage: &Stage<'_>,
    visitor: &mut Visitor<'_>,
    seconds: Duration,
) -> anyhow::Result<Option<WatchedFigures>> {
    tokio::time::sleep(REST).await;
    let cpu = |before: Usage, after: Usage| (after - before).cpu_s;
    let before = stage.usage();
    tokio::time::sleep(seconds).await;
    let unwatched = cpu(before, stage.usage());
    let stream = visitor.follow("/console").await?;
    // Not what it costs to begin.
    tokio::time::sleep(REST).await;
    let before = stage.usage();
    tokio::time::sleep(seconds).await;
    let watched = cpu(before, stage.usage());
    drop(stream);
    let share = |cpu_s: Option<f64>| cpu_s.map(|cpu_s| cpu_s / seconds.as_secs_f64());
    Ok(share(unwatched).zip(share(watched)).map(|(unwatched, watched)| WatchedFigures {
        cores_unwatched: unwatched,
        cores_watched: watched,
    }))
}

/// Somebody who looks at pages over one connection.
struct Visitor<'a> {
    stage: &'a Stage<'a>,
    connection: Connection,
    cookie: String,
}

impl<'a> Visitor<'a> {
    async fn sign_in(stage: &'a Stage<'a>) -> anyhow::Result<Self> {
        let connection = Connection::open(stage.target().endpoint()).await?;
        let mut visitor = Self { stage, connection, cookie: String::new() };
        let form = visitor.ask("GET", "/console/sign-in", "").await?;
        let code = between(&form, "name=\"code\" value=\"", "\"").context("there is no form")?;
        visitor.cookie = format!("__Host-routemaster-sign-in={code}");
        let body = format!("code={code}&token={}", stage.target().user());
        let answer = visitor.ask("POST", "/console/sign-in", &body).await?;
        let cookie = between(&answer, "__Host-routemaster=", ";").context("it is not let in")?;
        visitor.cookie = format!("__Host-routemaster={cookie}");
        Ok(visitor)
    }

    async fn get(&mut self, path: &str) -> anyhow::Result<String> {
        let answer = self.ask("GET", path, "").await?;
        ensure!(
            answer.starts_with("HTTP/1.1 200"),
            "{path}: {}",
            answer.lines().next().unwrap_or_default()
        );
        Ok(answer)
    }

    async fn first_subscription(&mut self) -> anyhow::Result<String> {
        let list = self.get("/console/subscriptions").await?;
        let path = between(&list, "<a class=\"row\" href=\"", "\"");
        Ok(path.context("no subscription is listed")?.to_owned())
    }

    /// Opens a stream of what changes on a page; it ends when it is dropped.
    async fn follow(&self, path: &str) -> anyhow::Result<Connection> {
        let mut connection = Connection::open(self.stage.target().endpoint()).await?;
        connection.send(&self.request("GET", &format!("/console/changes?of={path}"), "")).await?;
        Ok(connection)
    }

    async fn ask(&mut self, method: &str, path: &str, body: &str) -> anyhow::Result<String> {
        let answer = self.connection.ask(&self.request(method, path, body)).await?;
        Ok(String::from_utf8_lossy(&answer).into_owned())
    }

    fn request(&self, method: &str, path: &str, body: &str) -> Vec<u8> {
        let host = self.stage.target().endpoint().authority();
        let form = "content-type: application/x-www-form-urlencoded\r\n";
        let (form, length) = (if body.is_empty() { "" } else { form }, body.len());
        format!(
            "{method} {path} HTTP/1.1\r\nhost: {host}\r\ncookie: {}\r\n{form}content-length: {length}\r\n\r\n{body}",
            self.cookie
        )
        .into_bytes()
    }
}

fn between<'a>(text: &'a str, before: &str, after: &str) -> Option<&'a str> {
    Some(text.split_once(before)?.1.split_once(after)?.0)
}
