//! Bad input beyond single fields: what no route is made for gets an error, never a 5xx.

use reqwest::Method;
use serde_json::json;

use crate::support::{Bus, Client, ROOT, Store, basic, event, raw, run};

#[test]
fn an_unknown_route_is_404() {
    run(async {
        let bus = Bus::new(&Store::sqlite());
        let server = bus.serve().await;
        for client in [server.client("demo"), server.client(ROOT)] {
            for path in [
                "/nowhere",
                "/topic",
                "/topics/",
                "/topics/widgets/more",
                "/Topics",
                "/subscriber/topics",
                "/subscription/",
                "/pulse/other",
                "/health/",
                "/api_token",
                "/topics%2F",
                "/%ff",
            ] {
                let reply = client.get(path).await;
                assert_eq!(reply.status, 404, "{path}: {reply:?}");
            }
        }
    });
}

#[test]
fn a_method_that_a_route_does_not_have_is_405_with_those_it_has() {
    run(async {
        let bus = Bus::new(&Store::sqlite());
        let server = bus.serve().await;
        let demo = server.client("demo");
        for (path, allowed) in [
            ("/topics", &["GET"][..]),
            ("/topics/widgets", &["POST", "DELETE"]),
            ("/topic/widgets", &["DELETE"]),
            ("/subscription", &["GET", "POST", "DELETE"]),
            ("/subscriber", &["GET", "POST", "DELETE"]),
            ("/subscriptions", &["GET"]),
            ("/subscribers", &["GET"]),
            ("/subscriber/topics/widgets", &["DELETE"]),
            ("/pulse", &["GET"]),
            ("/pulse/scaling", &["GET"]),
            ("/health", &["GET"]),
            ("/health/ping", &["GET"]),
            ("/health/ping.json", &["GET"]),
            ("/api_tokens", &["GET", "POST"]),
            ("/api_tokens/demo", &["DELETE"]),
        ] {
            for method in ["GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "BREW"] {
                if allowed.contains(&method) {
                    continue;
                }
                let method = Method::from_bytes(method.as_bytes()).unwrap();
                let reply = demo.request(method.clone(), path).await;
                assert_eq!(reply.status, 405, "{method} {path}: {reply:?}");
                let header = reply.header("allow").unwrap_or_default().to_owned();
                let listed: Vec<&str> = header.split(',').map(str::trim).collect();
                for name in allowed {
                    assert!(listed.contains(name), "{method} {path}: Allow is `{header}`");
                }
                assert!(!listed.contains(&method.as_str()), "{path}: Allow is `{header}`");
                reply.expect_reason(405);
            }
        }
    });
}

/// Sends bytes over TLS, reads until the bus closes, and requires that it is no 5xx.
async fn harmless(port: u16, ca: &std::path::Path, request: &[u8]) -> Option<u16> {
    let mut stream = raw::connect_tls(port, ca).await;
    stream.send(request).await;
    let answer = stream.read_to_end().await;
    let status = raw::status(&answer);
    let shown = String::from_utf8_lossy(&request[..request.len().min(80)]).into_owned();
    assert!(status.is_none_or(|status| status < 500 && status != 204), "{shown}: {answer}");
    status
}

