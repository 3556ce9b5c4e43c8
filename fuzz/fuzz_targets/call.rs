//! What anybody may send as a call or as postbacks. What is taken is read again as it was kept, and can be sent.
#![no_main]

use libfuzzer_sys::fuzz_target;
use routemaster::bus::call::{Call, CallKind, Dialect, Order, Persistence};
use routemaster::bus::postback::Postbacks;

const FOREVER: Persistence = Persistence { requeue: true, max_attempts: None, give_up_after: None };

fuzz_target!(|body: &[u8]| {
    for dialect in [Dialect::Original, Dialect::Ours] {
        let Ok(call) = Call::parse(body, dialect) else { continue };
        let kept =
            Order::read(CallKind::Call, &call.request.title(), &call.content(), (FOREVER, ""));
        let kept = kept.expect("what was taken is kept");
        assert_eq!((&kept.request, kept.persistence), (&call.request, call.persistence));
        assert!(kept.request.url.parse::<http::Uri>().is_ok());
        assert!(!kept.request.destination().is_empty());
    }
    let Ok(postbacks) = Postbacks::parse(body, 1_000) else { return };
    let title = postbacks.endpoint.title();
    for object in &postbacks.data {
        let content = object.get().as_bytes();
        let kept = Order::read(CallKind::Postback, &title, content, (FOREVER, "none"));
        let url = kept.expect("what was taken is kept").request.url;
        assert!(!url.contains('@') || url.find('@') > url.find(['/', '?', '#']));
    }
});
