//! What anybody may send as a subscription. What is taken must be deliverable.
#![no_main]

use libfuzzer_sys::fuzz_target;
use routemaster::bus::subscription::SubscriptionRequest;

fuzz_target!(|body: &[u8]| {
    let Ok(subscription) = SubscriptionRequest::parse(body, 32) else { return };
    let callback = subscription.terms.callback.as_url();
    assert_eq!(callback.scheme(), "https");
    assert!(callback.host_str().is_some_and(|host| !host.is_empty()));
    assert!((1..=10_000).contains(&subscription.terms.max));
    assert!(subscription.topics.iter().all(|topic| (1..=32).contains(&topic.as_str().len())));
});
