//! Where the bus may be made to deliver to (`docs/callback-safety.md`): what is denied when
//! somebody subscribes, what when a connection is made, and what a receiver cannot do to it.

use std::io::ErrorKind;
use std::net::TcpListener;
use std::time::Duration;

use serde_json::json;

use crate::support::{Answer, Bus, Client, Process, Signal, Store, run, soon};

/// Subscribes to `widgets` with this host in the callback; returns the reason of a refusal.
async fn refusal(client: &Client, host: &str) -> Option<String> {
    let body = json!({"topics": ["widgets"], "callback": format!("https://{host}/events")});
    let reply = client.post("/subscription", body.to_string()).await;
    (reply.status != 204).then(|| reply.expect_reason(400))
}

/// A place for deliveries that nobody may connect to.
struct Forbidden {
    listener: TcpListener,
    port: u16,
}

impl Forbidden {
    fn new() -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
        listener.set_nonblocking(true).unwrap();
        let port = listener.local_addr().unwrap().port();
        Self { listener, port }
    }

    /// Connections wait here until they are accepted, also those that ended meanwhile.
    #[track_caller]
    fn was_left_alone(&self) {
        let kind = self.listener.accept().map_err(|error| error.kind());
        assert_eq!(kind.err(), Some(ErrorKind::WouldBlock), "there was a connection");
    }
}

/// Waits for a failed delivery; returns its line in the log.
async fn failure(server: &Process, part: &str) -> String {
    let line = soon("a failure is logged", server.stderr.line_with(part)).await.unwrap();
    assert!(line.contains("failed to deliver"), "{line}");
    line
}

/// A bus that tries again every few tenths of a second, however often it failed.
fn retrying(bus: Bus) -> Bus {
    bus.set("ROUTEMASTER_HP_DAMAGE_RATE", "100").set("ROUTEMASTER_MAX_BACKOFF_MS", "200")
}

async fn ends(mut server: Process) {
    server.signal(Signal::Term);
    assert_eq!(server.exit().await.0, Some(0));
}

on_both_stores!(cloud_metadata_is_refused_in_every_spelling_with_the_rule, |store| async move {
    let bus = Bus::new(&store);
    let web = bus.web().await;
    let (demo, alice) = (web.client("demo"), web.client("alice"));
    demo.claims("widgets").await;
    assert_eq!(refusal(&demo, "a.example").await, None);
    let before = demo.subscription("demo").await;
    for host in [
        "169.254.169.254",
        "169.254.169.254.",
        "2852039166",
        "0xa9fea9fe",
        "0251.0376.0251.0376",
        "[::ffff:169.254.169.254]",
        "[::a9fe:a9fe]",
        "[64:ff9b::a9fe:a9fe]",
        "[64:ff9b:1::a9fe:a9fe]",
        "[2002:a9fe:a9fe::1]",
        "[2001:0:808:808:0:0:5601:5601]",
        "[2001:db8::5efe:a9fe:a9fe]",
    ] {
        for client in [&demo, &alice] {
            let reason = refusal(client, host).await.unwrap_or_else(|| panic!("{host} was taken"));
            assert!(reason.starts_with("`callback`: 169.254.169.254"), "{host}: {reason}");
            assert!(reason.contains("the rule 169.254.0.0/16"), "{host}: {reason}");
            assert!(reason.contains("ROUTEMASTER_CALLBACK_ALLOW"), "{host}: {reason}");
        }
    }
    for host in ["[fd00:ec2::254]", "100.100.100.200", "metadata.google.internal.", "0.0.0.0"] {
        assert!(refusal(&demo, host).await.is_some(), "{host} was taken");
    }
    assert_eq!(demo.subscription("demo").await, before);
    assert!(alice.subscription("alice").await.is_null());
});

on_both_stores!(private_networks_and_loopback_are_allowed, |store| async move {
    let bus = Bus::new(&store);
    let web = bus.web().await;
    let demo = web.client("demo");
    demo.claims("widgets").await;
    for host in ["127.0.0.1:8443", "[::1]", "localhost", "10.1.2.3", "192.168.0.1", "[fd12::1]"] {
        assert_eq!(refusal(&demo, host).await, None, "{host}");
        let callback = demo.subscription("demo").await["callback"].clone();
        assert_eq!(callback, format!("https://{host}/events"));
    }
});

on_both_stores!(the_settings_deny_and_allow_and_allowing_wins, |store| async move {
    let bus = Bus::new(&store)
        .set("ROUTEMASTER_CALLBACK_DENY", "10.0.0.0/8, ::1,*.internal")
        .set("ROUTEMASTER_CALLBACK_ALLOW", "10.7.0.0/16,events.internal,169.254.7.7");
    let web = bus.web().await;
    let demo = web.client("demo");
    demo.claims("widgets").await;
    for (host, rule) in [
        ("10.1.2.3", "10.0.0.0/8"),
        ("[::ffff:10.1.2.3]", "10.0.0.0/8"),
        ("[::1]", "::1"),
        ("a.INTERNAL", "*.internal"),
    ] {
        let reason = refusal(&demo, host).await.unwrap_or_else(|| panic!("{host} was taken"));
        let named = format!("denied by {rule} in ROUTEMASTER_CALLBACK_DENY");
        assert!(reason.contains(&named), "{host}: {reason}");
    }
    assert!(refusal(&demo, "169.254.7.8").await.is_some());
    assert!(demo.subscription("demo").await.is_null());
    for host in ["10.7.0.1", "[::ffff:10.7.0.1]", "events.internal", "169.254.7.7", "127.0.0.1"] {
        assert_eq!(refusal(&demo, host).await, None, "{host}");
    }
});

