//! `routemaster listen` and `routemaster publish`, used beside a bus that made its own
//! certificate: nobody switches a check off, and everything works.

use std::process::Stdio;

use serde_json::json;
use tokio::io::AsyncWriteExt;

use crate::support::{Bus, Process, ROOT, Signal, Store, eventually, run, soon};

/// Starts a listener and waits until it is subscribed.
async fn listen(bus: &Bus, server: &Process, options: &[&str]) -> Process {
    let mut arguments = vec!["listen", "widgets", "--url", server.base()];
    arguments.extend(options);
    let listener = Process::spawn(&mut bus.command(&arguments), &bus.ca_path());
    soon("the listener is subscribed", listener.stderr.line_with("; Ctrl-C ends")).await;
    listener
}

/// Runs a publish that is given `input`; returns its exit code and what it said.
async fn publish(bus: &Bus, arguments: &[&str], input: &str) -> (Option<i32>, String) {
    let mut command = bus.command(&[&["publish"], arguments].concat());
    let mut child = command.stdin(Stdio::piped()).spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    // It may refuse, and end, before it has read everything.
    let _ = stdin.write_all(input.as_bytes()).await;
    drop(stdin);
    let output = soon("the publish ends", child.wait_with_output()).await.unwrap();
    let said = [output.stdout, output.stderr].concat();
    (output.status.code(), String::from_utf8(said).unwrap())
}

fn lines(numbers: std::ops::RangeInclusive<u32>) -> String {
    let line = |number| {
        format!("{{\"type\":\"update\",\"url\":\"https://example.com/widgets/{number}\"}}\n")
    };
    numbers.map(line).collect()
}

#[test]
fn what_is_published_is_seen_by_a_listener_in_order() {
    run(async {
        let bus = Bus::new(&Store::sqlite());
        let server = bus.serve().await;
        let url = ["--url", server.base()];
        let first = ["widgets", "create", "https://example.com/widgets/0", url[0], url[1]];
        assert_eq!(publish(&bus, &first, "").await.0, Some(0));

        let mut listener = listen(&bus, &server, &["--json"]).await;
        let (code, said) = publish(&bus, &["widgets", "-", url[0], url[1]], &lines(1..=250)).await;
        assert_eq!(code, Some(0), "{said}");
        assert!(said.contains("published 250 events"), "{said}");
        soon("the last event is shown", listener.stdout.line_with("widgets/250\"")).await;
        listener.signal(Signal::Int);
        assert_eq!(listener.exit().await.0, Some(0));
        let shown = listener.stdout.whole().await;
        let shown: Vec<u32> = shown
            .lines()
            .map(|line| {
                let event: serde_json::Value = serde_json::from_str(line).unwrap();
                event["url"].as_str().unwrap().rsplit('/').next().unwrap().parse().unwrap()
            })
            .collect();
        assert_eq!(shown, (1..=250).collect::<Vec<_>>());
        assert_eq!(server.client("demo").get("/subscriptions").await.json(), serde_json::json!([]));
    });
}

#[test]
fn a_listener_that_fails_gets_the_same_batch_again() {
    run(async {
        let bus = Bus::new(&Store::sqlite());
        let server = bus.serve().await;
        server.client("demo").claims("widgets").await;
        let listener = listen(&bus, &server, &["--fail", "50", "--max", "1"]).await;
        server.client("demo").publishes("widgets", 1..=3).await;
        soon("a batch is sent again", listener.stdout.line_with("attempt 2")).await;
        let subscription = async || server.client("demo").queued("demo").await;
        eventually("everything arrives in the end", async || {
            (subscription().await == Some(0)).then_some(())
        })
        .await;
    });
}

