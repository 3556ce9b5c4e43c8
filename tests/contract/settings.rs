//! Running it (§0): roles, settings and where they come from, the store, the certificate.

use routemaster::tls::development::{DevelopmentCa, ca_path};
use serde_json::json;

use crate::support::{Bus, Client, Process, Store, raw, run, soon};

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
        server.client("boss").get("/api_tokens").await.expect(204);
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
