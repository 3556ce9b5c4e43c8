//! Transport (§1): HTTPS only, on one port, in both versions of HTTP.

use reqwest::{Method, Version};
use routemaster::tls::development::DevelopmentCa;
use serde_json::json;

use crate::support::{Bus, Client, Process, ROOT, Store, basic, event, raw, run};

/// Sends one request in plain text; returns all that comes back.
async fn plain(port: u16, request: &str) -> String {
    let mut stream = raw::connect_tcp(port).await;
    assert!(stream.send(request).await);
    stream.read_to_end().await
}

/// A publish as an HTTP/1.1 request with these further header lines.
fn publish(host: &str, more: &str) -> String {
    let body = event(1).to_string();
    format!(
        "POST /topics/widgets?a=1&b=%20 HTTP/1.1\r\nHost: {host}\r\nAuthorization: {}\r\n\
         {more}Content-Length: {}\r\nConnection: close\r\n\r\n{body}",
        basic("demo:x"),
        body.len(),
    )
}

#[test]
fn plain_http_on_the_same_port_is_redirected_and_not_processed() {
    run(async {
        let bus = Bus::new(&Store::sqlite());
        let server = bus.serve().await;
        let port = server.port();
        for host in [format!("localhost:{port}"), "bus.example:8443".into(), "bus.example".into()] {
            let answer = plain(port, &publish(&host, "")).await;
            assert_eq!(raw::status(&answer), Some(308), "{answer}");
            let location = format!("https://{host}/topics/widgets?a=1&b=%20");
            assert_eq!(raw::header(&answer, "location"), Some(&*location), "{answer}");
        }
        let request = format!("GET / HTTP/1.1\r\nHost: localhost:{port}\r\n\r\n");
        let mut stream = raw::connect_tcp(port).await;
        assert!(stream.send(request).await);
        let answer = stream.read_head().await;
        let location = format!("https://localhost:{port}/");
        assert_eq!(raw::header(&answer, "location"), Some(&*location), "{answer}");
        // A header that only a trusted proxy may set changes nothing.
        let forwarded = publish("localhost", "X-Forwarded-Proto: https\r\n");
        assert_eq!(raw::status(&plain(port, &forwarded).await), Some(308));
        assert!(server.client("demo").topic("widgets").await.is_null());
    });
}

#[test]
fn health_is_told_over_plain_http_on_every_listener() {
    run(async {
        let bus = Bus::new(&Store::sqlite());
        let proxied = Bus::new(&Store::sqlite()).set("ROUTEMASTER_TLS", "off");
        let metrics = Bus::new(&Store::sqlite())
            .set("METRIC_COLLECTION_SERVICE", "prometheus")
            .set("ROUTEMASTER_METRICS_PORT", "0");
        for server in [
            bus.serve().await,
            proxied.web().await,
            metrics.start_at("/metrics", &["worker"]).await,
        ] {
            for path in ["/health", "/health/ping", "/health/ping.json"] {
                for method in ["GET", "HEAD"] {
                    let request = format!(
                        "{method} {path} HTTP/1.1\r\nHost: a.example\r\nConnection: close\r\n\r\n"
                    );
                    let answer = plain(server.port(), &request).await;
                    assert_eq!(raw::status(&answer), Some(200), "{method} {path}: {answer}");
                    assert_eq!(raw::header(&answer, "strict-transport-security"), None);
                }
            }
            let other = "GET /pulse HTTP/1.1\r\nHost: a.example\r\nConnection: close\r\n\r\n";
            assert_eq!(raw::status(&plain(server.port(), other).await), Some(308));
        }
    });
}

/// What real clients send and a strict server would refuse.
#[test]
fn what_lenient_servers_take_is_taken() {
    run(async {
        let bus = Bus::new(&Store::sqlite());
        let server = bus.serve().await;
        let authorization = format!("Authorization: {}", basic("demo:"));
        let ask = async |request: &str| {
            let mut stream = server.connect().await;
            assert!(stream.send(request).await);
            stream.read_to_end().await
        };
        let body = event(1).to_string();
        let length = format!("Content-Length: {}", body.len());
        let post = format!("POST /topics/widgets HTTP/1.0\r\n{authorization}\r\n{length}\r\n");
        for content_type in [
            "",
            "Content-Type: application/x-www-form-urlencoded\r\n",
            "Content-Type: text/plain; charset=utf-8\r\n",
            "Content-Type: nonsense\r\n",
        ] {
            let answer = ask(&format!("{post}{content_type}\r\n{body}")).await;
            assert!(answer.starts_with("HTTP/1.0 204"), "{content_type}{answer}");
        }
        for request in ["GET /topics", "DELETE /topics/widgets"] {
            let close = "Host: localhost\r\nConnection: close\r\nContent-Length: 4";
            let request = format!("{request} HTTP/1.1\r\n{authorization}\r\n{close}\r\n\r\nnull");
            let answer = ask(&request).await;
            assert!(raw::status(&answer).is_some_and(|status| status < 300), "{answer}");
        }
    });
}

