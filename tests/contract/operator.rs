//! The operator's commands, each against a running bus: what it prints for people and for programs,
//! how it ends, and which secrets it keeps.

use std::process::Stdio;

use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};

use crate::support::{Bus, CLIENTS, ORDERS, Process, ROOT, Store, event, eventually, run, soon};

/// How a command ended.
struct Done {
    code: Option<i32>,
    stdout: String,
    stderr: String,
}

impl Done {
    #[track_caller]
    fn expect(self, code: i32) -> Self {
        assert_eq!(self.code, Some(code), "stdout: {}\nstderr: {}", self.stdout, self.stderr);
        self
    }

    /// The one JSON document on standard output.
    #[track_caller]
    fn json(&self) -> Value {
        assert_eq!(self.stdout.lines().count(), 1, "{}", self.stdout);
        serde_json::from_str(&self.stdout).unwrap_or_else(|_| panic!("no JSON: {}", self.stdout))
    }

    fn rows(&self) -> Vec<Vec<&str>> {
        self.stdout.lines().map(|line| line.split_whitespace().collect()).collect()
    }
}

/// Runs a command against a bus, with its output in pipes.
async fn command(bus: &Bus, server: &Process, arguments: &[&str]) -> Done {
    let ended = bus.run(&[arguments, &["--url", server.base()]].concat()).await;
    let said = format!("{}{}", ended.stdout, ended.stderr);
    assert!(!said.contains('\u{1b}'), "colours in a pipe: {said}");
    Done { code: ended.code, stdout: ended.stdout, stderr: ended.stderr }
}

#[test]
fn a_token_is_made_listed_and_removed() {
    run(async {
        let bus = Bus::new(&Store::sqlite());
        let server = bus.web().await;
        let token = async |arguments: &[&str]| {
            command(&bus, &server, &[&["token"], arguments].concat()).await
        };
        let listed = token(&["list", "--json"]).await.expect(0).json();
        assert_eq!(listed.as_array().map(Vec::len), Some(CLIENTS.len()));
        let made = token(&["add", "billing"]).await.expect(0);
        let secret = made.stdout.strip_suffix('\n').unwrap().to_owned();
        assert!(secret.starts_with("billing--") && secret.len() == 41, "{secret}");
        server.client(&secret).get("/topics").await.expect(200);
        let other = token(&["add", "search", "--json"]).await.expect(0).json();
        assert_eq!(other["name"], "search");
        server.client(other["token"].as_str().unwrap()).get("/topics").await.expect(200);

        let listed = token(&["list"]).await.expect(0);
        for row in [["billing", "billing--…"], ["search", "search--…"], ["orders", "orders--…"]]
        {
            assert!(listed.rows().contains(&row.to_vec()), "{}", listed.stdout);
        }
        let shown = token(&["list", "--show"]).await.expect(0);
        assert!(shown.rows().contains(&vec!["billing", &secret]), "{}", shown.stdout);
        let listed = token(&["list", "--json"]).await.expect(0).json();
        let hidden = json!({"name": "billing", "token": null});
        assert!(listed.as_array().unwrap().contains(&hidden), "{listed}");
        let shown = token(&["list", "--json", "--show"]).await.expect(0).json();
        assert_eq!(shown, server.client(ROOT).get("/api_tokens").await.json());

        let removed = token(&["remove", "billing", "--json"]).await.expect(0).json();
        assert_eq!(removed, json!({"name": "billing", "removed": true}));
        let refused =
            async || (server.client(&secret).get("/topics").await.status == 401).then_some(());
        eventually("nobody is let in with it", refused).await;
        let again = token(&["remove", "billing"]).await.expect(1);
        assert!(again.stderr.contains("there is no such token"), "{}", again.stderr);
    });
}

