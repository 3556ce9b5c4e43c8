//! Every metric once (contract §7). `docs/metrics.md` is written from this table, and a test
//! checks it.
//!
//! Counters count since the process started. Each thing is counted by one process: what a process
//! did by itself, what concerns the store by the one that has the duty to report it.

/// What kind of number a metric is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// It only grows, and starts at 0 with its process.
    Counter,
    /// It is measured every 10 s.
    Gauge,
    /// How long something took, in seconds; for Prometheus only.
    Histogram,
}

/// One metric.
#[derive(Debug)]
pub struct Metric {
    pub name: &'static str,
    pub kind: Kind,
    /// The names of its tags.
    #[cfg_attr(not(test), expect(dead_code, reason = "for docs/metrics.md only"))]
    pub tags: &'static [&'static str],
    pub meaning: &'static str,
}

/// Declares each metric once: its constant, kind, name, tags and meaning.
macro_rules! metrics {
    ($(
        $(#[doc = $meaning:literal])+
        $constant:ident: $kind:ident = $name:literal [$($tag:literal),*];
    )+) => {
        $($(#[doc = $meaning])+ pub const $constant: &str = $name;)+

        /// All metrics, in the order in which people read them.
        pub const METRICS: &[Metric] = &[$(Metric {
            name: $name,
            kind: Kind::$kind,
            tags: &[$($tag),*],
            meaning: concat!($($meaning),+),
        }),+];
    };
}

metrics! {
    /// Events accepted from publishers.
    EVENTS_PUBLISHED: Counter = "routemaster.events.published" ["topic"];
    /// Events put into a subscriber's queue.
    EVENTS_ADDED: Counter = "routemaster.events.added" ["subscriber"];
    /// Events that left a subscriber's queue because it acknowledged them.
    EVENTS_REMOVED: Counter = "routemaster.events.removed" ["subscriber"];
    /// Events dropped because the store ran out of room.
    EVENTS_AUTODROPPED: Counter = "routemaster.events.autodropped" ["subscriber"];
    /// Events dropped as the subscriber's own `retention` or `max_queued` asks for.
    EVENTS_EXPIRED: Counter = "routemaster.events.expired" ["subscriber"];

    /// Batches that were sent, or given out to whoever pulls them, each attempt counted; status is success or failure.
    DELIVERY_BATCHES: Counter = "routemaster.delivery.batches" ["status", "subscriber"];
    /// Events in these batches.
    DELIVERY_EVENTS: Counter = "routemaster.delivery.events" ["status", "subscriber"];
    /// How long these attempts took together, in milliseconds.
    DELIVERY_TIME: Counter = "routemaster.delivery.time" ["status", "subscriber"];
    /// The squares of how long they took, in milliseconds squared: with `delivery.time` and
    /// `delivery.batches` they give the standard deviation.
    DELIVERY_TIME2: Counter = "routemaster.delivery.time2" ["status", "subscriber"];

    /// Batches that were attempted for the first time.
    LATENCY_COUNT: Counter = "routemaster.latency.batches.count" ["subscriber"];
    /// How long the oldest events of these batches had waited by then, together, in milliseconds.
    LATENCY_FIRST_ATTEMPT: Counter = "routemaster.latency.batches.first_attempt" ["subscriber"];
    /// How long the oldest events of acknowledged batches had waited when their last attempt
    /// began, together, in milliseconds.
    LATENCY_LAST_ATTEMPT: Counter = "routemaster.latency.batches.last_attempt" ["subscriber"];

    /// Calls that were accepted; kind is call, postback, or unread for a body that was taken as it came.
    CALLS_ACCEPTED: Counter = "routemaster.calls.accepted" ["kind"];
    /// Attempts at calls; status is success or failure.
    CALLS_ATTEMPTS: Counter = "routemaster.calls.attempts" ["destination", "status"];
    /// Calls that are done.
    CALLS_DONE: Counter = "routemaster.calls.done" ["destination"];
    /// Calls that were given up.
    CALLS_DEAD: Counter = "routemaster.calls.dead" ["destination"];
    /// Dead calls that were forgotten before their time, to make room.
    CALLS_DROPPED: Counter = "routemaster.calls.dropped" [];
    /// Calls that are not over: those that wait, and those that are on their way; kind is also message, for what
    /// publishers have to forward.
    CALLS_WAITING: Gauge = "routemaster.calls.waiting" ["kind"];
    /// Calls that were given up and are kept.
    CALLS_DEAD_LETTERS: Gauge = "routemaster.calls.dead_letters" ["kind"];
    /// What calls take in the store, in bytes; overhead is not counted.
    CALLS_BYTES: Gauge = "routemaster.calls.bytes_used" ["kind"];

    /// Messages that were accepted.
    MESSAGES_ACCEPTED: Counter = "routemaster.messages.accepted" ["topic"];
    /// Messages that were forgotten before their time, to make room.
    MESSAGES_FORGOTTEN: Counter = "routemaster.messages.forgotten" [];
    /// Deliveries among them that had been given up on.
    MESSAGES_FORGOTTEN_DEAD: Counter = "routemaster.messages.forgotten_dead" [];
    /// Deliveries that were discarded because their publisher was removed.
    MESSAGES_DISCARDED: Counter = "routemaster.messages.discarded" [];
    /// Messages that were forwarded without the historical topic being told, for want of room.
    MESSAGES_UNTOLD: Counter = "routemaster.messages.untold" [];
    /// Messages that are kept, those that wait and those that do not.
    MESSAGES_KEPT: Gauge = "routemaster.messages.kept" [];
    /// What messages take in the store, about, in bytes.
    MESSAGES_BYTES: Gauge = "routemaster.messages.bytes_used" [];

    /// Attempts that were left out of the journal because it could not take them in time.
    JOURNAL_LEFT_OUT: Counter = "routemaster.journal.left_out" [];

    /// Processes that started or stopped; status is start or stop, type is web or worker. `serve`
    /// is both.
    PROCESS: Counter = "routemaster.process" ["status", "type"];

    /// Lines of the log that were dropped because they could not be written in time.
    LOG_LINES_DROPPED: Counter = "routemaster.log.lines_dropped" [];

    /// When the process started, in seconds since the epoch: it changes with each restart.
    PROCESS_START_TIME: Gauge = "routemaster.process.start_time_seconds" [];

    /// Batches that the queued events of a subscriber amount to.
    QUEUE_BATCHES: Gauge = "routemaster.subscriber.queue.batches" ["subscriber"];
    /// Events in a subscriber's queue, those in flight included.
    QUEUE_EVENTS: Gauge = "routemaster.subscriber.queue.events" ["subscriber"];
    /// How long the oldest of them has waited, in seconds.
    QUEUE_STALENESS: Gauge = "routemaster.subscriber.queue.staleness" ["subscriber"];
    /// The subscriber's health, from 0, nothing gets through, to 100.
    HEALTH: Gauge = "routemaster.subscriber.health" ["subscriber"];
    /// How many of the subscriptions are paused: 1 or 0, or more if several subscribers have one name.
    PAUSED: Gauge = "routemaster.subscriber.paused" ["subscriber"];
    /// Events that were skipped or refused for ever, and are kept.
    EVENTS_DEAD_LETTERS: Gauge = "routemaster.events.dead_letters" [];
    /// In the queue main: batches that are due (status instant) or will be (status scheduled). In the queues calls
    /// and messages: those that are not over (status waiting), and those that were given up (status dead).
    JOBS_COUNT: Gauge = "routemaster.jobs.count" ["queue", "status"];
    /// Batches due within ROUTEMASTER_SCALING_DEADLINE: what GET /pulse/scaling looks at.
    SCALING_DUE: Gauge = "routemaster.scaling.due_batches" [];
    /// ROUTEMASTER_SCALING_THRESHOLD: with more of them due, more workers are needed.
    SCALING_THRESHOLD: Gauge = "routemaster.scaling.threshold" [];

    /// Memory that Redis uses, in bytes.
    REDIS_BYTES_USED: Gauge = "routemaster.redis.bytes_used" [];
    /// How much it may use: ROUTEMASTER_REDIS_MAX_MEM or Redis's own `maxmemory`.
    REDIS_MAX_MEM: Gauge = "routemaster.redis.max_mem" [];
    /// Autodrop ends when no more bytes are used.
    REDIS_LOW_MARK: Gauge = "routemaster.redis.low_mark" [];
    /// Autodrop begins when more bytes are used.
    REDIS_HIGH_MARK: Gauge = "routemaster.redis.high_mark" [];
    /// Processor time of Redis in user mode since it started, in milliseconds.
    REDIS_CPU_USER: Gauge = "routemaster.redis.used_cpu_user" [];
    /// The same in system mode.
    REDIS_CPU_SYS: Gauge = "routemaster.redis.used_cpu_sys" [];
    /// What the SQLite file holds, in bytes. The metrics `sqlite.*` take the place of `redis.*`.
    SQLITE_BYTES_USED: Gauge = "routemaster.sqlite.bytes_used" [];
    /// ROUTEMASTER_SQLITE_MAX_BYTES.
    SQLITE_MAX_BYTES: Gauge = "routemaster.sqlite.max_bytes" [];
    /// Autodrop ends when no more bytes are used.
    SQLITE_LOW_MARK: Gauge = "routemaster.sqlite.low_mark" [];
    /// Autodrop begins when more bytes are used.
    SQLITE_HIGH_MARK: Gauge = "routemaster.sqlite.high_mark" [];

    /// How long publishes took to answer, by the status of the answer.
    PUBLISH_SECONDS: Histogram = "routemaster.publish.duration_seconds" ["status"];
    /// How long attempts to deliver a batch took; status is success or failure.
    DELIVERY_SECONDS: Histogram = "routemaster.delivery.duration_seconds" ["status"];
    /// How long attempts at calls took; status is success or failure.
    CALL_SECONDS: Histogram = "routemaster.calls.duration_seconds" ["status"];
    /// How long calls had waited when they were made for the first time, from when they were accepted.
    CALL_WAIT_SECONDS: Histogram = "routemaster.calls.wait_seconds" [];
}

#[cfg(test)]
mod tests {
    use super::*;

    const PAGE_HEAD: &str = "\
| metric | kind | tags | meaning |
|---|---|---|---|
";

    fn table() -> String {
        let mut text = PAGE_HEAD.to_owned();
        for Metric { name, kind, tags, meaning } in METRICS {
            let (kind, tags) = (format!("{kind:?}").to_lowercase(), tags.join(", "));
            text += &format!("| `{name}` | {kind} | {tags} | {} |\n", meaning.trim());
        }
        text
    }

    /// `UPDATE_DOCS=1 cargo test --lib` writes the table anew.
    #[test]
    fn the_page_says_what_the_table_says() {
        const MARKS: [&str; 2] = ["<!-- table -->\n", "<!-- end of table -->"];
        let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/metrics.md");
        let page = std::fs::read_to_string(&path).unwrap();
        let (head, rest) = page.split_once(MARKS[0]).unwrap();
        let (_, tail) = rest.split_once(MARKS[1]).unwrap();
        let expected = format!("{head}{}{}{}{tail}", MARKS[0], table(), MARKS[1]);
        if std::env::var_os("UPDATE_DOCS").is_some() {
            std::fs::write(&path, &expected).unwrap();
        }
        let written = std::fs::read_to_string(&path).unwrap();
        assert!(written == expected, "it is out of date: UPDATE_DOCS=1 cargo test --lib");
    }

    /// What starts a metric's name in Prometheus.
    const PREFIX: &str = "routemaster_";

    /// Whether Prometheus has a metric of this name: dots are underscores, and of a histogram there
    /// are its parts only.
    fn prometheus_has(name: &str) -> bool {
        METRICS.iter().any(|metric| {
            let base = metric.name.replace('.', "_");
            let parts: &[&str] = match metric.kind {
                Kind::Histogram => &["_bucket", "_sum", "_count"],
                Kind::Counter | Kind::Gauge => &[""],
            };
            name.strip_prefix(&base).is_some_and(|part| parts.contains(&part))
        })
    }

    /// The names in a text that look like a metric's.
    fn names_in(text: &str) -> impl Iterator<Item = &str> {
        text.match_indices(PREFIX).map(|(start, _)| {
            let rest = &text[start..];
            let end = rest.find(|c: char| !(c.is_ascii_alphanumeric() || c == '_'));
            &rest[..end.unwrap_or(rest.len())]
        })
    }

    #[test]
    fn prometheus_has_metrics_in_its_own_spelling() {
        for name in [
            "routemaster_events_published",
            "routemaster_latency_batches_count",
            "routemaster_subscriber_queue_events",
            "routemaster_publish_duration_seconds_bucket",
            "routemaster_publish_duration_seconds_sum",
            "routemaster_publish_duration_seconds_count",
        ] {
            assert!(prometheus_has(name), "{name}");
        }
        for name in [
            "routemaster_",
            "routemaster_events",
            "routemaster_events_published_total",
            "routemaster_delivery_batches_count",
            "routemaster_scaling_threshold_bucket",
            "routemaster_publish_duration_seconds",
            "routemaster.events.published",
        ] {
            assert!(!prometheus_has(name), "{name}");
        }
        let text = "max(routemaster_a{x=\"1\"}) / routemaster_b_2[5m], routemaster_c";
        let names: Vec<_> = names_in(text).collect();
        assert_eq!(names, ["routemaster_a", "routemaster_b_2", "routemaster_c"]);
    }

    #[test]
    fn dashboards_alerts_and_the_page_use_names_that_there_are() {
        let docs = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("docs");
        let files = std::fs::read_dir(docs.join("grafana")).unwrap();
        let mut files: Vec<_> = files.map(|file| file.unwrap().path()).collect();
        files.retain(|file| file.extension().is_some_and(|end| end == "json" || end == "yml"));
        assert!(files.len() >= 2, "{files:?}");
        files.push(docs.join("metrics.md"));
        for file in files {
            let text = std::fs::read_to_string(&file).unwrap();
            let names: Vec<_> = names_in(&text).collect();
            assert!(!names.is_empty(), "{} uses no metric", file.display());
            let unknown: Vec<_> = names.into_iter().filter(|name| !prometheus_has(name)).collect();
            assert!(unknown.is_empty(), "{} uses {unknown:?}", file.display());
        }
    }

    #[test]
    fn every_alert_leads_to_a_chapter_of_the_runbook() {
        let alerts = include_str!("../../../docs/grafana/alerts.yml");
        let chapters: Vec<String> = include_str!("../../../docs/runbook.md")
            .lines()
            .filter_map(|line| line.strip_prefix("## "))
            .map(|title| title.to_lowercase().replace(' ', "-"))
            .collect();
        let after = alerts.split("- alert: ").skip(1);
        assert!(after.clone().count() > 10);
        for alert in after {
            let name = alert.lines().next().unwrap_or_default();
            let link = alert.split_once("runbook: docs/runbook.md#").map(|(_, rest)| rest);
            let chapter = link.and_then(|rest| rest.lines().next()).unwrap_or_default();
            assert!(chapters.iter().any(|known| known == chapter), "{name}: `{chapter}`");
        }
    }
}