#[test]
fn a_listener_waits_for_a_topic_and_says_how_to_make_it() {
    run(async {
        let bus = Bus::new(&Store::sqlite());
        let server = bus.serve().await;
        let mut command = bus.command(&["listen", "widgets", "--url", server.base()]);
        let listener = Process::spawn(&mut command, &bus.ca_path());
        soon("it says so", listener.stderr.line_with("does not exist yet")).await;
        let hint = soon("it says how", listener.stderr.line_with("publish widgets create")).await;
        assert!(hint.unwrap().contains(server.base()));
        server.client("demo").claims("widgets").await;
        soon("it subscribes then", listener.stderr.line_with("is subscribed to widgets")).await;
    });
}

#[test]
fn a_bad_line_is_named_and_nothing_from_it_on_is_published() {
    run(async {
        let bus = Bus::new(&Store::sqlite());
        let server = bus.serve().await;
        let input = format!("{}{{\"type\":\"huh\",\"url\":\"https://a.example\"}}\n", lines(1..=3));
        let to = ["widgets", "-", "--url", server.base()];
        let (code, said) = publish(&bus, &to, &format!("{input}{}", lines(5..=5))).await;
        assert_eq!(code, Some(1), "{said}");
        assert!(said.contains("line 4") && said.contains("`type` must be"), "{said}");
        assert_eq!(server.client("demo").topic("widgets").await["events"], 3);
    });
}

#[test]
fn a_wrong_command_line_is_told_apart_from_what_failed() {
    run(async {
        let bus = Bus::new(&Store::sqlite());
        for wrong in [
            &["publish", "Widgets", "create", "https://a.example/1"][..],
            &["publish", "widgets", "created", "https://a.example/1"],
            &["publish", "widgets", "create", "http://a.example/1"],
            &["publish", "widgets", "create", "https://a.example/1", "--data", "{"],
            &["publish", "widgets", "create"],
            &["publish", "widgets", "--data", "{}"],
            &["listen", "Widgets"],
            &["subscribe", "Widgets", "--pull"],
            &["unsubscribe", "Widgets"],
            &["call", "a.example/hook"],
            &["journal", "--kind", "batches"],
            &["replay", "--since", "yesterday"],
            &["topics", "--url", "nonsense"],
        ] {
            let ended = bus.run(wrong).await;
            assert_eq!(ended.code, Some(2), "{wrong:?}: {}{}", ended.stdout, ended.stderr);
            assert!(ended.stdout.is_empty() && ended.stderr.len() > 10, "{wrong:?}");
        }
    });
}

#[test]
fn what_goes_wrong_is_said_with_what_to_do_about_it() {
    run(async {
        let bus = Bus::new(&Store::sqlite());
        let server = bus.serve().await;
        server.client("alice").claims("orders").await;
        let elsewhere = tempfile::tempdir().unwrap();
        let elsewhere = elsewhere.path().to_str().unwrap();
        let event = ["widgets", "create", "https://a.example"];
        for (options, expected) in [
            (vec!["--url", "https://localhost:1"], "no bus answers"),
            (vec!["--url", server.base(), "--data-dir", elsewhere], "--data-dir"),
            (vec!["--url", server.base(), "--token", "nobody"], "--token"),
        ] {
            let (code, said) = publish(&bus, &[&event[..], &options].concat(), "").await;
            assert_eq!(code, Some(1), "{said}");
            assert!(said.contains(expected) && said.lines().count() == 1, "{said}");
        }
        let foreign = ["orders", "create", "https://a.example", "--url", server.base()];
        let (code, said) = publish(&bus, &foreign, "").await;
        assert_eq!(code, Some(1), "{said}");
        assert!(said.contains("belongs to another client"), "{said}");
    });
}

on_both_stores!(
    a_listener_that_pulls_needs_no_port_and_acknowledges_what_it_shows,
    |store| async move {
        let bus = Bus::new(&store).set("ROUTEMASTER_TOKEN", "demo");
        let mut server = bus.serve().await;
        server.client("alice").claims("widgets").await;
        let mut listener = listen(&bus, &server, &["--json", "--pull"]).await;
        server.client("alice").publishes("widgets", 1..=3).await;
        for number in 1..=3 {
            let line = soon("an event", listener.stdout.line_with(&format!("/{number}\""))).await;
            assert!(line.is_some(), "event {number} is shown");
        }
        let demo = server.client("demo");
        eventually("they are acknowledged", async || {
            let shown = demo.subscription("demo").await;
            (shown["events"]["queued"] == 0 && shown["events"]["sent"] == 3).then_some(())
        })
        .await;
        listener.signal(Signal::Int);
        let (code, _) = listener.exit().await;
        assert_eq!(code, Some(0));
        demo.get("/subscription").await.expect(404);
        server.signal(Signal::Term);
        server.exit().await;
    }
);