#[test]
fn head_is_answered_as_get_without_a_body_and_204_without_a_length() {
    run(async {
        let bus = Bus::new(&Store::sqlite());
        let server = bus.serve().await;
        for protocol in [&b"h2"[..], b"http/1.1"] {
            let client = Client::speaking(server.base(), &bus.ca_path(), protocol);
            let demo = client.with_token("demo");
            for (path, status, length) in [
                ("/pulse", 204, None),
                ("/pulse/scaling", 204, None),
                ("/topics", 200, Some("2")),
                ("/health", 200, Some("2")),
            ] {
                let reply = demo.request(Method::HEAD, path).await.expect(status);
                assert_eq!((reply.header("content-length"), &*reply.body), (length, ""), "{path}");
            }
        }
    });
}

#[test]
fn an_encoded_body_is_refused() {
    run(async {
        let bus = Bus::new(&Store::sqlite());
        let server = bus.web().await;
        let demo = server.client("demo");
        for path in ["/topics/widgets", "/subscription"] {
            let encoded = [("content-encoding", "gzip")];
            let reply = demo.request_with(Method::POST, path, &encoded).await;
            assert!(reply.expect_reason(415).contains("Content-Encoding"));
            let plain = [("content-encoding", "identity")];
            demo.request_with(Method::POST, path, &plain).await.expect(400);
        }
    });
}

#[test]
fn a_host_that_could_break_out_of_the_location_is_refused() {
    run(async {
        let bus = Bus::new(&Store::sqlite());
        let server = bus.serve().await;
        for host in ["a.example/evil", "user@a.example", "a b", "\u{e9}", ""] {
            let request = format!("GET /x HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n");
            let answer = plain(server.port(), &request).await;
            let status = raw::status(&answer);
            assert!(status.is_none_or(|status| status == 400), "{host:?}: {answer}");
        }
        let answer = plain(server.port(), "GET /x HTTP/1.0\r\n\r\n").await;
        assert!(raw::status(&answer).is_none_or(|status| status < 500), "{answer}");
        server.client("demo").get("/topics").await.expect(200);
    });
}

#[test]
fn plain_http_behind_a_trusted_proxy_that_ended_tls_is_processed() {
    run(async {
        let bus = Bus::new(&Store::sqlite());
        let bus = bus.set("ROUTEMASTER_TLS", "off").set("ROUTEMASTER_TRUST_PROXY", "true");
        let server = bus.serve().await;
        assert!(server.base().starts_with("http://"), "{}", server.base());
        let port = server.port();
        for (header, status) in [
            ("X-Forwarded-Proto: https\r\n", 204),
            ("x-forwarded-proto: HTTPS\r\n", 204),
            ("X-Forwarded-Proto: https,http\r\n", 204),
            ("X-Forwarded-Proto: https\r\nX-Forwarded-Proto: http\r\n", 204),
            ("X-Forwarded-Proto: http,https\r\n", 308),
            ("X-Forwarded-Proto: http\r\n", 308),
            ("X-Forwarded-Proto: httpsx\r\n", 308),
            ("", 308),
        ] {
            let answer = plain(port, &publish("localhost", header)).await;
            assert_eq!(raw::status(&answer), Some(status), "{header}: {answer}");
        }
        let client = server.client("demo");
        let topics = client
            .request_with(Method::GET, "/topics", &[("x-forwarded-proto", "https")])
            .await
            .expect(200);
        assert_eq!(topics.json()[0]["events"], 4, "{topics:?}");
    });
}

#[test]
fn without_trust_a_proxy_header_means_nothing() {
    run(async {
        let bus = Bus::new(&Store::sqlite()).set("ROUTEMASTER_TLS", "off");
        let server = bus.serve().await;
        let forwarded = publish("bus.example", "X-Forwarded-Proto: https\r\n");
        let answer = plain(server.port(), &forwarded).await;
        assert_eq!(raw::status(&answer), Some(308), "{answer}");
        let location = "https://bus.example/topics/widgets?a=1&b=%20";
        assert_eq!(raw::header(&answer, "location"), Some(location));
    });
}

/// A bus with a certificate of its own, as one that is served to others has.
fn with_certificate(bus: Bus) -> Bus {
    let identity = DevelopmentCa::open_or_create(&bus.data_dir()).unwrap().issue().unwrap();
    std::fs::write(bus.directory().join("cert.pem"), identity.certificate).unwrap();
    std::fs::write(bus.directory().join("key.pem"), identity.key).unwrap();
    bus.set("ROUTEMASTER_TLS_CERT", "cert.pem").set("ROUTEMASTER_TLS_KEY", "key.pem")
}

