//! What anybody may send as messages, topics and publishers. What is taken is read again as it was kept, and can be
//! forwarded.
#![no_main]

use libfuzzer_sys::fuzz_target;
use routemaster::bus::message::PublisherTarget;
use routemaster::bus::message::{MessageContent, MessageForm, NewMessages, NewPublisher, NewTopic};

fuzz_target!(|body: &[u8]| {
    for form in [MessageForm::One, MessageForm::Bulk(3_000), MessageForm::Scheduled] {
        let Ok(messages) = NewMessages::parse(body, form) else { continue };
        for content in &messages.contents {
            let kept = MessageContent::from_bytes(content).expect("what was taken is kept");
            assert_eq!(kept.to_bytes(), content);
            let sent = serde_json::from_slice::<serde_json::Value>(&kept.http_body());
            let sent = sent.expect("a target receives JSON");
            assert!(sent.is_array() || sent["attributes"].is_object());
        }
    }
    let _ = NewTopic::parse(body);
    if let Ok(publisher) = NewPublisher::parse(body)
        && let PublisherTarget::Http(url) = publisher.target
    {
        assert!(matches!(url.scheme(), "http" | "https"));
        assert!(url.host_str().is_some_and(|host| !host.is_empty()));
    }
});
