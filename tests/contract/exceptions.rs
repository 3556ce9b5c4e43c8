//! Exceptions (§7): who is told of which errors, what they are told, and what they are not.

use std::time::{Duration, Instant};

use routemaster::tls::development::DevelopmentCa;
use serde_json::{Value, json};

use crate::support::{
    Answer, Attempt, Bus, ORDERS, Process, ROOT, Signal, Store, event, eventually, run, soon,
};

const REDIS_PASSWORD: &str = "s3cr3t of redis";
/// How long anything may take beside a reporting service that does not work: less than two
/// reports may, which take 5 s each.
const SLOWED_BY_NOTHING: Duration = Duration::from_secs(8);

/// A bus that reports to a Honeybadger at this port.
fn reporting_to(port: u16, bus: Bus) -> Bus {
    bus.trusting_receivers()
        .set("EXCEPTION_SERVICE", "honeybadger")
        .set("EXCEPTION_SERVICE_URL", &format!("https://localhost:{port}"))
        .set("HONEYBADGER_API_KEY", "hbp_secret")
}

fn json(attempt: &Attempt) -> Value {
    serde_json::from_str(&attempt.body).unwrap_or_else(|_| panic!("no JSON: {}", attempt.body))
}

/// Waits for a report that Redis is gone, kills Redis for that, and checks what is the same for
/// all services.
async fn report_of_a_redis_that_is_gone(service: &str, url: &str, key: &str) -> (Attempt, u16) {
    let mut store = Store::redis();
    let redis = store.server().port();
    store.server().command(&["CONFIG", "SET", "requirepass", REDIS_PASSWORD]).unwrap();
    let password = REDIS_PASSWORD.replace(' ', "%20");
    let bus = Bus::new(&store)
        .trusting_receivers()
        .set("ROUTEMASTER_REDIS_URL", &format!("redis://:{password}@127.0.0.1:{redis}"))
        .set("ROUTEMASTER_LOG_LEVEL", "off")
        .set("EXCEPTION_SERVICE", service)
        .set(key, "key-of-the-account");
    let endpoint = bus.receiver().await;
    let port = endpoint.port();
    let bus = bus.set("EXCEPTION_SERVICE_URL", &url.replace("PORT", &port.to_string()));
    let mut server = bus.serve().await;
    server.client("demo").claims("widgets").await;
    store.server().kill();

    let is_it = |attempt: &Attempt| attempt.body.contains("failed to reach the store; trying on");
    let attempts = endpoint.until("the outage is reported", |all| all.iter().any(is_it)).await;
    for attempt in &attempts {
        for secret in [REDIS_PASSWORD, &password, ROOT, ORDERS, "key-of-the-account", "publickey"] {
            assert!(!attempt.body.contains(secret), "`{secret}` in {}", attempt.body);
        }
    }
    server.signal(Signal::Term);
    server.exit().await;
    assert_eq!(server.stderr.whole().await, "", "nothing is logged with the level off");
    (attempts.into_iter().find(is_it).unwrap(), redis)
}

#[test]
fn sentry_gets_an_envelope_with_an_event() {
    run(async {
        // The key of another service has no effect.
        let url = "https://publickey@localhost:PORT/base/42";
        let gone = report_of_a_redis_that_is_gone("sentry", url, "HONEYBADGER_API_KEY");
        let (attempt, redis) = gone.await;
        assert_eq!((attempt.method.as_str(), &*attempt.path), ("POST", "/base/api/42/envelope/"));
        assert_eq!(attempt.header("content-type"), Some("application/x-sentry-envelope"));
        let auth = attempt.header("x-sentry-auth").unwrap();
        assert!(auth.contains("sentry_key=publickey") && auth.contains("sentry_version=7"));
        let lines: Vec<Value> =
            attempt.body.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        let [header, item, event] = &lines[..] else { panic!("{lines:?}") };
        assert_eq!(item["type"], "event");
        let id = header["event_id"].as_str().unwrap().replace('-', "");
        assert_eq!(event["event_id"], id);
        assert!(event["level"].is_null(), "an error by default");
        assert_eq!(event["release"], format!("routemaster@{}", env!("CARGO_PKG_VERSION")));
        assert_eq!(event["logger"], "routemaster::store::redis::link");
        assert_eq!(event["tags"]["role"], "serve");
        assert_eq!(event["extra"]["store"], format!("Redis, redis://127.0.0.1:{redis}"));
        assert!(!event["server_name"].as_str().unwrap().is_empty());
        let error = &event["exception"]["values"][0];
        assert_eq!(error["type"], "failed to reach the store; trying on");
        assert!(!error["value"].as_str().unwrap().is_empty());
        let frame = &error["stacktrace"]["frames"][0];
        assert_eq!(frame["filename"], "src/store/redis/link.rs");
        assert!(frame["lineno"].as_u64() > Some(0));
    });
}

