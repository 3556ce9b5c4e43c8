//! Unsubscribing and deleting topics (§3).

use serde_json::json;

use crate::support::{Answer, Bus, ROOT, event};

on_both_stores!(unsubscribing_removes_the_subscription_and_its_queue, |store| async move {
    let bus = Bus::new(&store);
    let web = bus.web().await;
    let (demo, receiver) = (web.client("demo"), bus.receiver().await);
    demo.claims("widgets").await;
    for (number, path) in [(1, "/subscriber"), (2, "/subscription")] {
        demo.delete(path).await.expect(404);
        demo.subscribes(&receiver, &["widgets"], json!({"timeout": 0})).await;
        demo.publishes("widgets", [number]).await;
        let reply = demo.delete(path).await.expect(204);
        assert!(reply.body.is_empty(), "{reply:?}");
        assert!(demo.subscription("demo").await.is_null());
        demo.delete(path).await.expect(404);
    }
    demo.publishes("widgets", [3]).await;
    // Who comes back starts with an empty queue.
    demo.subscribes(&receiver, &["widgets"], json!({"timeout": 0})).await;
    demo.publishes("widgets", [4]).await;
    let _worker = bus.worker().await;
    assert_eq!(receiver.numbers(1).await, [4]);
});

on_both_stores!(unsubscribing_does_not_touch_others, |store| async move {
    let bus = Bus::new(&store);
    let web = bus.web().await;
    let (demo, alice) = (web.client("demo"), web.client("alice"));
    let receiver = bus.receiver().await;
    demo.claims("widgets").await;
    demo.subscribes(&receiver, &["widgets"], json!({"timeout": 0})).await;
    alice.subscribes(&receiver, &["widgets"], json!({"timeout": 0})).await;
    demo.publishes("widgets", [1]).await;
    demo.delete("/subscriber").await.expect(204);
    assert_eq!(demo.queued("alice").await, Some(1));
    // Root may remove anybody's subscription, and nobody else may.
    demo.delete("/subscribers/alice").await.expect(403);
    assert_eq!(demo.queued("alice").await, Some(1));
    web.client(ROOT).delete("/subscribers/alice").await.expect(204);
    web.client(ROOT).delete("/subscribers/alice").await.expect(404);
    assert!(demo.subscription("alice").await.is_null());
});

on_both_stores!(a_subscriber_removed_during_a_delivery_stays_removed, |store| async move {
    let bus = Bus::new(&store);
    let server = bus.serve().await;
    let (demo, receiver) = (server.client("demo"), bus.receiver().await);
    demo.claims("widgets").await;
    demo.subscribes(&receiver, &["widgets"], json!({"timeout": 0, "max": 1})).await;
    receiver.answer_next([Answer::Held]);
    demo.publishes("widgets", 1..=2).await;
    receiver.attempts(1).await;
    demo.delete("/subscriber").await.expect(204);
    demo.subscribes(&receiver, &["widgets"], json!({"timeout": 0, "max": 1})).await;
    demo.publishes("widgets", [3]).await;
    receiver.release();
    // The end of the old delivery must not acknowledge anything of the new queue.
    let attempts = receiver.until("event 3", |all| all.iter().any(|a| a.numbers() == [3])).await;
    assert!(attempts.iter().all(|attempt| attempt.numbers() != [2]), "{attempts:?}");
});

on_both_stores!(one_topic_is_taken_out_of_a_subscription, |store| async move {
    let bus = Bus::new(&store);
    let web = bus.web().await;
    let (demo, receiver) = (web.client("demo"), bus.receiver().await);
    for topic in ["widgets", "gadgets", "gizmos"] {
        demo.claims(topic).await;
    }
    demo.delete("/subscriber/topics/widgets").await.expect(404);
    demo.subscribes(&receiver, &["widgets", "gadgets"], json!({"timeout": 0})).await;
    demo.publishes("widgets", [1]).await;
    demo.delete("/subscriber/topics/nothing").await.expect(404);
    demo.delete("/subscriber/topics/gizmos").await.expect(404);
    let reply = demo.delete("/subscriber/topics/widgets").await.expect(204);
    assert!(reply.body.is_empty(), "{reply:?}");
    demo.delete("/subscriber/topics/widgets").await.expect(404);
    assert_eq!(demo.subscription("demo").await["topics"], json!(["gadgets"]));
    demo.publishes("widgets", [99]).await;
    demo.publishes("gadgets", [2]).await;
    let _worker = bus.worker().await;
    assert_eq!(receiver.numbers(2).await, [1, 2], "queued events stay");
});

on_both_stores!(a_topic_is_deleted_by_its_publisher_or_root, |store| async move {
    let bus = Bus::new(&store);
    let web = bus.web().await;
    let (demo, alice, root) = (web.client("demo"), web.client("alice"), web.client(ROOT));
    for path in ["/topic/widgets", "/topics/widgets"] {
        for owner in [&demo, &root] {
            owner.delete(path).await.expect(404);
            demo.claims("widgets").await;
            alice.delete(path).await.expect_reason(403);
            assert_eq!(demo.topic("widgets").await["publisher"], "demo");
            let reply = owner.delete(path).await.expect(204);
            assert!(reply.body.is_empty(), "{reply:?}");
            assert!(demo.topic("widgets").await.is_null());
        }
    }
    // A deleted topic is free for another publisher, and counts from the beginning.
    alice.publish("widgets", &event(1)).await.expect(204);
    let expected = json!({"name": "widgets", "publisher": "alice", "events": 1});
    assert_eq!(demo.topic("widgets").await, expected);
});

on_both_stores!(deleting_a_topic_unsubscribes_and_keeps_queued_events, |store| async move {
    let bus = Bus::new(&store);
    let web = bus.web().await;
    let (demo, receiver) = (web.client("demo"), bus.receiver().await);
    demo.claims("widgets").await;
    demo.claims("gadgets").await;
    demo.subscribes(&receiver, &["widgets", "gadgets"], json!({"timeout": 0})).await;
    demo.publishes("widgets", [1]).await;
    demo.delete("/topics/widgets").await.expect(204);
    assert_eq!(demo.subscription("demo").await["topics"], json!(["gadgets"]));
    // The topic of the same name that comes after it is another one.
    demo.publishes("widgets", [99]).await;
    demo.publishes("gadgets", [2]).await;
    let _worker = bus.worker().await;
    assert_eq!(receiver.numbers(2).await, [1, 2]);
    receiver.stays_quiet(std::time::Duration::from_millis(300)).await;
});