/// The value of `Strict-Transport-Security` in the answer to a request for this host, if there is one.
async fn hsts(server: &Process, host: &str) -> Option<String> {
    let mut stream = server.connect().await;
    let request = format!("GET /health HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n");
    assert!(stream.send(request).await);
    let answer = stream.read_to_end().await;
    assert_eq!(raw::status(&answer), Some(200), "{answer}");
    raw::header(&answer, "strict-transport-security").map(str::to_owned)
}

#[test]
fn a_browser_is_bound_to_https_for_no_host_that_others_share() {
    run(async {
        let bus = with_certificate(Bus::new(&Store::sqlite()));
        let server = bus.web().await;
        for (host, bound) in [
            ("bus.example", true),
            ("bus.example:17890", true),
            ("localhost", false),
            ("localhost:17890", false),
            ("127.0.0.1:17890", false),
            ("[::1]", false),
        ] {
            let hsts = hsts(&server, host).await;
            assert_eq!(hsts.is_some(), bound, "{host}: {hsts:?}");
        }
        let bus = Bus::new(&Store::sqlite());
        let server = bus.web().await;
        assert_eq!(hsts(&server, "bus.example").await, None, "with the development certificate");
    });
}

on_both_stores!(every_answer_over_tls_says_to_stay_with_it, |store| async move {
    let bus = with_certificate(Bus::new(&store)).set("ROUTEMASTER_MAX_BODY", "2000");
    let server = bus.serve().await;
    // The clients know the bus by a name that is not this machine's.
    let named = |client: Client| client.for_host("bus.example");
    let (demo, alice) = (named(server.client("demo")), named(server.client("alice")));
    let large = "x".repeat(2001);
    let replies = [
        (200, demo.get("/health").await),
        (200, demo.get("/topics").await),
        (201, named(server.client(ROOT)).post("/api_tokens", r#"{"name":"svc"}"#).await),
        (204, demo.publish("widgets", &event(1)).await),
        (204, demo.get("/pulse").await),
        (400, demo.publish("widgets", &json!({})).await),
        (401, named(server.anonymous()).get("/topics").await),
        (403, alice.publish("widgets", &event(1)).await),
        (404, demo.get("/nowhere").await),
        (404, demo.delete("/subscriber").await),
        (405, demo.delete("/topics").await),
        (413, demo.post("/topics/widgets", large).await),
    ];
    for (status, reply) in replies {
        let reply = reply.expect(status);
        let hsts = reply.header("strict-transport-security").unwrap_or_default();
        assert!(hsts.contains("max-age="), "{reply:?}");
    }
});

on_both_stores!(http_1_and_http_2_are_both_spoken, |store| async move {
    let bus = Bus::new(&store);
    let server = bus.serve().await;
    for (protocol, version) in [(&b"h2"[..], Version::HTTP_2), (b"http/1.1", Version::HTTP_11)] {
        let client = Client::speaking(server.base(), &bus.ca_path(), protocol);
        client.get("/topics").await.expect(401);
        let demo = client.with_token("demo");
        for reply in [
            demo.publish("widgets", &event(1)).await.expect(204),
            demo.publish("widgets", &json!({"type": "x"})).await.expect(400),
            demo.get("/topics").await.expect(200),
        ] {
            assert_eq!(reply.version, version);
        }
    }
    assert_eq!(server.client("demo").topic("widgets").await["events"], 2);
});

on_both_stores!(many_requests_share_one_http_2_connection, |store| async move {
    let bus = Bus::new(&store);
    let server = bus.serve().await;
    let demo = Client::speaking(server.base(), &bus.ca_path(), b"h2").with_token("demo");
    demo.claims("widgets").await;
    let publishes = (1..=50).map(|number| {
        let demo = demo.clone();
        tokio::spawn(async move { demo.publish("widgets", &event(number)).await.status })
    });
    for publish in publishes.collect::<Vec<_>>() {
        assert_eq!(publish.await.unwrap(), 204);
    }
    assert_eq!(demo.topic("widgets").await["events"], 51);
});

on_both_stores!(a_page_of_another_site_changes_nothing, |store| async move {
    let bus = Bus::new(&store);
    let server = bus.serve().await;
    for protocol in [&b"h2"[..], b"http/1.1"] {
        let demo = Client::speaking(server.base(), &bus.ca_path(), protocol).with_token("demo");
        let own = server.base();
        for (headers, status) in [
            ([("origin", "https://evil.example")], 403),
            ([("sec-fetch-site", "cross-site")], 403),
            ([("origin", own)], 404),
            ([("sec-fetch-site", "same-origin")], 404),
        ] {
            let reply = demo.request_with(Method::DELETE, "/topics/widgets", &headers).await;
            reply.expect_reason(status);
            demo.request_with(Method::GET, "/topics", &headers).await.expect(200);
        }
    }
});