#[test]
fn honeybadger_gets_a_notice() {
    run(async {
        let url = "https://localhost:PORT/";
        let gone = report_of_a_redis_that_is_gone("honeybadger", url, "HONEYBADGER_API_KEY");
        let (attempt, redis) = gone.await;
        assert_eq!((attempt.method.as_str(), &*attempt.path), ("POST", "/v1/notices"));
        assert_eq!(attempt.header("content-type"), Some("application/json"));
        assert_eq!(attempt.header("x-api-key"), Some("key-of-the-account"));
        assert_eq!(attempt.header("authorization"), None);
        let notice = json(&attempt);
        assert_eq!(notice["notifier"]["name"], "routemaster");
        let error = &notice["error"];
        assert_eq!(error["class"], "failed to reach the store; trying on");
        assert!(!error["message"].as_str().unwrap().is_empty());
        assert_eq!(error["backtrace"][0]["file"], "src/store/redis/link.rs");
        assert!(error["backtrace"][0]["number"].as_str().unwrap().parse::<u32>().unwrap() > 0);
        let context = &notice["request"]["context"];
        assert_eq!(context["store"], format!("Redis, redis://127.0.0.1:{redis}"));
        assert_eq!(context["role"], "serve");
        let release = format!("routemaster@{}", env!("CARGO_PKG_VERSION"));
        assert_eq!([&context["release"], &notice["server"]["revision"]], [&release, &release]);
        assert!(!notice["server"]["hostname"].as_str().unwrap().is_empty());
    });
}

#[test]
fn new_relic_gets_a_custom_event() {
    run(async {
        let url = "https://localhost:PORT/v1/accounts/17/events";
        let gone = report_of_a_redis_that_is_gone("new_relic", url, "NEW_RELIC_LICENSE_KEY");
        let (attempt, redis) = gone.await;
        assert_eq!((attempt.method.as_str(), &*attempt.path), ("POST", "/v1/accounts/17/events"));
        assert_eq!(attempt.header("content-type"), Some("application/json"));
        assert_eq!(attempt.header("api-key"), Some("key-of-the-account"));
        let event = &json(&attempt)[0];
        assert_eq!(event["eventType"], "RoutemasterException");
        assert_eq!(event["error.class"], "failed to reach the store; trying on");
        assert!(!event["error.message"].as_str().unwrap().is_empty());
        assert_eq!(event["file"], "src/store/redis/link.rs");
        assert!(event["line"].as_u64() > Some(0));
        assert_eq!(event["field.store"], format!("Redis, redis://127.0.0.1:{redis}"));
        assert_eq!(event["release"], format!("routemaster@{}", env!("CARGO_PKG_VERSION")));
        assert_eq!(event["role"], "serve");
        assert!(!event["hostname"].as_str().unwrap().is_empty());
    });
}

/// A process that logs an error whenever a test wants one: its certificate is spoilt, and it is
/// asked to look at it.
struct Faulty {
    /// Its directory is gone when it is dropped.
    _bus: Bus,
    server: Process,
    file: std::path::PathBuf,
    faults: usize,
}

impl Faulty {
    const CERTIFICATE: &str = "cert.pem";

    async fn start(bus: Bus, certificate: &str) -> Self {
        let identity = DevelopmentCa::open_or_create(&bus.data_dir()).unwrap().issue().unwrap();
        let file = bus.directory().join(certificate);
        std::fs::write(&file, identity.certificate).unwrap();
        std::fs::write(bus.directory().join("key.pem"), identity.key).unwrap();
        let bus =
            bus.set("ROUTEMASTER_TLS_CERT", certificate).set("ROUTEMASTER_TLS_KEY", "key.pem");
        let server = bus.serve().await;
        Self { _bus: bus, server, file, faults: 0 }
    }

    /// Logs one more error, and waits until it is logged.
    async fn fails(&mut self) {
        self.faults += 1;
        // In one step: a file that is half written would be an error more.
        let draft = self.file.with_extension("new");
        std::fs::write(&draft, format!("no certificate {}", self.faults)).unwrap();
        std::fs::rename(draft, &self.file).unwrap();
        self.server.signal(Signal::Hup);
        let logged = async || (self.logged("ERROR") == self.faults).then_some(());
        eventually("one more error is logged", logged).await;
    }

