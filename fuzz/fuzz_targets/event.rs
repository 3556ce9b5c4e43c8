//! What anybody may send as the body of a publish. What is taken must be JSON that says the same.
#![no_main]

use libfuzzer_sys::fuzz_target;
use routemaster::bus::event::{DataLimits, parse_publish};
use routemaster::bus::topic::TopicName;
use serde_json::Value;

const LIMITS: DataLimits = DataLimits { bytes: 8192, depth: 60 };

fuzz_target!(|body: &[u8]| {
    let topic = TopicName::parse("widgets", 32).expect("a good name");
    let Ok(items) = parse_publish(body, &topic, 1_700_000_000_000, LIMITS) else { return };
    let sent: Value = serde_json::from_slice(body).expect("what was taken is JSON");
    let sent = match sent {
        Value::Array(events) => events,
        event => vec![event],
    };
    assert_eq!(items.len(), sent.len());
    for (item, sent) in items.iter().zip(sent) {
        let item: Value = serde_json::from_slice(item).expect("what is delivered is JSON");
        assert_eq!(item["topic"], "widgets");
        assert_eq!((&item["type"], &item["url"]), (&sent["type"], &sent["url"]));
        assert_eq!(item["data"], sent["data"]);
        assert!(item["t"].is_u64());
    }
});