#[test]
fn a_token_can_be_given_and_is_removed_by_name_only_if_that_is_clear() {
    run(async {
        let bus = Bus::new(&Store::sqlite());
        let server = bus.web().await;
        let file = bus.directory().join("token.txt");
        std::fs::write(&file, "hunter2-of-the-shop\nmore\n").unwrap();
        let add = ["token", "add", "shop", "--value-file", file.to_str().unwrap()];
        let made = command(&bus, &server, &add).await.expect(0);
        assert_eq!(made.stdout, "hunter2-of-the-shop\n");
        let listed = command(&bus, &server, &["token", "list"]).await.expect(0);
        assert!(!listed.stdout.contains("hunter2"), "{}", listed.stdout);
        command(&bus, &server, &["token", "add", "shop"]).await.expect(0);
        let unclear = command(&bus, &server, &["token", "remove", "shop"]).await.expect(1);
        assert!(unclear.stderr.contains("2 tokens have the name"), "{}", unclear.stderr);
        let exact = ["token", "remove", "hunter2-of-the-shop"];
        command(&bus, &server, &exact).await.expect(0);
        command(&bus, &server, &["token", "remove", "shop"]).await.expect(0);
        command(&bus, &server, &["token", "add", "Not A Name"]).await.expect(2);
    });
}

#[test]
fn tokens_need_the_root_key_and_say_where_it_comes_from() {
    run(async {
        let bus = Bus::new(&Store::sqlite());
        let server = bus.web().await;
        let bus = bus.set("ROUTEMASTER_ROOT_KEY", "");
        let without = command(&bus, &server, &["token", "list"]).await.expect(2);
        assert!(without.stderr.contains("ROUTEMASTER_ROOT_KEY"), "{}", without.stderr);
        command(&bus, &server, &["token", "list", "--token", ROOT]).await.expect(0);
        std::fs::write(bus.directory().join(".env"), "").unwrap();
        for wrong in ["demo", "nobody"] {
            let refused = command(&bus, &server, &["token", "list", "--token", wrong]).await;
            let refused = refused.expect(1);
            assert!(refused.stderr.contains("ROUTEMASTER_ROOT_KEY"), "{}", refused.stderr);
            assert!(refused.stderr.contains("--token"), "{}", refused.stderr);
        }
        let bus = bus.unset("ROUTEMASTER_ROOT_KEY");
        let env = format!("ROUTEMASTER_ROOT_KEY={ROOT}\n");
        std::fs::write(bus.directory().join(".env"), env).unwrap();
        command(&bus, &server, &["token", "list"]).await.expect(0);
    });
}

#[test]
fn topics_are_listed_and_deleted() {
    run(async {
        let bus = Bus::new(&Store::sqlite());
        let server = bus.web().await;
        server.client("demo").publishes("widgets", 1..=3).await;
        server.client(ORDERS).claims("orders").await;
        let topics = command(&bus, &server, &["topics"]).await.expect(0);
        assert_eq!(topics.rows()[0], ["TOPIC", "PUBLISHER", "EVENTS", "KEEPS"]);
        // With the root key, and still no secret.
        assert_eq!(
            topics.rows()[1..],
            [["orders", "orders", "1", "-"], ["widgets", "demo", "3", "-"]]
        );
        let shown = command(&bus, &server, &["topics", "--json", "--show"]).await.expect(0);
        assert_eq!(shown.json(), server.client(ROOT).get("/topics").await.json());
        let veiled = command(&bus, &server, &["topics", "--json"]).await.expect(0).json();
        assert_eq!(veiled[0], json!({"name": "orders", "publisher": "orders", "events": 1}));

        let keep = ["topics", "keep", "widgets", "--for", "7d", "--room", "64MiB"];
        let kept = command(&bus, &server, &keep).await.expect(0);
        assert_eq!(kept.stdout, "`widgets` keeps what comes from now on: 7 d, 64 MiB\n");
        command(&bus, &server, &["topics", "keep", "widgets", "--for", "7d"]).await.expect(2);
        command(&bus, &server, &["topics", "keep", "nonesuch", "--nothing"]).await.expect(1);
        let nothing = ["topics", "keep", "widgets", "--nothing", "--json"];
        let nothing = command(&bus, &server, &nothing).await.expect(0).json();
        assert_eq!(nothing, json!({"name": "widgets", "keep": {"ms": 0, "bytes": 0}}));

        let delete = ["topics", "delete", "widgets"];
        let unasked = command(&bus, &server, &delete).await.expect(2);
        assert!(unasked.stderr.contains("--yes"), "{}", unasked.stderr);
        let foreign = [&delete[..], &["--yes", "--token", "alice"]].concat();
        let foreign = command(&bus, &server, &foreign).await.expect(1);
        assert!(foreign.stderr.contains("belongs to another client"), "{}", foreign.stderr);
        assert_eq!(server.client("demo").topic("widgets").await["events"], 3);
        let yes = [&delete[..], &["--yes", "--json"]].concat();
        let deleted = command(&bus, &server, &yes).await.expect(0).json();
        assert_eq!(deleted, json!({"name": "widgets", "deleted": true}));
        assert!(server.client("demo").topic("widgets").await.is_null());
        command(&bus, &server, &yes).await.expect(1);
        command(&bus, &server, &["topics", "delete", "No Topic", "--yes"]).await.expect(2);
    });
}