    /// How many lines of the log are of this level.
    fn logged(&self, level: &str) -> usize {
        self.server.stderr.text().matches(&format!(r#""level":"{level}""#)).count()
    }
}

on_both_stores!(an_error_is_reported_without_the_secrets_in_it, |store| async move {
    let certificate = format!("{ROOT} {ORDERS} uuid=4f1c Bearer abc.def.pem");
    let bus = Bus::new(&store);
    let service = bus.receiver().await;
    let bus = reporting_to(service.port(), bus);
    let mut faulty = Faulty::start(bus, &certificate).await;
    faulty.fails().await;
    let notice = json(&service.attempts(1).await[0]);
    let message = notice["error"]["message"].as_str().unwrap();
    assert!(message.contains("… orders--… uuid=… Bearer …"), "{message}");
    let log = faulty.server.stderr.text();
    assert!(log.contains(&certificate), "there was nothing to scrub: {log}");
});

on_both_stores!(a_failed_delivery_is_no_exception, |store| async move {
    let bus = Bus::new(&store);
    let service = bus.receiver().await;
    let bus = reporting_to(service.port(), bus).set("ROUTEMASTER_MAX_BACKOFF_MS", "0");
    let receiver = bus.receiver().await;
    receiver.answer(Answer::Status(500));
    let mut faulty = Faulty::start(bus, Faulty::CERTIFICATE).await;
    let demo = faulty.server.client("demo");
    demo.claims("widgets").await;
    demo.subscribes(&receiver, &["widgets"], json!({"timeout": 0})).await;
    demo.publishes("widgets", [1]).await;
    receiver.attempts(3).await;
    let stderr = &faulty.server.stderr;
    let line = soon("a warning", stderr.line_with("failed to deliver")).await.unwrap();
    assert!(line.contains(r#""level":"WARN""#), "{line}");
    // Reports come in order: nothing was reported before this error.
    faulty.fails().await;
    let report = &service.attempts(1).await[0];
    assert!(report.body.contains("renewed certificate"), "{}", report.body);
});

#[test]
fn an_error_that_repeats_does_not_flood_the_service() {
    run(async {
        let bus = Bus::new(&Store::sqlite());
        let service = bus.receiver().await;
        let bus = reporting_to(service.port(), bus);
        let mut faulty = Faulty::start(bus, Faulty::CERTIFICATE).await;
        for _ in 0..12 {
            faulty.fails().await;
        }
        faulty.server.signal(Signal::Term);
        assert_eq!(faulty.server.exit().await.0, Some(0));
        let reports = service.attempts_so_far().len();
        assert!((2..=6).contains(&reports), "{reports} reports of 12 errors");
    });
}

#[test]
fn what_waits_to_be_reported_is_reported_before_the_end() {
    run(async {
        let bus = Bus::new(&Store::sqlite());
        let service = bus.receiver().await;
        service.answer(Answer::After(Duration::from_millis(500)));
        let bus = reporting_to(service.port(), bus);
        let mut faulty = Faulty::start(bus, Faulty::CERTIFICATE).await;
        faulty.fails().await;
        service.attempts(1).await;
        faulty.fails().await;
        faulty.server.signal(Signal::Term);
        assert_eq!(faulty.server.exit().await.0, Some(0));
        assert_eq!(service.attempts_so_far().len(), 2);
    });
}

/// Publishes, delivers and stops, while reports of errors get nowhere.
async fn nothing_is_slowed_down(bus: Bus) -> Faulty {
    let receiver = bus.receiver().await;
    let mut faulty = Faulty::start(bus, Faulty::CERTIFICATE).await;
    let demo = faulty.server.client("demo");
    demo.claims("widgets").await;
    demo.subscribes(&receiver, &["widgets"], json!({"timeout": 0, "max": 1})).await;
    faulty.fails().await;
    let start = Instant::now();
    for number in 1..=20 {
        demo.publish("widgets", &event(number)).await.expect(204);
        if number % 5 == 0 {
            faulty.fails().await;
        }
    }
    assert_eq!(receiver.numbers(20).await, (1..=20).collect::<Vec<_>>());
    assert!(start.elapsed() < SLOWED_BY_NOTHING, "it took {:?}", start.elapsed());
    faulty.server.signal(Signal::Term);
    let (code, took) = faulty.server.exit().await;
    assert_eq!(code, Some(0));
    assert!(took < SLOWED_BY_NOTHING, "it ended after {took:?}");
    faulty
}

on_both_stores!(a_service_that_hangs_slows_nothing_down, |store| async move {
    let bus = Bus::new(&store);
    let service = bus.receiver().await;
    service.answer(Answer::Hang);
    nothing_is_slowed_down(reporting_to(service.port(), bus)).await;
    let reports = service.attempts_so_far().len();
    assert!((1..5).contains(&reports), "one after the other: {reports} reports of 5 errors");
});

on_both_stores!(a_service_that_is_gone_slows_nothing_down_and_is_a_warning, |store| async move {
    let bus = Bus::new(&store);
    let port = bus.receiver().await.close().await;
    let faulty = nothing_is_slowed_down(reporting_to(port, bus)).await;
    let log = faulty.server.stderr.whole().await;
    assert_eq!(log.matches("failed to report an exception").count(), 1, "once a row: {log}");
    assert_eq!(log.matches("some exceptions were not reported").count(), 1, "{log}");
    assert!(log.contains(r#""lost":5"#), "{log}");
    assert_eq!(faulty.logged("ERROR"), 5, "its own trouble is no error: {log}");
});

#[test]
fn a_service_that_refuses_is_a_warning_and_is_tried_again() {
    run(async {
        let bus = Bus::new(&Store::sqlite());
        let service = bus.receiver().await;
        service.answer_next([Answer::Status(500), Answer::Status(403), Answer::Status(201)]);
        let bus = reporting_to(service.port(), bus);
        let mut faulty = Faulty::start(bus, Faulty::CERTIFICATE).await;
        for _ in 0..3 {
            faulty.fails().await;
        }
        service.attempts(3).await;
        let stderr = &faulty.server.stderr;
        soon("the count", stderr.line_with(r#""lost":2"#)).await.unwrap();
        assert_eq!(stderr.text().matches("failed to report an exception").count(), 1);
    });
}

#[test]
fn a_service_that_asks_to_be_left_alone_is() {
    run(async {
        let bus = Bus::new(&Store::sqlite());
        let service = bus.receiver().await;
        service.answer_next([Answer::Status(429)]);
        let bus = reporting_to(service.port(), bus);
        let mut faulty = Faulty::start(bus, Faulty::CERTIFICATE).await;
        faulty.fails().await;
        let stderr = &faulty.server.stderr;
        soon("a warning", stderr.line_with("failed to report")).await.unwrap();
        faulty.fails().await;
        faulty.server.signal(Signal::Term);
        assert_eq!(faulty.server.exit().await.0, Some(0));
        assert_eq!(service.attempts_so_far().len(), 1);
        assert!(faulty.server.stderr.whole().await.contains(r#""lost":2"#));
    });
}

#[test]
fn print_reports_to_nobody_but_the_log() {
    run(async {
        let bus = Bus::new(&Store::sqlite());
        let service = bus.receiver().await;
        let bus = reporting_to(service.port(), bus).unset("EXCEPTION_SERVICE");
        let mut faulty = Faulty::start(bus, Faulty::CERTIFICATE).await;
        let stderr = &faulty.server.stderr;
        let warning = stderr.line_with("EXCEPTION_SERVICE_URL has no effect");
        soon("a warning", warning).await.unwrap();
        faulty.fails().await;
        faulty.server.signal(Signal::Term);
        assert_eq!(faulty.server.exit().await.0, Some(0));
        assert_eq!(service.attempts_so_far().len(), 0);
    });
}

#[test]
fn settings_that_a_service_cannot_work_with_are_said_at_the_start() {
    const SERVICE: &str = "EXCEPTION_SERVICE";
    const URL: &str = "EXCEPTION_SERVICE_URL";
    run(async {
        for (settings, named, needed) in [
            (&[(SERVICE, "rollbar")][..], SERVICE, "print, sentry, honeybadger or new_relic"),
            (&[(SERVICE, "sentry")], URL, "https://<key>@<host>/<project>"),
            (&[(SERVICE, "sentry"), (URL, "http://s3cr3t@sentry.io/1")], URL, "https://"),
            (&[(SERVICE, "sentry"), (URL, "https://s3cr3t@sentry.io/")], URL, "<project>"),
            (&[(SERVICE, "honeybadger")], "HONEYBADGER_API_KEY", ""),
            (&[(SERVICE, "new_relic"), ("NEW_RELIC_LICENSE_KEY", "s3cr3t")], URL, "<account>"),
            (
                &[(SERVICE, "new_relic"), (URL, "https://localhost/v1/accounts/1/events")],
                "NEW_RELIC_LICENSE_KEY",
                "",
            ),
        ] {
            let bus = settings
                .iter()
                .fold(Bus::new(&Store::sqlite()), |bus, (name, value)| bus.set(name, value));
            let ended = bus.run(&["serve"]).await;
            assert_eq!(ended.code, Some(2), "{settings:?}: {}", ended.stderr);
            assert!(ended.stderr.contains(named), "{settings:?}: {}", ended.stderr);
            assert!(ended.stderr.contains(needed), "{settings:?}: {}", ended.stderr);
            assert!(!ended.stderr.contains("s3cr3t"), "{settings:?}: {}", ended.stderr);
            assert_eq!(ended.stderr.lines().count(), 1, "{}", ended.stderr);
        }
    });
}
