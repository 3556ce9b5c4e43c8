//! `routemaster messages`, `message-topics` and `message-publishers`: what a person does with messages on a command line.

use serde_json::{Value, json};

use crate::support::{Answer, Bus, Store, eventually, run};

#[test]
fn a_topic_a_publisher_and_messages_are_made_looked_at_and_removed() {
    run(async {
        let bus = Bus::new(&Store::sqlite());
        let server = bus.serve().await;
        let receiver = bus.receiver().await;
        let target = receiver.url();
        let command = async |arguments: &[&str]| {
            let with = ["--url", server.base(), "--token", "demo"];
            let ended = bus.run(&[arguments, &with[..]].concat()).await;
            assert_eq!(ended.code, Some(0), "{arguments:?}: {}", ended.stderr);
            ended.stdout
        };
        let json = async |arguments: &[&str]| -> Value {
            serde_json::from_str(&command(&[arguments, &["--json"]].concat()).await).unwrap()
        };
        let origin = "https://shop.example/lost/";
        let topic =
            json(&["message-topics", "add", "orders", "--origin", origin, "--recovery"]).await;
        assert_eq!(topic, json!({"id": 1, "name": "orders"}));
        let added =
            ["message-publishers", "add", "orders", &target, "--retry", "1", "--max-attempts", "2"];
        assert_eq!(command(&added).await.trim(), "1");
        let listed = command(&["message-topics"]).await;
        assert!(listed.contains("orders") && listed.contains("yes"), "{listed}");
        let listed = command(&["message-publishers"]).await;
        assert!(listed.contains(&target) && listed.contains("1 s"), "{listed}");

        receiver.answer(Answer::Status(503));
        let sent = ["messages", "send", "orders", "-d", r#"{"order": 17}"#, "-a", "kind=created"];
        let number = command(&sent).await.trim().to_owned();
        let made = receiver.attempts(1).await.remove(0);
        assert_eq!(made.body, r#"{"order":17,"attributes":{"kind":"created"}}"#);
        eventually("it is given up", async || {
            let listed = command(&["messages", "--state", "dead", "--topic", "orders"]).await;
            listed.contains(&number).then_some(())
        })
        .await;
        eventually("its attempts are told", async || {
            let shown = command(&["messages", "show", &number]).await;
            (shown.contains("dead") && shown.matches("503").count() >= 2).then_some(())
        })
        .await;
        receiver.answer(Answer::Status(200));
        command(&["messages", "retry", &number]).await;
        eventually("it is forwarded", async || {
            let listed = command(&["messages", "list", "--state", "done"]).await;
            listed.contains(&number).then_some(())
        })
        .await;
        command(&["message-publishers", "set", "1", "--active", "false"]).await;
        assert!(command(&["message-publishers"]).await.contains(" no "));
        command(&["messages", "send", "orders", "--at", "2100-01-01T00:00:00Z"]).await;
        let erased = json(&["messages", "erase", "--topic", "orders", "--yes"]).await;
        assert_eq!(erased, json!({"erased": 2}));
        assert_eq!(json(&["messages"]).await, json!([]));
        command(&["message-publishers", "remove", "1", "--yes"]).await;
        command(&["message-topics", "remove", "1", "--yes"]).await;
        assert_eq!(json(&["message-topics"]).await, json!([]));

        // What is wrong is told in words.
        for (arguments, code, said) in [
            (&["messages", "send", "unknown"][..], 1, "`topic` is invalid"),
            (&["messages", "send", "orders", "-d", "{"][..], 2, "--data is no JSON"),
            (&["messages", "erase"][..], 2, "say by a filter"),
            (&["message-topics", "remove", "7", "--yes"][..], 1, "no such"),
            (&["message-publishers", "set", "7"][..], 2, "nothing is to be changed"),
            (&["message-publishers", "add", "orders", "ftp://a"][..], 1, "`target`"),
        ] {
            let with = ["--url", server.base(), "--token", "demo"];
            let ended = bus.run(&[arguments, &with[..]].concat()).await;
            assert_eq!(ended.code, Some(code), "{arguments:?}: {}", ended.stderr);
            assert!(ended.stderr.contains(said), "{arguments:?}: {}", ended.stderr);
        }
    });
}
