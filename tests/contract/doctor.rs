//! `routemaster doctor`: what is wrong is found, and said with what to do about it; what is well is
//! left alone.

use std::collections::BTreeMap;
use std::path::Path;

use rcgen::{CertificateParams, KeyPair, date_time_ymd};
use routemaster::tls::development::Identity;
use serde_json::{Value, json};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpListener;

use crate::support::{Bus, Process, Receiver, RedisServer, Signal, Store, raw, run};

/// A port where nothing listens.
const NOBODY: &str = "https://localhost:1";

/// Runs it; returns its exit code and the findings.
async fn doctor(bus: &Bus, url: &str, more: &[&str]) -> (Option<i32>, Vec<Value>) {
    let ended = bus.run(&[&["doctor", "--json", "--url", url], more].concat()).await;
    assert_eq!(ended.stdout.lines().count(), 1, "{}{}", ended.stdout, ended.stderr);
    let report: Value = serde_json::from_str(&ended.stdout).unwrap();
    let findings = report["findings"].as_array().unwrap().clone();
    for (result, count) in
        [("ok", "ok"), ("warning", "warnings"), ("problem", "problems"), ("skipped", "skipped")]
    {
        let found = findings.iter().filter(|finding| finding["result"] == result).count();
        assert_eq!(report["summary"][count], found, "{report}");
    }
    for finding in &findings {
        let result = finding["result"].as_str().unwrap();
        let advised = finding["advice"].is_string();
        assert_eq!(advised, ["warning", "problem"].contains(&result), "{finding}");
    }
    (ended.code, findings)
}

/// The finding of a check that says this.
#[track_caller]
fn find<'a>(findings: &'a [Value], check: &str, said: &str) -> &'a Value {
    let says = |finding: &&Value| {
        finding["check"] == check && finding["found"].as_str().unwrap().contains(said)
    };
    let found = findings.iter().find(says);
    found.unwrap_or_else(|| panic!("{check} does not say `{said}`: {findings:#?}"))
}

/// What each check came to; the worst of its findings.
fn results(findings: &[Value]) -> BTreeMap<&str, &str> {
    let badness =
        |result: &str| ["skipped", "ok", "warning", "problem"].iter().position(|r| *r == result);
    let mut results = BTreeMap::new();
    for finding in findings {
        let (check, result) = (&finding["check"], finding["result"].as_str().unwrap());
        let worst = results.entry(check.as_str().unwrap()).or_insert(result);
        if badness(result) > badness(worst) {
            *worst = result;
        }
    }
    results
}

/// A certificate for localhost that vouches for itself.
fn identity(name: &str, until: i32) -> Identity {
    let mut params = CertificateParams::new(vec![name.to_owned()]).unwrap();
    params.not_before = date_time_ymd(2020, 1, 1);
    params.not_after = date_time_ymd(until, 1, 31);
    let key = KeyPair::generate().unwrap();
    let certificate = params.self_signed(&key).unwrap().pem();
    Identity { certificate, key: key.serialize_pem() }
}

fn install(identity: &Identity, directory: &Path) {
    std::fs::write(directory.join("cert.pem"), &identity.certificate).unwrap();
    std::fs::write(directory.join("key.pem"), &identity.key).unwrap();
}

async fn subscribe(server: &Process, token: &str, callback: &str) {
    let body = json!({"topics": ["widgets"], "callback": callback});
    server.client(token).post("/subscription", body.to_string()).await.expect(204);
}

/// A server that answers whatever it is sent as one of plain HTTP does; returns its port.
async fn without_tls() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let _ = stream.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").await;
        }
    });
    port
}

/// All files below a directory, with what is in them.
fn contents(directory: &Path) -> BTreeMap<String, Vec<u8>> {
    let mut files = BTreeMap::new();
    for entry in std::fs::read_dir(directory).unwrap().map(Result::unwrap) {
        if entry.file_type().unwrap().is_dir() {
            files.insert(entry.path().display().to_string(), vec![]);
            files.extend(contents(&entry.path()));
        } else {
            files.insert(entry.path().display().to_string(), std::fs::read(entry.path()).unwrap());
        }
    }
    files
}