/// Longer than a terminal is wide.
fn long_callback() -> String {
    format!("https://a.example/{}", "long/".repeat(60))
}

on_both_stores!(a_subscription_is_made_shown_and_removed, |store| async move {
    let bus = Bus::new(&store);
    let server = bus.web().await;
    let demo = server.client("demo");
    demo.claims("widgets").await;
    demo.claims("orders").await;
    std::fs::write(bus.directory().join("uuid"), "s3cr3t-uuid\n").unwrap();
    let callback = long_callback();
    let subscribe = ["subscribe", "widgets", "orders", "--callback", &callback, "--token", ORDERS];
    let more = ["--uuid-file", "uuid", "--max", "7", "--timeout", "3000", "--retention", "60000"];
    let more = [&more[..], &["--max-queued", "9", "--json"]].concat();
    let made = command(&bus, &server, &[&subscribe[..], &more].concat()).await.expect(0);
    assert!(!made.stdout.contains("s3cr3t"), "{}", made.stdout);
    let row = server.client(ORDERS).subscription(ORDERS).await;
    assert_eq!(row["uuid"], "s3cr3t-uuid");
    let expected = json!({
        "subscriber": "orders", "callback": callback, "uuid": null, "max_events": 7,
        "timeout": 3000, "retention": 60000, "max_queued": 9, "topics": ["orders", "widgets"],
        "events": {"sent": 0, "queued": 0, "oldest": null}
    });
    assert_eq!(made.json(), expected);
    demo.publishes("widgets", 1..=2).await;

    let listed = command(&bus, &server, &["subscriptions"]).await.expect(0);
    assert!(!listed.stdout.contains("--0123") && !listed.stdout.contains("s3cr3t"));
    let rows = listed.rows();
    assert_eq!(rows.len(), 2, "one line each: {}", listed.stdout);
    assert_eq!(rows[1][..2], ["orders", "2"]);
    assert!(rows[1].contains(&callback.as_str()), "the whole of it: {}", listed.stdout);
    let veiled = command(&bus, &server, &["subscriptions", "--json"]).await.expect(0);
    assert!(!veiled.stdout.contains("--0123") && !veiled.stdout.contains("s3cr3t"));
    let shown = command(&bus, &server, &["subscriptions", "--json", "--show"]).await.expect(0);
    assert_eq!(shown.json(), server.client(ROOT).get("/subscriptions").await.json());

    let own = ["--token", ORDERS];
    let topic = command(&bus, &server, &[&["unsubscribe", "orders"], &own[..]].concat()).await;
    assert!(topic.expect(0).stdout.contains("unsubscribed from orders"));
    let row = server.client(ORDERS).subscription(ORDERS).await;
    assert_eq!(row["topics"], json!(["widgets"]));
    let again = command(&bus, &server, &[&["unsubscribe", "orders"], &own[..]].concat()).await;
    assert!(again.expect(1).stderr.contains("not subscribed"));

    let whole = [&["unsubscribe"], &own[..]].concat();
    let unasked = command(&bus, &server, &whole).await.expect(2);
    assert!(unasked.stderr.contains("2 events that wait are lost"), "{}", unasked.stderr);
    let yes = [&whole[..], &["--yes", "--json"]].concat();
    let removed = command(&bus, &server, &yes).await.expect(0).json();
    let expected = json!({
        "subscriber": "orders", "topics": ["widgets"], "removed": true, "queued": 2
    });
    assert_eq!(removed, expected);
    assert!(server.client(ORDERS).subscription(ORDERS).await.is_null());
    command(&bus, &server, &yes).await.expect(1);
});

