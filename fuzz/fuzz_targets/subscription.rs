//! What anybody may send as a subscription. What is taken must be deliverable.
#![no_main]

use libfuzzer_sys::fuzz_target;
use routemaster::bus::pubsub::is_pubsub_topic;
use routemaster::bus::subscription::{SubscriptionRequest, Target};

fuzz_target!(|body: &[u8]| {
    let Ok(subscription) = SubscriptionRequest::parse(body, 32) else { return };
    match &subscription.terms.target {
        Target::Callback(callback) => {
            let callback = callback.as_url();
            assert_eq!(callback.scheme(), "https");
            assert!(callback.host_str().is_some_and(|host| !host.is_empty()));
        }
        Target::Pull => {}
        Target::PubSub(topic) => assert!(is_pubsub_topic(topic)),
    }
    assert!((1..=10_000).contains(&subscription.terms.max));
    assert!(subscription.topics.iter().all(|topic| (1..=32).contains(&topic.as_str().len())));
});