on_both_stores!(
    a_bus_that_is_well_has_no_problem_and_no_subscriber_is_disturbed,
    |store| async move {
        let bus = Bus::new(&store);
        let (server, receiver) = (bus.serve().await, bus.receiver().await);
        server.client("demo").claims("widgets").await;
        subscribe(&server, "demo", &receiver.url()).await;
        let (code, findings) = doctor(&bus, server.base(), &[]).await;
        assert_eq!(code, Some(0), "{findings:#?}");
        let results = results(&findings);
        for check in ["bus", "clock", "certificate", "callbacks", "queues"] {
            assert_eq!(results.get(check), Some(&"ok"), "{findings:#?}");
        }
        // A Redis of a test keeps nothing on disk, and everybody has the development certificate.
        assert!(results["settings"] != "problem" && results["store"] != "problem", "{findings:#?}");
        assert!(receiver.attempts_so_far().is_empty(), "it was asked for something");
        let readable = bus.run(&["doctor", "--url", server.base()]).await;
        assert_eq!(readable.code, Some(0), "{}", readable.stdout);
        assert!(!readable.stdout.contains('\u{1b}'), "{}", readable.stdout);
        let lines: Vec<_> = readable.stdout.lines().collect();
        assert_eq!(lines.len(), findings.len() + 2, "a line each: {}", readable.stdout);
        assert!(lines.last().unwrap().starts_with("no problem, "), "{}", readable.stdout);
    }
);

#[test]
fn every_wrong_setting_is_told_and_the_rest_is_checked() {
    run(async {
        let bus = Bus::new(&Store::sqlite())
            .set("PORT", "70000")
            .set("ROUTEMASTER_TIMEOUT", "soon")
            .set("ROUTEMASTER_ROOT_KEY", "My:Secret Key")
            .set("ROUTEMASTER_CLINETS", "demo");
        let ended = bus.run(&["doctor", "--json", "--bind", "nowhere"]).await;
        assert_eq!(ended.code, Some(1), "{}", ended.stderr);
        assert!(!ended.stdout.contains("My:Secret"), "{}", ended.stdout);
        let report: Value = serde_json::from_str(&ended.stdout).unwrap();
        let findings = report["findings"].as_array().unwrap();
        for (said, advice) in [
            ("PORT=70000 is not allowed", "0 to 65535"),
            ("ROUTEMASTER_TIMEOUT=soon", "seconds"),
            ("ROUTEMASTER_ROOT_KEY=", "without a colon"),
            ("ROUTEMASTER_BIND=nowhere", "IP address"),
        ] {
            let finding = find(findings, "settings", said);
            assert_eq!(finding["result"], "problem");
            assert!(finding["advice"].as_str().unwrap().contains(advice), "{finding}");
        }
        let unknown = find(findings, "settings", "ROUTEMASTER_CLINETS");
        assert_eq!(unknown["advice"], "is ROUTEMASTER_CLIENTS meant?");
        assert_eq!(find(findings, "store", "there is no store yet")["result"], "warning");
        assert_eq!(find(findings, "bus", "PORT")["result"], "skipped");
    });
}

#[test]
fn contradictions_and_a_broken_env_file_are_told() {
    run(async {
        let file = concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml");
        let bus = Bus::new(&Store::sqlite())
            .set("ROUTEMASTER_TLS_CERT", file)
            .set("ROUTEMASTER_PUBLISH_BURST", "5");
        std::fs::write(
            bus.directory().join(".env"),
            "this is nobody's\nROUTEMASTER_CLIENTS demo\n",
        )
        .unwrap();
        let (code, findings) = doctor(&bus, NOBODY, &[]).await;
        assert_eq!(code, Some(1));
        for said in ["ROUTEMASTER_TLS_KEY", "ROUTEMASTER_PUBLISH_RATE", ".env"] {
            assert_eq!(find(&findings, "settings", said)["result"], "problem");
        }
    });
}

#[test]
fn a_dead_redis_is_told_without_its_password() {
    run(async {
        let mut redis = RedisServer::start();
        let store = Store::Redis(RedisServer::start());
        let url = format!("redis://operator:hunter2@127.0.0.1:{}", redis.port());
        redis.kill();
        let bus = Bus::new(&store);
        let server = bus.web().await;
        // The bus runs with another one, so that all else is well.
        let bus = bus.set("ROUTEMASTER_REDIS_URL", &url);
        let (code, findings) = doctor(&bus, server.base(), &[]).await;
        assert_eq!(code, Some(1));
        let said = find(&findings, "store", &format!("redis://127.0.0.1:{}", redis.port()));
        assert_eq!(said["result"], "problem");
        assert!(said["found"].as_str().unwrap().contains("refused"), "{said}");
        assert!(said["advice"].as_str().unwrap().contains("ROUTEMASTER_REDIS_URL"), "{said}");
        assert!(!format!("{findings:?}").contains("hunter2"), "{findings:#?}");
        assert_eq!(results(&findings)["bus"], "ok", "the rest is checked: {findings:#?}");
    });
}