#[test]
fn what_an_existing_subscription_would_lose_is_said_first() {
    run(async {
        let bus = Bus::new(&Store::sqlite());
        let server = bus.web().await;
        let demo = server.client("demo");
        demo.claims("widgets").await;
        demo.claims("orders").await;
        let subscribe = async |topics: &[&str], more: &[&str]| {
            let arguments = [&["subscribe"], topics, more].concat();
            command(&bus, &server, &arguments).await
        };
        let here = ["--callback", "https://a.example/"];
        subscribe(&["widgets", "orders"], &here).await.expect(0);
        subscribe(&["widgets", "orders"], &here).await.expect(0);
        let fewer = subscribe(&["widgets"], &here).await.expect(2);
        assert!(fewer.stderr.contains("no longer receive orders"), "{}", fewer.stderr);
        let elsewhere = ["--callback", "https://b.example/"];
        let moved = subscribe(&["widgets", "orders"], &elsewhere).await.expect(2);
        assert!(moved.stderr.contains("https://a.example/"), "{}", moved.stderr);
        assert_eq!(demo.subscription("demo").await["callback"], "https://a.example/");
        subscribe(&["widgets"], &[&elsewhere[..], &["--yes"]].concat()).await.expect(0);
        assert_eq!(demo.subscription("demo").await["topics"], json!(["widgets"]));

        let unknown = subscribe(&["gadgets"], &[&elsewhere[..], &["--yes"]].concat()).await;
        assert!(unknown.expect(1).stderr.contains("gadgets"));
        for bad in ["http://a.example/", "https://a.example/?x=1"] {
            subscribe(&["widgets"], &["--callback", bad]).await.expect(2);
        }
        subscribe(&["widgets"], &[&here[..], &["--timeout", "9999999"]].concat()).await.expect(2);
    });
}

#[test]
fn root_removes_a_subscriber_by_name() {
    run(async {
        let bus = Bus::new(&Store::sqlite());
        let server = bus.web().await;
        server.client("demo").claims("widgets").await;
        let body = json!({"topics": ["widgets"], "callback": "https://a.example/"});
        server.client(ORDERS).post("/subscription", body.to_string()).await.expect(204);
        let unknown = ["unsubscribe", "--subscriber", "nobody", "--yes"];
        command(&bus, &server, &unknown).await.expect(1);
        let as_client = ["unsubscribe", "--subscriber", "orders", "--yes", "--token", "alice"];
        let refused = command(&bus, &server, &as_client).await.expect(1);
        assert!(refused.stderr.contains("root key"), "{}", refused.stderr);
        let remove = ["unsubscribe", "--subscriber", "orders", "--yes"];
        let removed = command(&bus, &server, &remove).await.expect(0);
        assert!(!removed.stdout.contains("--0123"), "{}", removed.stdout);
        assert!(server.client(ORDERS).subscription(ORDERS).await.is_null());
    });
}

#[test]
fn a_profile_is_a_flame_graph_for_root_one_at_a_time() {
    run(async {
        let bus = Bus::new(&Store::sqlite());
        let server = bus.serve().await;
        let root = server.client(ROOT);
        let client = server.client("demo");
        let making = tokio::spawn(async move { root.get("/profile?seconds=1").await });
        // Something to see, until it is made.
        let mut number = 0;
        let second = server.client(ROOT);
        let mut busy = None;
        while !making.is_finished() {
            client.publish("widgets", &event(number)).await.expect(204);
            number += 1;
            if number == 20 {
                busy = Some(second.get("/profile?seconds=1").await.status);
            }
        }
        assert_eq!(busy, Some(409));
        let made = making.await.unwrap().expect(200);
        assert!(made.body.contains("<svg") && made.body.contains("routemaster::"));
        assert_eq!(client.get("/profile?seconds=1").await.status, 403);
        assert_eq!(second.get("/profile?seconds=21").await.status, 400);
        let seconds = ["profile", "--seconds", "1", "-o", "one.svg"];
        let written = tokio::select! {
            written = command(&bus, &server, &seconds) => written,
            () = async { loop { client.publish("widgets", &event(number)).await.expect(204); } } => unreachable!(),
        };
        assert!(written.expect(0).stderr.contains("wrote one.svg"));
        assert!(std::fs::read_to_string(bus.directory().join("one.svg")).unwrap().contains("<svg"));
        let idle = ["profile", "--seconds", "1", "-o", "idle.svg"];
        command(&bus, &server, &idle).await.expect(0);
        let drawn = std::fs::read_to_string(bus.directory().join("idle.svg")).unwrap();
        assert!(drawn.contains("<svg"), "{drawn}");
        let refused = command(&bus, &server, &["profile", "--token", "demo"]).await.expect(1);
        assert!(refused.stderr.contains("root key"), "{}", refused.stderr);
    });
}