on_both_stores!(a_listener_with_a_name_of_its_own_is_another_client, |store| async move {
    let bus = Bus::new(&store).set("ROUTEMASTER_TOKEN", "demo");
    let server = bus.serve().await;
    server.client("alice").claims("widgets").await;
    let mut first = listen(&bus, &server, &["--json"]).await;
    let mut second = listen(&bus, &server, &["--json", "--as", "second"]).await;
    server.client("alice").publishes("widgets", [7]).await;
    for listener in [&mut first, &mut second] {
        soon("an event", listener.stdout.line_with("/7\"")).await.expect("both receive it");
    }
    second.signal(Signal::Int);
    assert_eq!(second.exit().await.0, Some(0));
    let root = server.client(ROOT);
    assert!(root.made_tokens().await.is_empty(), "its token went with it");
    assert_eq!(root.get("/subscriptions").await.json().as_array().unwrap().len(), 1);
});

on_both_stores!(a_subscription_whose_place_was_taken_is_given_back, |store| async move {
    let bus = Bus::new(&store).set("ROUTEMASTER_TOKEN", "demo");
    let server = bus.serve().await;
    let (demo, receiver) = (server.client("demo"), bus.receiver().await);
    demo.claims("widgets").await;
    demo.claims("gadgets").await;
    let secret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
    let mut terms =
        json!({"uuid": "u-1", "timeout": 0, "max": 7, "secret": secret, "format": "cloudevents"});
    demo.subscribes(&receiver, &["widgets", "gadgets"], terms.clone()).await;
    let before = demo.get("/subscription").await.expect(200).json();
    let refused = bus.run(&["listen", "widgets", "--url", server.base()]).await;
    assert!(refused.code == Some(1) && refused.stderr.contains("--replace"), "{}", refused.stderr);
    let mut listener = listen(&bus, &server, &["--json", "--replace"]).await;
    demo.publishes("widgets", [1]).await;
    soon("an event", listener.stdout.line_with("/1\"")).await.expect("it is shown");
    listener.signal(Signal::Int);
    assert_eq!(listener.exit().await.0, Some(0));
    let after = demo.get("/subscription").await.expect(200).json();
    for field in ["topics", "callback", "uuid", "timeout", "max_events", "secret", "format"] {
        assert_eq!(before[field], after[field], "{field}");
    }
    demo.publishes("gadgets", [2]).await;
    receiver.attempts(1).await;
    // Nor does it keep the secret of the one that took its place, or lose its order to one that pulls.
    (terms["order"], terms["parallel"], terms["secret"]) = (json!("entity"), json!(3), json!(""));
    demo.subscribes(&receiver, &["widgets", "gadgets"], terms).await;
    let before = demo.get("/subscription").await.expect(200).json();
    let file = bus.directory().join("secret.txt");
    std::fs::write(&file, secret).unwrap();
    let options = ["--replace", "--pull", "--secret-file", file.to_str().unwrap()];
    let mut listener = listen(&bus, &server, &options).await;
    let own = demo.get("/subscription").await.expect(200).json();
    assert_eq!((&own["pull"], &own["secret"]), (&json!(true), &json!([secret])));
    listener.signal(Signal::Int);
    assert_eq!(listener.exit().await.0, Some(0));
    let after = demo.get("/subscription").await.expect(200).json();
    for field in
        ["topics", "callback", "uuid", "max_events", "secret", "format", "order", "parallel"]
    {
        assert_eq!(before[field], after[field], "{field}");
    }
});