#[test]
fn a_bus_whose_redis_has_died_is_told() {
    run(async {
        let mut store = Store::redis();
        let bus = Bus::new(&store);
        let server = bus.web().await;
        store.server().kill();
        let (code, findings) = doctor(&bus, server.base(), &[]).await;
        assert_eq!(code, Some(1));
        assert_eq!(find(&findings, "bus", "cannot write to its store")["result"], "problem");
        assert_eq!(results(&findings)["store"], "problem");
        assert_eq!(results(&findings)["certificate"], "ok");
    });
}

#[test]
fn a_redis_that_throws_data_away_is_told() {
    run(async {
        let store = Store::Redis(RedisServer::start_with(&[
            "--save",
            "",
            "--maxmemory-policy",
            "allkeys-lru",
        ]));
        let (code, findings) = doctor(&Bus::new(&store), NOBODY, &[]).await;
        assert_eq!(code, Some(1));
        assert_eq!(find(&findings, "store", "noeviction")["result"], "problem");
    });
}

#[test]
fn an_expired_certificate_of_the_bus_is_told_with_its_date() {
    run(async {
        let bus = Bus::new(&Store::sqlite());
        install(&identity("localhost", 2021), bus.directory());
        let bus = bus.set("ROUTEMASTER_TLS_CERT", "cert.pem").set("ROUTEMASTER_TLS_KEY", "key.pem");
        let server = bus.web().await;
        let (code, findings) = doctor(&bus, server.base(), &["--ca-file", "cert.pem"]).await;
        assert_eq!(code, Some(1));
        let shown = find(&findings, "certificate", &format!("{} shows", server.base()));
        assert!(shown["found"].as_str().unwrap().contains("expired on 2021-01-31"), "{shown}");
        let file = find(&findings, "certificate", "cert.pem expired on 2021-01-31");
        assert_eq!((&shown["result"], &file["result"]), (&json!("problem"), &json!("problem")));
        assert_eq!(find(&findings, "bus", "its certificate is not trusted")["result"], "skipped");
        assert_eq!(results(&findings)["store"], "ok");
    });
}

#[test]
fn a_certificate_that_is_not_trusted_or_for_another_name_is_told() {
    run(async {
        let bus = Bus::new(&Store::sqlite());
        let server = bus.web().await;
        let elsewhere = bus.directory().join("elsewhere");
        let more = ["--data-dir", elsewhere.to_str().unwrap()];
        let (code, findings) = doctor(&bus, server.base(), &more).await;
        assert_eq!(code, Some(1));
        let said = find(&findings, "certificate", "authority that is not trusted");
        assert!(said["advice"].as_str().unwrap().contains("--ca-file"), "{said}");

        let bus = Bus::new(&Store::sqlite());
        let other = identity("bus.example", 2099);
        install(&other, bus.directory());
        let bus = bus.set("ROUTEMASTER_TLS_CERT", "cert.pem").set("ROUTEMASTER_TLS_KEY", "key.pem");
        let server = bus.web().await;
        let (_, findings) = doctor(&bus, server.base(), &["--ca-file", "cert.pem"]).await;
        find(&findings, "certificate", "is for bus.example only");
        assert_eq!(find(&findings, "certificate", "goes with its key")["result"], "ok");
    });
}

#[test]
fn files_that_do_not_go_together_are_told_though_no_bus_runs() {
    run(async {
        let bus = Bus::new(&Store::sqlite());
        install(&identity("localhost", 2099), bus.directory());
        std::fs::write(bus.directory().join("key.pem"), identity("localhost", 2099).key).unwrap();
        let bus = bus.set("ROUTEMASTER_TLS_CERT", "cert.pem").set("ROUTEMASTER_TLS_KEY", "key.pem");
        let (code, findings) = doctor(&bus, NOBODY, &[]).await;
        assert_eq!(code, Some(1));
        find(&findings, "certificate", "do not go together");
        assert_eq!(find(&findings, "bus", "no bus answers")["result"], "problem");
    });
}