#[test]
fn a_pulse_is_an_exit_code() {
    run(async {
        let mut store = Store::redis();
        let bus = Bus::new(&store);
        let server = bus.web().await;
        let well = command(&bus, &server, &["pulse"]).await.expect(0);
        assert!(well.stdout.contains("works") && well.stdout.lines().count() == 1);
        assert!(well.stdout.contains("no worker runs"), "{}", well.stdout);
        let scaling = command(&bus, &server, &["pulse", "--scaling", "--json"]).await.expect(0);
        assert_eq!(scaling.json()["more_workers"], false, "{}", scaling.stdout);
        let stranger = command(&bus, &server, &["pulse", "--token", "nobody"]).await.expect(1);
        assert!(stranger.stderr.contains("does not know the token"), "{}", stranger.stderr);
        store.server().kill();
        let ill = command(&bus, &server, &["pulse", "--json"]).await.expect(1);
        assert_eq!(ill.json()["ok"], false, "{}", ill.stdout);
        assert!(ill.json()["error"].as_str().unwrap().contains("doctor"), "{}", ill.stdout);
        let nobody = bus.run(&["pulse", "--url", "https://localhost:1"]).await;
        assert_eq!(nobody.code, Some(1), "{}", nobody.stderr);
        let wrong = bus.run(&["pulse", "--url", "http://localhost:1"]).await;
        assert_eq!(wrong.code, Some(2), "{}", wrong.stderr);
    });
}

#[test]
fn more_due_batches_than_the_threshold_need_more_workers() {
    run(async {
        let bus = Bus::new(&Store::sqlite()).set("ROUTEMASTER_SCALING_THRESHOLD", "0");
        let server = bus.web().await;
        server.client("demo").claims("widgets").await;
        let body = json!({"topics": ["widgets"], "callback": "https://a.example/", "timeout": 0});
        server.client("demo").post("/subscription", body.to_string()).await.expect(204);
        server.client("demo").publish("widgets", &event(1)).await.expect(204);
        let scaling = command(&bus, &server, &["pulse", "--scaling"]).await.expect(0);
        assert!(scaling.stdout.contains("more workers are needed"), "{}", scaling.stdout);
    });
}

#[test]
fn a_token_may_come_from_the_environment_and_is_no_unknown_setting() {
    run(async {
        let bus = Bus::new(&Store::sqlite()).set("ROUTEMASTER_TOKEN", "alice");
        let mut server = bus.web().await;
        let publish = ["publish", "widgets", "create", "https://a.example/1"];
        command(&bus, &server, &publish).await.expect(0);
        assert_eq!(server.client("demo").topic("widgets").await["publisher"], "alice");
        server.kill().await;
        let log = server.stderr.whole().await;
        assert!(!log.contains("ROUTEMASTER_TOKEN"), "{log}");
    });
}

#[test]
fn a_reader_that_went_away_is_no_failure() {
    run(async {
        let bus = Bus::new(&Store::sqlite());
        let mut child = bus.command(&["completions", "bash"]).spawn().unwrap();
        drop(child.stdout.take());
        let ended = soon("it ends", child.wait()).await.unwrap();
        assert_eq!(ended.code(), Some(0));
    });
}

