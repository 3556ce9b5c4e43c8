//! Running it (§0): roles, settings and where they come from, the store, the certificate.

use routemaster::tls::development::{DevelopmentCa, ca_path};
use serde_json::json;

use crate::support::{Answer, Bus, Client, Process, Signal, Store, eventually, raw, run, soon};

on_both_stores!(no_subcommand_means_web_and_worker_in_one_process, |store| async move {
    let bus = Bus::new(&store);
    let server = bus.start(&[]).await;
    let (demo, receiver) = (server.client("demo"), bus.receiver().await);
    demo.claims("widgets").await;
    demo.subscribes(&receiver, &["widgets"], json!({"timeout": 0})).await;
    demo.publishes("widgets", 1..=1).await;
    assert_eq!(receiver.numbers(1).await, [1]);
});

on_both_stores!(web_accepts_without_a_worker_and_a_worker_delivers_it_later, |store| async move {
    let bus = Bus::new(&store);
    let web = bus.web().await;
    let (demo, receiver) = (web.client("demo"), bus.receiver().await);
    demo.claims("widgets").await;
    demo.subscribes(&receiver, &["widgets"], json!({"timeout": 0})).await;
    demo.publishes("widgets", 1..=3).await;
    assert_eq!(demo.queued("demo").await, Some(3));
    assert!(receiver.attempts_so_far().is_empty());
    let _worker = bus.worker().await;
    assert_eq!(receiver.numbers(3).await, [1, 2, 3]);
});

on_both_stores!(everything_is_still_there_after_a_restart, |store| async move {
    let bus = Bus::new(&store);
    let mut web = bus.web().await;
    let (demo, receiver) = (web.client("demo"), bus.receiver().await);
    demo.claims("widgets").await;
    demo.subscribes(&receiver, &["widgets"], json!({"timeout": 0, "uuid": "u-1"})).await;
    demo.publishes("widgets", 1..=2).await;
    let (topic, subscription) = (demo.topic("widgets").await, demo.subscription("demo").await);
    web.kill().await;
    let web = bus.web().await;
    let demo = web.client("demo");
    assert_eq!(demo.topic("widgets").await, topic);
    assert_eq!(demo.subscription("demo").await, subscription);
    let _worker = bus.worker().await;
    assert_eq!(receiver.numbers(2).await, [1, 2]);
});

#[test]
fn without_a_redis_url_everything_is_under_the_data_directory() {
    run(async {
        let bus = Bus::new(&Store::sqlite());
        let server = bus.serve().await;
        server.client("demo").claims("widgets").await;
        let entries = std::fs::read_dir(bus.data_dir()).unwrap();
        let names: Vec<_> = entries.map(|entry| entry.unwrap().file_name()).collect();
        assert!(names.iter().any(|name| name.to_string_lossy().contains(".db")), "{names:?}");
        let strays = std::fs::read_dir(bus.directory()).unwrap();
        assert_eq!(strays.count(), 1, "something is beside the data directory");
    });
}

#[test]
fn the_default_client_is_demo_and_nobody_is_root() {
    run(async {
        let bus = Bus::new(&Store::sqlite());
        let bus = bus.unset("ROUTEMASTER_CLIENTS").unset("ROUTEMASTER_ROOT_KEY");
        let server = bus.serve().await;
        server.client("demo").claims("widgets").await;
        server.client("alice").get("/topics").await.expect(401);
        for token in ["demo", "root-key", "root", ""] {
            let status = server.client(token).get("/api_tokens").await.status;
            assert!([401, 403].contains(&status), "`{token}` got {status}");
        }
    });
}

/// The file that the original ships, but for its Redis.
const ENV_OF_THE_ORIGINAL: &str = r#"PORT=0
RACK_ENV=development
PUMA_WORKERS=1
PUMA_THREADS=5
PUMA_TIMEOUT=25
HOPPER_SERVICE_NAME="null"
REDIS_ENV_KEY="ROUTEMASTER_REDIS_URL"
MAX_BACKOFF_MS=60000
METRIC_COLLECTION_SERVICE=print
ROUTEMASTER_ROOT_KEY=CHANGE-ME
ROUTEMASTER_REDIS_URL=HOSTED_REDIS_URL
ROUTEMASTER_REDIS_MAX_MEM=100000000
ROUTEMASTER_REDIS_MIN_FREE=10000000
ROUTEMASTER_LOG_LEVEL=DEBUG
ROUTEMASTER_LOG_FILE=
ROUTEMASTER_APP_NAME=routemaster-dev
ROUTEMASTER_SSL_VERIFY=YES
ROUTEMASTER_ACQUIRE_TIMEOUT=5
ROUTEMASTER_HP_HEAL_RATE=1
ROUTEMASTER_HP_DAMAGE_RATE=-2
ROUTEMASTER_WORKER_THREADS=5
ROUTEMASTER_CONNECT_TIMEOUT=2
ROUTEMASTER_TIMEOUT=20
ROUTEMASTER_COUNTER_FLUSH_INTERVAL=5
ROUTEMASTER_MONITOR_INTERVAL=10
ROUTEMASTER_SCALING_THRESHOLD=100
ROUTEMASTER_SCALING_DEADLINE=1000
ROUTEMASTER_MAX_EVENT_DATA=64
"#;

