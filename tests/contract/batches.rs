//! Batches (§4): when a batch leaves, how large it is, and who waits for whom.

use std::time::Duration;

use serde_json::json;

use crate::support::{Answer, Bus, Client, Receiver};

/// Publishes ten events, each when the one before it was delivered, and requires that none of
/// them waited for a poll. The receiver has had one event already, which set the connection up.
async fn ten_events_are_delivered_promptly(demo: &Client, receiver: &Receiver) {
    let start = std::time::Instant::now();
    for number in 1..=10 {
        demo.publishes("widgets", [number]).await;
        receiver.numbers(number as usize + 1).await;
    }
    let took = start.elapsed();
    assert!(took < Duration::from_secs(3), "ten events took {took:?} one after the other");
}

on_both_stores!(a_batch_leaves_as_soon_as_it_is_full, |store| async move {
    let bus = Bus::new(&store);
    let server = bus.serve().await;
    let (demo, receiver) = (server.client("demo"), bus.receiver().await);
    demo.claims("widgets").await;
    demo.subscribes(&receiver, &["widgets"], json!({"timeout": 3_600_000, "max": 3})).await;
    demo.publishes("widgets", 1..=2).await;
    receiver.stays_quiet(Duration::from_millis(300)).await;
    demo.publishes("widgets", 3..=8).await;
    let attempts = receiver.attempts(2).await;
    assert_eq!(attempts[0].numbers(), [1, 2, 3]);
    assert_eq!(attempts[1].numbers(), [4, 5, 6]);
    receiver.stays_quiet(Duration::from_millis(300)).await;
    assert_eq!(demo.queued("demo").await, Some(2), "these wait for their batch to fill");
});

on_both_stores!(a_batch_leaves_when_its_oldest_event_has_waited_long_enough, |store| async move {
    let bus = Bus::new(&store);
    let server = bus.serve().await;
    let (demo, receiver) = (server.client("demo"), bus.receiver().await);
    demo.claims("widgets").await;
    demo.subscribes(&receiver, &["widgets"], json!({"timeout": 800, "max": 100})).await;
    let start = std::time::Instant::now();
    demo.publishes("widgets", [1]).await;
    demo.publishes("widgets", [2]).await;
    let attempt = receiver.attempts(1).await.remove(0);
    let waited = attempt.at - start;
    assert_eq!(attempt.numbers(), [1, 2]);
    assert!(waited >= Duration::from_millis(790), "it left after {waited:?}");
    assert!(waited < Duration::from_millis(2_800), "it left after {waited:?} only");
});

on_both_stores!(a_timeout_of_0_delivers_at_once, |store| async move {
    let bus = Bus::new(&store);
    let server = bus.serve().await;
    let (demo, receiver) = (server.client("demo"), bus.receiver().await);
    demo.claims("widgets").await;
    demo.subscribes(&receiver, &["widgets"], json!({"timeout": 0})).await;
    demo.publishes("widgets", [0]).await;
    receiver.numbers(1).await;
    ten_events_are_delivered_promptly(&demo, &receiver).await;
});

on_both_stores!(a_worker_in_another_process_is_woken_without_waiting, |store| async move {
    let bus = Bus::new(&store);
    let (web, _worker) = (bus.web().await, bus.worker().await);
    let (demo, receiver) = (web.client("demo"), bus.receiver().await);
    demo.claims("widgets").await;
    demo.subscribes(&receiver, &["widgets"], json!({"timeout": 0})).await;
    demo.publishes("widgets", [0]).await;
    receiver.numbers(1).await;
    ten_events_are_delivered_promptly(&demo, &receiver).await;
});

on_both_stores!(one_delivery_at_a_time_is_in_flight_for_a_subscriber, |store| async move {
    let bus = Bus::new(&store);
    let web = bus.web().await;
    let _workers = [bus.worker().await, bus.worker().await];
    let (demo, receiver) = (web.client("demo"), bus.receiver().await);
    demo.claims("widgets").await;
    demo.subscribes(&receiver, &["widgets"], json!({"timeout": 0, "max": 2})).await;
    receiver.answer_next([Answer::Held]);
    demo.publishes("widgets", 1..=20).await;
    receiver.attempts(1).await;
    receiver.stays_quiet(Duration::from_millis(400)).await;
    receiver.release();
    assert_eq!(receiver.numbers(20).await, (1..=20).collect::<Vec<_>>());
});

on_both_stores!(a_subscriber_that_hangs_delays_no_other, |store| async move {
    let bus = Bus::new(&store);
    let server = bus.serve().await;
    let demo = server.client("demo");
    let (stuck, dead, quick) = (bus.receiver().await, bus.receiver().await, bus.receiver().await);
    demo.claims("widgets").await;
    stuck.answer(Answer::Hang);
    let more = json!({"timeout": 0, "max": 1});
    server.client("alice").subscribes(&stuck, &["widgets"], more.clone()).await;
    server.client("bob").subscribes(&dead, &["widgets"], more.clone()).await;
    server.client("carol").subscribes(&quick, &["widgets"], more).await;
    drop(dead);
    demo.publishes("widgets", [0]).await;
    stuck.attempts(1).await;
    let start = std::time::Instant::now();
    demo.publishes("widgets", 1..=20).await;
    assert_eq!(quick.numbers(21).await, (0..=20).collect::<Vec<_>>());
    let took = start.elapsed();
    assert!(took < Duration::from_secs(5), "the others were delayed by {took:?}");
    assert_eq!(demo.queued("alice").await, Some(21));
    assert_eq!(demo.queued("bob").await, Some(21));
});

on_both_stores!(hanging_subscribers_use_up_no_worker, |store| async move {
    let bus = Bus::new(&store).set("ROUTEMASTER_ROOT_KEY", "boss");
    let clients: Vec<String> = (0..30).map(|number| format!("stuck-{number}")).collect();
    let bus = bus.set("ROUTEMASTER_CLIENTS", &format!("demo,{}", clients.join(",")));
    let server = bus.serve().await;
    let demo = server.client("demo");
    let (stuck, quick) = (bus.receiver().await, bus.receiver().await);
    stuck.answer(Answer::Hang);
    demo.claims("widgets").await;
    for client in &clients {
        let client = server.client(client);
        client.subscribes(&stuck, &["widgets"], json!({"timeout": 0})).await;
    }
    demo.publishes("widgets", [0]).await;
    stuck.attempts(30).await;
    demo.subscribes(&quick, &["widgets"], json!({"timeout": 0})).await;
    demo.publishes("widgets", 1..=3).await;
    assert_eq!(quick.numbers(3).await, [1, 2, 3]);
});

on_both_stores!(a_large_backlog_goes_out_in_batches_of_max, |store| async move {
    let bus = Bus::new(&store);
    let web = bus.web().await;
    let (demo, receiver) = (web.client("demo"), bus.receiver().await);
    demo.claims("widgets").await;
    demo.subscribes(&receiver, &["widgets"], json!({"timeout": 0, "max": 250})).await;
    for start in [0, 500] {
        let events: Vec<_> = (start..start + 500).map(crate::support::event).collect();
        demo.post("/topics/widgets", json!(events).to_string()).await.expect(204);
    }
    let _worker = bus.worker().await;
    assert_eq!(receiver.numbers(1000).await, (0..1000).collect::<Vec<_>>());
    let sizes: Vec<usize> =
        receiver.attempts_so_far().iter().map(|attempt| attempt.numbers().len()).collect();
    assert_eq!(sizes, [250; 4]);
});