#[test]
fn every_ill_callback_is_told_with_what_is_wrong_with_it() {
    run(async {
        let bus = Bus::new(&Store::sqlite());
        let server = bus.web().await;
        server.client("demo").claims("widgets").await;
        let well = bus.receiver().await;
        let closed = bus.receiver().await.close().await;
        let expired = Receiver::start(&identity("localhost", 2021)).await;
        let foreign = Receiver::start(&identity("localhost", 2099)).await;
        let plain = without_tls().await;
        for (token, callback) in [
            ("demo", well.url()),
            ("alice", format!("https://localhost:{closed}/events")),
            ("bob", expired.url()),
            ("carol", foreign.url()),
            (crate::support::ORDERS, "https://nowhere.invalid/events".to_owned()),
            ("root--tls", format!("https://127.0.0.1:{plain}/")),
        ] {
            if token == "root--tls" {
                let made = json!({"name": "root", "token": token}).to_string();
                server.client(crate::support::ROOT).post("/api_tokens", made).await.expect(201);
            }
            subscribe(&server, token, &callback).await;
        }
        let (code, findings) = doctor(&bus, server.base(), &[]).await;
        assert_eq!(code, Some(1));
        for (about, said) in [
            ("alice", "connection refused"),
            ("bob", "its certificate expired on 2021-01-31"),
            ("carol", "authority that is not trusted"),
            ("orders", "nowhere.invalid is not found"),
            ("root", "does not speak TLS"),
        ] {
            let finding = find(&findings, "callbacks", said);
            assert_eq!((&finding["about"], &finding["result"]), (&json!(about), &json!("problem")));
        }
        find(&findings, "callbacks", "1 callback takes connections (of 6)");
        for receiver in [&well, &expired, &foreign] {
            assert!(receiver.attempts_so_far().is_empty());
        }
        // Nothing is checked where the worker checks nothing, and no rule is forgotten.
        let bus = bus
            .set("ROUTEMASTER_SSL_VERIFY", "no")
            .set("ROUTEMASTER_CALLBACK_DENY", "::1,127.0.0.0/8");
        let (_, findings) = doctor(&bus, server.base(), &[]).await;
        find(&findings, "callbacks", "ROUTEMASTER_CALLBACK_DENY");
        let bus = bus.unset("ROUTEMASTER_CALLBACK_DENY");
        let (_, findings) = doctor(&bus, server.base(), &[]).await;
        find(&findings, "callbacks", "3 callbacks take connections (of 6)");
    });
}

#[test]
fn a_callback_that_does_not_answer_is_given_up_in_time() {
    run(async {
        let bus = Bus::new(&Store::sqlite()).set("ROUTEMASTER_CONNECT_TIMEOUT", "0.5");
        let server = bus.web().await;
        server.client("demo").claims("widgets").await;
        // It takes connections, and never says a word.
        let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let port = silent.local_addr().unwrap().port();
        subscribe(&server, "demo", &format!("https://localhost:{port}/")).await;
        let (code, findings) = doctor(&bus, server.base(), &[]).await;
        assert_eq!(code, Some(1));
        find(&findings, "callbacks", "no TLS handshake within 0.5 s");
        assert!(raw::is_open(server.port()).await);
    });
}

#[test]
fn nothing_is_made_where_nothing_is() {
    run(async {
        let bus = Bus::new(&Store::sqlite());
        let (code, findings) = doctor(&bus, NOBODY, &[]).await;
        assert_eq!(code, Some(1), "no bus answers");
        find(&findings, "store", "there is no store yet");
        assert!(contents(bus.directory()).is_empty(), "{:?}", contents(bus.directory()).keys());
    });
}

#[test]
fn the_store_of_a_bus_that_has_ended_is_left_as_it_is() {
    run(async {
        for signal in [Signal::Term, Signal::Kill] {
            let bus = Bus::new(&Store::sqlite());
            let mut server = bus.web().await;
            server.client("demo").claims("widgets").await;
            server.signal(signal);
            server.exit().await;
            let held = || {
                let mut held = contents(bus.directory());
                // An index of the log, made anew by whoever comes first.
                held.retain(|name, _| !name.ends_with("-shm"));
                held
            };
            let before = held();
            let (_, findings) = doctor(&bus, NOBODY, &[]).await;
            assert_eq!(results(&findings)["store"], "ok", "{findings:#?}");
            assert!(held() == before, "{:?} became {:?}", before.keys(), held().keys());
        }
    });
}

#[test]
fn a_wrong_command_line_is_no_finding() {
    run(async {
        let bus = Bus::new(&Store::sqlite());
        for arguments in [
            &["--url", "http://a.example"][..],
            &["--url", NOBODY, "--token", "Not:A Token"],
            &["--what"],
        ] {
            let ended = bus.run(&[&["doctor"], arguments].concat()).await;
            assert_eq!(ended.code, Some(2), "{}", ended.stderr);
            assert!(ended.stdout.is_empty(), "{}", ended.stdout);
        }
    });
}

#[test]
fn a_damaged_store_is_told() {
    run(async {
        let bus = Bus::new(&Store::sqlite());
        std::fs::create_dir(bus.data_dir()).unwrap();
        std::fs::write(bus.data_dir().join("routemaster.db"), "no database at all, but long")
            .unwrap();
        let (code, findings) = doctor(&bus, NOBODY, &[]).await;
        assert_eq!(code, Some(1));
        assert_eq!(find(&findings, "store", "not a database")["result"], "problem");
    });
}