#[test]
fn the_originals_own_env_file_starts_the_bus() {
    run(async {
        let store = Store::redis();
        let bus = Bus::new(&store)
            .unset("ROUTEMASTER_REDIS_URL")
            .unset("ROUTEMASTER_ROOT_KEY")
            .unset("PORT")
            .set("HOSTED_REDIS_URL", &store.url().unwrap());
        std::fs::write(bus.directory().join(".env"), ENV_OF_THE_ORIGINAL).unwrap();
        let server = bus.serve().await;
        assert!(server.stdout.line_with("Redis, redis://").await.is_some());
        server.client("CHANGE-ME").get("/api_tokens").await.expect(200);
        server.client("demo").claims("widgets").await;
        let other = server.stderr.line_with("ROUTEMASTER_APP_NAME is not a setting").await;
        assert!(other.unwrap().contains("WARN"));
    });
}

/// As the call proxy has them, in Compose's notation.
const ENV_OF_THE_CALL_PROXY: &str = r#"version: '2'

services:
  env:
    environment:
      QUEUE_HOST: "queue"
      QUEUE_PORT: "5672"
      QUEUE_NAME: "services"
      QUEUE_NUMBER_OF_CONSUMERS: 3
      REQUEUE_FAILED_AFTER_MILLISECONDS: 50
      FILE_LOG_ENABLED: 1
      FAST_PUBLISH: 0
      AUTHORIZATION_HEADER: X-Authorization
      AUTHORIZATION_KEY: ""
      TLS: 1
      REDIRECT_TO_TLS: 0
      RABBITMQ_DEFAULT_USER: "usernameforrabbitmq"
      RABBITMQ_DEFAULT_PASS: "passwordforrabbitmq"
      RABBITMQ_DEFAULT_VHOST: "/"
      RABBITMQ_HIPE_COMPILE: 1
"#;

#[test]
fn the_call_proxys_own_env_file_starts_the_bus() {
    run(async {
        let bus = Bus::new(&Store::sqlite());
        std::fs::write(bus.directory().join(".env"), ENV_OF_THE_CALL_PROXY).unwrap();
        let missing = bus.run(&["serve"]).await;
        assert_eq!(missing.code, Some(2));
        assert!(missing.stderr.contains("ssl/server.crt"), "{}", missing.stderr);

        let ssl = bus.directory().join("ssl");
        std::fs::create_dir(&ssl).unwrap();
        let identity = bus.identity();
        std::fs::write(ssl.join("server.crt"), identity.certificate).unwrap();
        std::fs::write(ssl.join("server.key"), identity.key).unwrap();
        let bus = bus.trusting_receivers();
        let server = bus.serve().await;
        let receiver = bus.receiver().await;
        receiver.answer_next([Answer::Status(500)]);
        let nobody = Client::new(server.base(), &bus.ca_path());
        nobody.post("/", json!({"url": receiver.url()}).to_string()).await.expect(202);
        receiver.attempts(2).await;
        let log = std::fs::read_to_string(bus.directory().join("routemaster.log")).unwrap();
        for told in
            ["QUEUE_HOST, QUEUE_NAME, QUEUE_NUMBER_OF_CONSUMERS", "calls need no authorisation"]
        {
            assert!(log.contains(told), "{told}: {log}");
        }
        assert!(!log.contains("development certificate"), "{log}");
    });
}

#[test]
fn the_log_goes_to_a_file_that_a_hangup_opens_anew() {
    run(async {
        let bus = Bus::new(&Store::sqlite()).set("ROUTEMASTER_LOG_FILE", "bus.log");
        let (log, rotated) = (bus.directory().join("bus.log"), bus.directory().join("bus.log.1"));
        std::fs::write(&log, "what was there\n").unwrap();
        let mut server = bus.serve().await;
        let read = |path: &std::path::Path| std::fs::read_to_string(path).unwrap_or_default();
        let told = async || read(&log).contains("development certificate").then_some(());
        eventually("the start is logged", told).await;
        assert!(read(&log).starts_with("what was there\n{\"timestamp\""), "{}", read(&log));
        std::fs::rename(&log, &rotated).unwrap();
        server.signal(Signal::Hup);
        eventually("the file is made anew", async || log.exists().then_some(())).await;
        server.signal(Signal::Term);
        assert_eq!(server.exit().await.0, Some(0));
        assert!(read(&log).contains("stopping"), "{}", read(&log));
        assert!(!read(&rotated).contains("stopping"));
        assert_eq!(server.stderr.whole().await, "");
    });
}