on_both_stores!(broken_requests_are_errors_and_harm_nobody, |store| async move {
    let bus = Bus::new(&store)
        .set("ROUTEMASTER_IDLE_TIMEOUT", "1")
        .set("ROUTEMASTER_BODY_TIMEOUT", "1")
        .set("ROUTEMASTER_FIRST_REQUEST_TIMEOUT", "1");
    let mut server = bus.serve().await;
    let (port, ca) = (server.port(), bus.ca_path());
    let auth = basic("demo:x");
    let body = event(1).to_string();
    let length = body.len();
    let publish = |headers: &str| {
        format!("POST /topics/widgets HTTP/1.1\r\nHost: a\r\nAuthorization: {auth}\r\n{headers}")
    };
    for request in [
        "\r\n\r\n\r\n\r\n".to_owned(),
        "GET\r\n\r\n".into(),
        "GET /topics\r\n\r\n".into(),
        "GET /topics HTTP/9.9\r\n\r\n".into(),
        "G\u{0}T /topics HTTP/1.1\r\n\r\n".into(),
        "GET /to pics HTTP/1.1\r\nHost: a\r\n\r\n".into(),
        "GET topics HTTP/1.1\r\nHost: a\r\n\r\n".into(),
        "GET /topics HTTP/1.1\r\nno colon\r\n\r\n".into(),
        "GET /topics HTTP/1.1\r\nHost: a\r\nX: \u{0}\r\n\r\n".into(),
        "CONNECT a.example:443 HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n".into(),
        publish(&format!("Content-Length: -1\r\n\r\n{body}")),
        publish(&format!("Content-Length: 99999999999999999999\r\n\r\n{body}")),
        publish(&format!("Content-Length: 5\r\nContent-Length: 6\r\n\r\n{body}")),
        publish("Transfer-Encoding: chunked\r\n\r\nZZ\r\n"),
        publish("Transfer-Encoding: chunked\r\n\r\nffffffffffffffffff\r\n"),
        publish("Transfer-Encoding: nonsense\r\n\r\n"),
        // The body ends before it is whole.
        publish(&format!("Content-Length: {}\r\n\r\n{body}", length + 100)),
        publish(&format!("Transfer-Encoding: chunked\r\n\r\n{length:x}\r\n{body}\r\n")),
    ] {
        harmless(port, &ca, request.as_bytes()).await;
    }
    let mut noise = fastrand::Rng::with_seed(7);
    for _ in 0..5 {
        let bytes: Vec<u8> = std::iter::repeat_with(|| noise.u8(..)).take(2000).collect();
        harmless(port, &ca, &bytes).await;
        let mut stream = raw::connect_tcp(port).await;
        stream.send(&bytes).await;
        stream.read_to_end().await;
    }
    assert!(server.is_running());
    assert!(server.client("demo").topic("widgets").await.is_null());
});

on_both_stores!(a_flood_of_headers_is_refused, |store| async move {
    let bus = Bus::new(&store).set("ROUTEMASTER_IDLE_TIMEOUT", "2");
    let mut server = bus.serve().await;
    let (port, ca) = (server.port(), bus.ca_path());
    let auth = basic("demo:x");
    let start = format!("GET /pulse HTTP/1.1\r\nHost: a\r\nAuthorization: {auth}\r\n");
    let many: String = (0..20_000).map(|number| format!("X-{number}: y\r\n")).collect();
    let flood = format!("{start}{many}\r\n");
    harmless(port, &ca, flood.as_bytes()).await;
    let large = format!("{start}X: {}\r\n\r\n", "y".repeat(4_000_000));
    harmless(port, &ca, large.as_bytes()).await;
    let path = format!("GET /{} HTTP/1.1\r\nHost: a\r\n\r\n", "y".repeat(1_000_000));
    harmless(port, &ca, path.as_bytes()).await;

    // The same over HTTP/2, where there is no reply or one that says no.
    let client = Client::speaking(server.base(), &ca, b"h2").with_token("demo");
    let value = "y".repeat(60_000);
    let names: Vec<String> = (0..10).map(|number| format!("x-{number}")).collect();
    let headers: Vec<(&str, &str)> = names.iter().map(|name| (&**name, &*value)).collect();
    if let Ok(reply) = client.try_send(Method::GET, "/pulse", &headers, "").await {
        assert_eq!(reply.status, 431, "{reply:?}");
    }
    assert!(server.is_running());
    server.client("demo").get("/pulse").await.expect(204);
});

on_both_stores!(deep_or_strange_json_never_harms_the_bus, |store| async move {
    let bus = Bus::new(&store);
    let mut server = bus.serve().await;
    let demo = server.client("demo");
    let deep = |open: &str, depth: usize| open.repeat(depth);
    for body in [
        deep("[", 500_000),
        deep("{\"a\":", 150_000),
        deep("[{\"data\":", 100_000),
        format!("[{}", deep("{},", 300_000)),
        format!("{{\"type\":\"create\",\"url\":{}", deep("[", 500_000)),
        format!("{{\"type\":\"create\",\"url\":\"https://a.example\",\"data\":{}", deep("[", 9000)),
        format!("{}1", deep("9", 1_000_000)),
        "1e999999999".into(),
        "\u{feff}{}".into(),
    ] {
        for path in ["/topics/widgets", "/subscription", "/api_tokens"] {
            let client = if path == "/api_tokens" { server.client(ROOT) } else { demo.clone() };
            let reply = client.post(path, body.clone()).await;
            let shown = &body[..body.len().min(30)];
            assert!([400, 413].contains(&reply.status), "{path} {shown}: {reply:?}");
            assert!(reply.body.len() < 1000, "{path} {shown}: a reason of {}", reply.body.len());
        }
    }
    assert!(server.is_running());
    assert_eq!(demo.get("/topics").await.expect(200).json(), json!([]));
    assert_eq!(demo.get("/subscriptions").await.expect(200).json(), json!([]));
});