#[test]
fn a_shell_completes_what_the_help_shows() {
    run(async {
        let bus = Bus::new(&Store::sqlite());
        // No setting, good or bad, is looked at.
        let bus = bus.set("PORT", "none");
        std::fs::write(bus.directory().join(".env"), "no line of a .env file").unwrap();
        for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
            let script = bus.run(&["completions", shell]).await;
            assert_eq!(script.code, Some(0), "{}", script.stderr);
            for word in ["doctor", "subscriptions", "tls-cert", "dry-run"] {
                assert!(script.stdout.contains(word), "{word} is missing for {shell}");
            }
        }
        let bash = bus.run(&["completions", "bash"]).await.stdout;
        let options = |command: &str| {
            let case = format!("routemaster__subcmd__{command})\n            opts=");
            let at = bash.find(&case).unwrap_or_else(|| panic!("no {command}: {bash}"));
            bash[at + case.len()..].lines().next().unwrap().to_owned()
        };
        assert!(options("serve").contains("--tls-cert"));
        assert!(!options("autodrop").contains("--tls-cert"), "{}", options("autodrop"));
        let wrong = bus.run(&["completions", "cmd"]).await;
        assert_eq!(wrong.code, Some(2), "{}", wrong.stderr);
    });
}

#[test]
fn a_secret_may_come_from_standard_input() {
    run(async {
        let bus = Bus::new(&Store::sqlite());
        let server = bus.web().await;
        let add = ["token", "add", "shop", "--value-file", "-", "--url", server.base()];
        let mut child = bus.command(&add).stdin(Stdio::piped()).spawn().unwrap();
        let mut stdin = child.stdin.take().unwrap();
        stdin.write_all(b"from-standard-input\n").await.unwrap();
        drop(stdin);
        let output = soon("it ends", child.wait_with_output()).await.unwrap();
        assert_eq!(output.status.code(), Some(0));
        server.client("from-standard-input").get("/topics").await.expect(200);
    });
}

/// Where a command's output goes.
fn full() -> Stdio {
    std::fs::File::options().write(true).open("/dev/full").unwrap().into()
}

/// A pipe whose reader is gone.
fn closed() -> Stdio {
    std::io::pipe().unwrap().1.into()
}

#[test]
fn no_command_panics_if_its_output_goes_nowhere() {
    run(async {
        let bus = Bus::new(&Store::sqlite());
        let server = bus.serve().await;
        server.client("demo").claims("widgets").await;
        let url = ["--url", server.base(), "--token", "demo"];
        let event = ["publish", "widgets", "create", "https://a.example/1"];
        for command in [
            &event[..],
            &["publish", "widgets"],
            &["topics"],
            &["topics", "--json"],
            &["subscriptions"],
            &["pulse"],
            &["doctor"],
            &["completions", "bash"],
            &["--help"],
        ] {
            let takes_url = !matches!(command[0], "completions" | "--help");
            let arguments = [command, if takes_url { &url[..] } else { &[] }].concat();
            for (output, errors, expected) in [
                (closed(), closed(), 0..=0),
                // It was not done, if nobody can have seen the result.
                (full(), full(), 0..=1),
            ] {
                let mut process = bus.command(&arguments);
                let child = process.stdout(output).stderr(errors).spawn().unwrap();
                let ended = soon("it ends", child.wait_with_output()).await.unwrap();
                let code = ended.status.code();
                // What doctor finds is told by the code, too.
                let expected = if command[0] == "doctor" { 0..=1 } else { expected };
                assert!(code.is_some_and(|code| expected.contains(&code)), "{command:?}: {code:?}");
            }
        }
        // What the commands said had been done already.
        server.client("demo").get("/pulse").await.expect(204);
    });
}

#[test]
fn a_bus_runs_on_if_what_it_says_at_the_start_goes_nowhere() {
    run(async {
        let bus = Bus::new(&Store::sqlite());
        for output in [full(), closed()] {
            let mut command = bus.command(&["serve", "--port", "0"]);
            let mut child = command.stdout(output).spawn().unwrap();
            let mut errors = BufReader::new(child.stderr.take().unwrap()).lines();
            let line = async {
                while let Some(line) = errors.next_line().await.unwrap() {
                    if line.contains("standard output cannot be written; going on") {
                        return;
                    }
                }
                panic!("the bus has ended");
            };
            soon("it says so", line).await;
            assert!(child.try_wait().unwrap().is_none());
            child.kill().await.unwrap();
        }
    });
}