#[test]
fn a_log_that_cannot_be_written_is_no_trouble_to_anybody() {
    run(async {
        let bus = Bus::new(&Store::sqlite()).set("ROUTEMASTER_LOG_FILE", "/dev/full");
        let mut server = bus.serve().await;
        server.client("demo").claims("widgets").await;
        server.signal(Signal::Term);
        assert_eq!(server.exit().await.0, Some(0));
    });
}

#[test]
fn the_default_client_on_another_address_than_loopback_is_a_warning() {
    run(async {
        let bus = Bus::new(&Store::sqlite());
        let bus = bus.set("ROUTEMASTER_BIND", "0.0.0.0").set("ROUTEMASTER_CLIENTS", "demo");
        let server = bus.serve().await;
        let warning = soon("a warning about `demo`", server.stderr.line_with("demo")).await;
        assert!(warning.unwrap().to_lowercase().contains("warn"));
        let harmless = Bus::new(&Store::sqlite()).set("ROUTEMASTER_CLIENTS", "demo");
        let mut server = harmless.serve().await;
        server.kill().await;
        let stderr = server.stderr.whole().await;
        assert!(!stderr.contains("`demo`"), "{stderr}");
    });
}

#[test]
fn the_development_certificate_is_made_once_with_a_warning() {
    run(async {
        let bus = Bus::new(&Store::sqlite());
        let mut server = bus.serve().await;
        let warning = soon("a warning", server.stderr.line_with("development certificate")).await;
        assert!(warning.unwrap().to_lowercase().contains("warn"));
        let made = std::fs::read(bus.ca_path()).unwrap();
        server.kill().await;
        let server = bus.serve().await;
        assert_eq!(std::fs::read(bus.ca_path()).unwrap(), made);
        server.client("demo").get("/topics").await.expect(200);
    });
}

#[test]
fn a_certificate_that_is_set_is_shown() {
    run(async {
        let elsewhere = tempfile::tempdir().unwrap();
        let ca = DevelopmentCa::open_or_create(elsewhere.path()).unwrap();
        let identity = ca.issue().unwrap();
        let (cert, key) = (elsewhere.path().join("c.pem"), elsewhere.path().join("k.pem"));
        std::fs::write(&cert, identity.certificate).unwrap();
        std::fs::write(&key, identity.key).unwrap();
        let bus = Bus::new(&Store::sqlite())
            .set("ROUTEMASTER_TLS_CERT", cert.to_str().unwrap())
            .set("ROUTEMASTER_TLS_KEY", key.to_str().unwrap());
        let server = bus.serve().await;
        let client = Client::new(server.base(), &ca_path(elsewhere.path()));
        client.with_token("demo").get("/topics").await.expect(200);
        // Nobody else's authority vouches for it.
        let other = tempfile::tempdir().unwrap();
        DevelopmentCa::open_or_create(other.path()).unwrap();
        let refused = raw::try_connect_tls(server.port(), &ca_path(other.path())).await;
        assert!(refused.is_err());
    });
}

#[test]
fn settings_come_from_flags_then_environment_then_a_dotenv_file() {
    run(async {
        let bus = Bus::new(&Store::sqlite()).unset("ROUTEMASTER_CLIENTS");
        std::fs::write(bus.directory().join(".env"), "ROUTEMASTER_CLIENTS=from-file\n").unwrap();
        let server = bus.serve().await;
        server.client("from-file").get("/topics").await.expect(200);
        server.client("demo").get("/topics").await.expect(401);
        drop(server);

        let bus = bus.set("ROUTEMASTER_CLIENTS", "from-environment");
        let server = bus.serve().await;
        server.client("from-environment").get("/topics").await.expect(200);
        server.client("from-file").get("/topics").await.expect(401);
        drop(server);

        let server = bus.start(&["serve", "--clients", "from-flag"]).await;
        server.client("from-flag").get("/topics").await.expect(200);
        server.client("from-environment").get("/topics").await.expect(401);
    });
}