on_both_stores!(a_name_is_refused_when_it_leads_to_a_denied_address, |store| async move {
    let forbidden = Forbidden::new();
    let port = forbidden.port;
    let bus = retrying(Bus::new(&store)).set("ROUTEMASTER_CALLBACK_DENY", "127.0.0.0/8,::1");
    let server = bus.serve().await;
    let demo = server.client("demo");
    demo.claims("widgets").await;
    let callback = format!("https://localhost:{port}/events");
    let body = json!({"topics": ["widgets"], "callback": callback, "timeout": 0}).to_string();
    demo.post("/subscription", body).await.expect(204);
    demo.publishes("widgets", [1]).await;
    let line = failure(&server, "\"attempt\":2,").await;
    assert!(line.contains("no address of localhost is allowed"), "{line}");
    assert!(line.contains("in ROUTEMASTER_CALLBACK_DENY"), "{line}");
    forbidden.was_left_alone();
    assert_eq!(demo.queued("demo").await, Some(1));
    ends(server).await;
    forbidden.was_left_alone();

    // The batch is still there for the day on which the address is allowed; the name is not what
    // matters.
    drop(forbidden);
    let receiver = bus.receiver_on(port).await;
    let bus = bus.set("ROUTEMASTER_CALLBACK_ALLOW", "localhost");
    let server = bus.serve().await;
    failure(&server, "no address of localhost is allowed").await;
    ends(server).await;
    assert!(receiver.attempts_so_far().is_empty());
    let bus = bus.set("ROUTEMASTER_CALLBACK_ALLOW", "127.0.0.1");
    let _server = bus.serve().await;
    assert_eq!(receiver.numbers(1).await, [1]);
});

on_both_stores!(a_subscription_older_than_the_rule_is_refused_as_well, |store| async move {
    let forbidden = Forbidden::new();
    let port = forbidden.port;
    let bus = retrying(Bus::new(&store));
    let web = bus.web().await;
    let (demo, alice) = (web.client("demo"), web.client("alice"));
    demo.claims("widgets").await;
    for (client, host) in [(&demo, "127.0.0.1"), (&alice, "localhost")] {
        let callback = format!("https://{host}:{port}/events");
        let body = json!({"topics": ["widgets"], "callback": callback, "timeout": 0});
        client.post("/subscription", body.to_string()).await.expect(204);
    }
    demo.publishes("widgets", [1]).await;

    let bus = bus.set("ROUTEMASTER_CALLBACK_DENY", "127.0.0.0/8,localhost");
    let worker = bus.worker().await;
    for denied in ["127.0.0.1 is denied by 127.0.0.0/8", "localhost is denied by localhost"] {
        failure(&worker, &format!("{denied} in ROUTEMASTER_CALLBACK_DENY")).await;
    }
    forbidden.was_left_alone();
    assert_eq!(demo.queued("demo").await, Some(1));
    ends(worker).await;
    forbidden.was_left_alone();

    drop(forbidden);
    let receiver = bus.receiver_on(port).await;
    let bus = bus.unset("ROUTEMASTER_CALLBACK_DENY");
    let _worker = bus.worker().await;
    assert_eq!(receiver.numbers(2).await, [1, 1]);
});

#[test]
fn a_bad_rule_ends_with_code_2_and_says_what_is_allowed() {
    run(async {
        for name in ["ROUTEMASTER_CALLBACK_DENY", "ROUTEMASTER_CALLBACK_ALLOW"] {
            for bad in ["10.0.0.0/33", "10.1.2.3/8", "127.1", "::ffff:127.0.0.1", "a.example:443"] {
                let value = format!("192.168.0.0/16,{bad}");
                let ended = Bus::new(&Store::sqlite()).set(name, &value).run(&["serve"]).await;
                assert_eq!(ended.code, Some(2), "{name}={value}: {}", ended.stderr);
                let named = format!("{name}={value} is not allowed");
                assert!(ended.stderr.contains(&named), "{}", ended.stderr);
                assert!(ended.stderr.contains("networks such as 10.0.0.0/8"), "{}", ended.stderr);
            }
        }
    });
}

on_both_stores!(a_proxy_in_the_environment_is_not_used, |store| async move {
    let proxy = Forbidden::new();
    let mut bus = Bus::new(&store);
    for name in ["HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy", "HTTP_PROXY"] {
        bus = bus.set(name, &format!("http://127.0.0.1:{}", proxy.port));
    }
    let server = bus.serve().await;
    let (demo, receiver) = (server.client("demo"), bus.receiver().await);
    demo.claims("widgets").await;
    demo.subscribes(&receiver, &["widgets"], json!({"timeout": 0})).await;
    demo.publishes("widgets", [1]).await;
    assert_eq!(receiver.numbers(1).await, [1]);
    proxy.was_left_alone();
});

on_both_stores!(an_answer_without_an_end_acknowledges_and_holds_up_nothing, |store| async move {
    let bus = Bus::new(&store);
    let server = bus.serve().await;
    let (demo, receiver) = (server.client("demo"), bus.receiver().await);
    demo.claims("widgets").await;
    demo.subscribes(&receiver, &["widgets"], json!({"timeout": 0, "max": 1})).await;
    // One that is soon too long, and one that would take too long.
    receiver.answer_next([Duration::ZERO, Duration::from_secs(3600)].map(Answer::Endless));
    demo.publishes("widgets", 1..=3).await;
    assert_eq!(receiver.numbers(3).await, [1, 2, 3]);
    let attempts = receiver.attempts_so_far();
    let took = attempts[2].at - attempts[0].at;
    assert!(took < Duration::from_secs(5), "the next batches left after {took:?} only");
});
