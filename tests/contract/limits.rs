//! How much one client may publish, how many topics it may have, and how often one address may fail to
//! authenticate.

use serde_json::json;

use crate::support::{Bus, Store, event, eventually, run};

on_both_stores!(a_client_over_its_rate_gets_429_and_nothing_is_stored, |store| async move {
    let bus = Bus::new(&store);
    let bus = bus.set("ROUTEMASTER_PUBLISH_RATE", "1").set("ROUTEMASTER_PUBLISH_BURST", "3");
    let server = bus.serve().await;
    let (demo, alice) = (server.client("demo"), server.client("alice"));
    demo.publish("widgets", &event(1)).await.expect(204);
    demo.publish("widgets", &json!([event(2), event(3), event(4)])).await.expect(204);
    demo.publish("widgets", &event(5)).await.expect(204);
    let reply = demo.publish("unclaimed", &event(6)).await;
    let seconds = reply.header("retry-after").and_then(|value| value.parse::<u32>().ok());
    assert!(seconds.is_some_and(|seconds| (1..=2).contains(&seconds)), "{reply:?}");
    reply.expect_reason(429);
    assert_eq!(demo.topic("widgets").await["events"], 5);
    assert!(demo.topic("unclaimed").await.is_null());
    // Others have their own room, and what is no publish is not counted.
    alice.publish("gadgets", &event(1)).await.expect(204);
    demo.get("/topics").await.expect(200);
    let publish = async || demo.try_publish("widgets", &event(7)).await.then_some(());
    eventually("there is room again", publish).await;
});

#[test]
fn without_a_rate_a_client_publishes_as_much_as_it_likes() {
    run(async {
        let bus = Bus::new(&Store::sqlite());
        let server = bus.serve().await;
        server.client("demo").publishes("widgets", 1..=300).await;
        assert_eq!(server.client("demo").topic("widgets").await["events"], 300);
    });
}

#[test]
fn guessing_tokens_is_slowed_down_and_locks_nobody_else_out() {
    run(async {
        let bus = Bus::new(&Store::sqlite());
        let server = bus.web().await;
        let guess = async |number: u32| {
            let reply = server.client(&format!("guess-{number}")).get("/topics").await;
            if reply.status == 429 {
                assert!(reply.header("retry-after").is_some(), "{reply:?}");
            }
            reply.status
        };
        let mut refused = 0;
        for number in 0..200 {
            match guess(number).await {
                401 => refused += 1,
                status => {
                    assert_eq!(status, 429);
                    break;
                }
            }
        }
        assert!((100..200).contains(&refused), "{refused} guesses were answered");
        server.client("demo").get("/topics").await.expect(200);
        server.anonymous().get("/topics").await.expect(401);
        eventually("there is room again", async || (guess(0).await == 401).then_some(())).await;
    });
}

on_both_stores!(one_client_has_so_many_topics_and_no_more, |store| async move {
    let bus = Bus::new(&store)
        .set("ROUTEMASTER_MAX_TOPICS_PER_CLIENT", "3")
        .set("ROUTEMASTER_SUBSCRIBE_CREATES_TOPICS", "true");
    let server = bus.web().await;
    let (demo, alice) = (server.client("demo"), server.client("alice"));
    for topic in ["a", "b", "c"] {
        demo.publish(topic, &event(1)).await.expect(204);
    }
    let reason = demo.publish("d", &json!([event(1), event(2)])).await.expect_reason(403);
    assert!(reason.contains("ROUTEMASTER_MAX_TOPICS_PER_CLIENT"), "{reason}");
    demo.publish("a", &event(2)).await.expect(204);
    alice.publish("d", &event(1)).await.expect(204);

    // Topics that a subscription makes count as well, and a refused one changes nothing.
    let receiver = bus.receiver().await;
    alice.subscribes(&receiver, &["a", "e"], json!({})).await;
    let body = json!({"topics": ["a", "f", "g"], "callback": receiver.url()});
    let reason = alice.post("/subscription", body.to_string()).await.expect_reason(403);
    assert!(reason.contains("ROUTEMASTER_MAX_TOPICS_PER_CLIENT"), "{reason}");
    assert_eq!(alice.subscription("alice").await["topics"], json!(["a", "e"]));
    assert_eq!(demo.get("/topics").await.expect(200).json().as_array().unwrap().len(), 5);
    // Whoever deletes one may have another.
    demo.delete("/topics/b").await.expect(204);
    demo.publish("g", &event(1)).await.expect(204);
});