#[test]
fn a_dotenv_file_is_taken_as_it_stands_whatever_else_is_in_it() {
    run(async {
        let bus = Bus::new(&Store::sqlite());
        let bus = bus.unset("ROUTEMASTER_CLIENTS").unset("ROUTEMASTER_ROOT_KEY");
        let example = include_str!("../../.env.example").replace("PORT=17890", "");
        // As somebody goes on from the example: what is appended counts.
        let appended = "\nROUTEMASTER_ROOT_KEY=pa$$w0rd$HOME\n\
                        ROUTEMASTER_DATA_DIR=./data\nROUTEMASTER_CLIENTS=from-file\n\
                        {{ somebody else's: line }}\nNODE_OPTIONS=\"--max\n";
        std::fs::write(bus.directory().join(".env"), example + appended).unwrap();
        let server = bus.serve().await;
        server.client("pa$$w0rd$HOME").get("/api_tokens").await.expect(200);
        server.client("from-file").get("/topics").await.expect(200);
    });
}

#[test]
fn a_line_of_a_dotenv_file_that_is_wrong_is_told_without_its_secret() {
    run(async {
        let bus = Bus::new(&Store::sqlite());
        let dotenv = bus.directory().join(".env");
        std::fs::write(dotenv, "A=b\nROUTEMASTER_ROOT_KEY hunter2\n").unwrap();
        for arguments in [&["serve"][..], &["topics"], &["doctor"]] {
            let ended = bus.run(arguments).await;
            let told = ended.stdout + &ended.stderr;
            assert!(told.contains("line 2 of .env names ROUTEMASTER_ROOT_KEY"), "{told}");
            assert!(!told.contains("hunter2"), "{told}");
        }
    });
}

#[test]
fn a_secret_may_come_from_a_file() {
    run(async {
        let bus = Bus::new(&Store::sqlite()).unset("ROUTEMASTER_ROOT_KEY");
        let key = bus.directory().join("root key");
        std::fs::write(&key, "s3cr3t-root\n").unwrap();
        let bus = bus.set("ROUTEMASTER_ROOT_KEY_FILE", key.to_str().unwrap());
        let server = bus.serve().await;
        server.client("s3cr3t-root").get("/api_tokens").await.expect(200);
        drop(server);

        let both = bus.set("ROUTEMASTER_ROOT_KEY", "other");
        let ended = both.run(&["serve"]).await;
        assert_eq!(ended.code, Some(2), "{}", ended.stderr);
        assert!(ended.stderr.contains("both set"), "{}", ended.stderr);
        let missing =
            both.unset("ROUTEMASTER_ROOT_KEY").set("ROUTEMASTER_ROOT_KEY_FILE", "no/file");
        let ended = missing.run(&["serve"]).await;
        assert_eq!(ended.code, Some(2), "{}", ended.stderr);
        assert!(ended.stderr.contains("there is no such file"), "{}", ended.stderr);
    });
}

#[test]
fn an_unknown_setting_is_a_warning_that_names_it() {
    run(async {
        let bus = Bus::new(&Store::sqlite()).set("ROUTEMASTER_CLINETS", "demo");
        let server = bus.serve().await;
        let line = soon("a warning", server.stderr.line_with("ROUTEMASTER_CLINETS")).await;
        assert!(line.unwrap().to_lowercase().contains("warn"));
        server.client("demo").get("/topics").await.expect(200);
    });
}

#[test]
fn a_bad_value_ends_with_code_2_and_says_what_is_allowed() {
    run(async {
        for (name, value, allowed) in [
            ("PORT", "65536", "0 to 65535"),
            ("ROUTEMASTER_BIND", "localhost", "IP address"),
            ("ROUTEMASTER_REDIS_URL", "http://a.example", "redis://"),
            ("ROUTEMASTER_CLIENTS", "Not A Token", "a-z"),
            ("ROUTEMASTER_TIMEOUT", "-1", "seconds"),
            ("ROUTEMASTER_SSL_VERIFY", "perhaps", "yes or no"),
            ("ROUTEMASTER_TOPIC_NAME_MAX", "65", "1 to 64"),
            ("ROUTEMASTER_MAX_BACKOFF_MS", "1.5", "milliseconds"),
        ] {
            let ended = Bus::new(&Store::sqlite()).set(name, value).run(&["serve"]).await;
            assert_eq!(ended.code, Some(2), "{name}={value}: {}", ended.stderr);
            assert!(ended.stderr.contains(name), "{}", ended.stderr);
            assert!(ended.stderr.contains(allowed), "{}", ended.stderr);
            // Only tokens are not repeated.
            let secret = name == "ROUTEMASTER_CLIENTS";
            assert_eq!(ended.stderr.contains(value), !secret, "{}", ended.stderr);
            assert!(ended.stdout.is_empty(), "{}", ended.stdout);
        }
    });
}

