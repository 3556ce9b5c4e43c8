//! Publishing (§2): what is refused gets a reason, stores nothing and claims nothing.

use serde_json::json;

use crate::support::{Bus, basic, event, raw};

on_both_stores!(a_bad_topic_name_is_refused, |store| async move {
    let bus = Bus::new(&store);
    let web = bus.web().await;
    let demo = web.client("demo");
    let long = "a".repeat(65);
    for name in [
        "Widgets",
        "widgets2",
        "wid-gets",
        "wid.gets",
        "w%C3%ADdgets",
        "wid%20gets",
        "widgets%0A",
        "%00",
        "%FF",
        "a%2Fb",
        &*long,
    ] {
        let reason = demo.publish(name, &event(1)).await.expect_reason(400);
        assert!(!reason.contains('\0'), "{name}: {reason}");
    }
    demo.publish(&"a".repeat(64), &event(1)).await.expect(204);
    assert_eq!(demo.get("/topics").await.json().as_array().map(Vec::len), Some(1));
});

on_both_stores!(every_bad_body_gets_a_reason_and_stores_nothing, |store| async move {
    let bus = Bus::new(&store);
    let web = bus.web().await;
    let (demo, receiver) = (web.client("demo"), bus.receiver().await);
    demo.claims("widgets").await;
    demo.subscribes(&receiver, &["widgets"], json!({})).await;
    let before = demo.topic("widgets").await;
    let (ok, url) = (r#""type":"create","url":"https://a.example""#, "https://a.example/");
    let with_data = |data: &str| format!(r#"{{{ok},"data":{data}}}"#);
    let with_url = |url: &str| format!(r#"{{"type":"create","url":"{url}"}}"#);
    let mut bodies: Vec<(String, &str)> = vec![
        (String::new(), "empty"),
        ("  \n ".into(), "empty"),
        ("{".into(), ""),
        ("nope".into(), ""),
        ("{}x".into(), ""),
        (format!("{{{ok}}} {{{ok}}}"), ""),
        ("7".into(), "object"),
        ("null".into(), "object"),
        ("\"create\"".into(), "object"),
        ("{}".into(), "missing"),
        (format!(r#"{{"url":"{url}"}}"#), "type"),
        (r#"{"type":"create"}"#.into(), "url"),
        (format!(r#"{{"type":"created","url":"{url}"}}"#), "type"),
        (format!(r#"{{"type":"CREATE","url":"{url}"}}"#), "type"),
        (format!(r#"{{"type":"","url":"{url}"}}"#), "type"),
        (format!(r#"{{"type":7,"url":"{url}"}}"#), ""),
        (format!(r#"{{"type":null,"url":"{url}"}}"#), ""),
        (format!(r#"{{{ok},"type":"create"}}"#), "duplicate"),
        (format!(r#"{{{ok},"data":1,"data":2}}"#), "duplicate"),
        (format!(r#"{{{ok},"extra":1}}"#), "extra"),
        (format!(r#"{{{ok},"t":1}}"#), "t"),
        (r#"{"type":"create","url":7}"#.into(), ""),
        (r#"{"type":"create","url":null}"#.into(), ""),
        (with_url(&format!("{url}{}", "a".repeat(1025 - url.len()))), "1024"),
        (with_data(&format!("\"{}\"", "x".repeat(8191))), "8192"),
        (
            with_data(&"[".repeat(61).chars().chain("]".repeat(61).chars()).collect::<String>()),
            "nested too deeply",
        ),
        (with_data(&format!("[{}]", "9".repeat(1001))), "1000 characters"),
        (with_data(&format!("{}{}", "[".repeat(4000), "]".repeat(4000))), ""),
        (with_data(&r#"{"a":"#.repeat(1000)), ""),
        (with_data("nope"), ""),
        (with_data("01"), ""),
        (with_data(r#""\ud800""#), "surrogate"),
        (with_data("\"a\nb\""), ""),
    ];
    for bad in [
        "http://a.example",
        "ftp://a.example",
        "//a.example",
        "/path",
        "a.example",
        "https:",
        "https://",
        "https:///path",
        "https://a b/",
        "https://a.example:99999/",
        "javascript:alert(1)",
        "",
    ] {
        bodies.push((with_url(bad), "url"));
    }
    for bad in ["-1", "1.5", "\"1\"", "true", "[]", "18446744073709551616", "1e400"] {
        bodies.push((format!(r#"{{{ok},"timestamp":{bad}}}"#), ""));
    }
    for (body, part) in bodies {
        for topic in ["widgets", "unclaimed"] {
            let reply = demo.post(&format!("/topics/{topic}"), body.clone()).await;
            assert_eq!(reply.status, 400, "{body}: {reply:?}");
            let reason = reply.expect_reason(400);
            assert!(reason.contains(part), "{body} was refused with: {reason}");
        }
    }
    assert_eq!(demo.topic("widgets").await, before);
    assert!(demo.topic("unclaimed").await.is_null());
    assert_eq!(demo.queued("demo").await, Some(0));
});

on_both_stores!(bytes_that_are_no_text_are_refused, |store| async move {
    let bus = Bus::new(&store);
    let web = bus.web().await;
    let demo = web.client("demo");
    let mut broken = br#"{"type":"create","url":"https://a.example/"#.to_vec();
    broken.extend_from_slice(b"\xff\xfe\"}");
    let mut broken_data = br#"{"type":"create","url":"https://a.example","data":""#.to_vec();
    broken_data.extend_from_slice(b"\xc3\x28\"}");
    let utf16: Vec<u8> = "{\"type\":1}".encode_utf16().flat_map(u16::to_le_bytes).collect();
    for body in [broken, broken_data, utf16, vec![0; 100], vec![0xff; 100]] {
        demo.post("/topics/widgets", body).await.expect_reason(400);
    }
    assert!(demo.topic("widgets").await.is_null());
});

on_both_stores!(a_body_larger_than_the_limit_gets_413, |store| async move {
    let bus = Bus::new(&store).set("ROUTEMASTER_MAX_BODY", "2000");
    let web = bus.web().await;
    let demo = web.client("demo");
    let mut body = event(1).to_string();
    body.push_str(&" ".repeat(2000 - body.len()));
    demo.post("/topics/widgets", body.clone()).await.expect(204);
    body.push(' ');
    for path in ["/topics/widgets", "/topics/unclaimed", "/subscription"] {
        demo.post(path, body.clone()).await.expect_reason(413);
    }
    // The same without a length that is known beforehand.
    let mut stream = web.connect().await;
    let head = format!(
        "POST /topics/widgets HTTP/1.1\r\nHost: a\r\nAuthorization: {}\r\n\
         Transfer-Encoding: chunked\r\nConnection: close\r\n\r\n",
        basic("demo:x"),
    );
    assert!(stream.send(head).await);
    stream.send(format!("{:x}\r\n{body}\r\n0\r\n\r\n", body.len())).await;
    let answer = stream.read_to_end().await;
    assert_eq!(raw::status(&answer), Some(413), "{answer}");
    assert_eq!(demo.topic("widgets").await["events"], 1);
    assert!(demo.topic("unclaimed").await.is_null());
});