#[test]
fn a_password_in_a_bad_url_is_not_repeated() {
    run(async {
        let bus = Bus::new(&Store::sqlite());
        let bus = bus.set("ROUTEMASTER_REDIS_URL", "http://user:hunter2@a.example");
        let ended = bus.run(&["serve"]).await;
        assert_eq!(ended.code, Some(2), "{}", ended.stderr);
        assert!(ended.stderr.contains("ROUTEMASTER_REDIS_URL"), "{}", ended.stderr);
        assert!(!ended.stderr.contains("hunter2"), "{}", ended.stderr);
    });
}

#[test]
fn every_role_refuses_bad_settings_and_contradictions() {
    run(async {
        for arguments in [&[][..], &["serve"], &["web"], &["worker"]] {
            let bus = Bus::new(&Store::sqlite()).set("ROUTEMASTER_TIMEOUT", "soon");
            let ended = bus.run(arguments).await;
            assert_eq!(ended.code, Some(2), "{arguments:?}: {}", ended.stderr);
        }
        let file = concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml");
        let half = Bus::new(&Store::sqlite()).set("ROUTEMASTER_TLS_CERT", file);
        let ended = half.run(&["serve"]).await;
        assert_eq!(ended.code, Some(2), "{}", ended.stderr);
        assert!(ended.stderr.contains("ROUTEMASTER_TLS_KEY"), "{}", ended.stderr);
        let ended = Bus::new(&Store::sqlite()).run(&["serve", "--timeout", "soon"]).await;
        assert_eq!(ended.code, Some(2), "{}", ended.stderr);
    });
}

#[test]
fn a_flag_before_the_role_means_the_same_as_behind_it() {
    run(async {
        let bus = Bus::new(&Store::sqlite());
        let server = bus.start(&["--clients", "before,both", "web", "--root-key", "boss"]).await;
        server.client("before").get("/topics").await.expect(200);
        server.client("boss").get("/api_tokens").await.expect(200);
        server.client("demo").get("/topics").await.expect(401);
    });
}

#[test]
fn a_redis_that_throws_data_away_when_it_is_full_is_refused() {
    run(async {
        let mut store = Store::redis();
        store.server().command(&["CONFIG", "SET", "maxmemory-policy", "allkeys-lru"]).unwrap();
        let ended = Bus::new(&store).run(&["serve"]).await;
        assert_eq!(ended.code, Some(1), "{}", ended.stderr);
        assert!(ended.stderr.contains("noeviction"), "{}", ended.stderr);
    });
}

#[test]
fn a_port_that_is_taken_is_an_error_and_no_hang() {
    run(async {
        let bus = Bus::new(&Store::sqlite());
        let server = bus.serve().await;
        let port = server.port().to_string();
        let second = Bus::new(&Store::sqlite()).set("PORT", &port);
        let ended = second.run(&["serve"]).await;
        assert!(ended.code.is_some_and(|code| code != 0), "{:?}", ended.code);
        assert!(ended.stderr.contains(&port), "{}", ended.stderr);
    });
}

on_both_stores!(several_processes_of_each_role_share_one_store, |store| async move {
    let bus = Bus::new(&store);
    let (first, second) = (bus.web().await, bus.web().await);
    let mut workers: Vec<Process> = vec![bus.worker().await, bus.worker().await];
    let receiver = bus.receiver().await;
    let (one, other) = (first.client("demo"), second.client("demo"));
    one.claims("widgets").await;
    other.subscribes(&receiver, &["widgets"], json!({"timeout": 0})).await;
    for number in 1..=20 {
        let client = if number % 2 == 0 { &one } else { &other };
        client.publishes("widgets", [number]).await;
    }
    assert_eq!(receiver.numbers(20).await, (1..=20).collect::<Vec<_>>());
    assert_eq!(one.topic("widgets").await["events"], 21);
    assert!(workers.iter_mut().all(Process::is_running));
});

#[test]
fn a_redis_url_that_means_less_than_it_says_is_refused() {
    run(async {
        let bus = Bus::new(&Store::sqlite())
            .set("ROUTEMASTER_REDIS_URL", "redis://:s3cret@localhost/?db=2");
        let ended = bus.run(&["serve"]).await;
        assert_eq!(ended.code, Some(2), "{}", ended.stderr);
        assert!(ended.stderr.contains("redis://host/2"), "{}", ended.stderr);
        assert!(!ended.stderr.contains("s3cret"), "{}", ended.stderr);
    });
}
