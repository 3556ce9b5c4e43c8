//! Listeners without TLS (§8): what the originals' clients find where they spoke plain HTTP.

use serde_json::json;

use crate::support::{Bus, Client, Process, soon};

/// The plain listeners that a process says it has, the last of which is at this address.
async fn plain(server: &Process, bus: &Bus, last: &str) -> Vec<Client> {
    let last = format!("plain    http://{last}");
    soon("its listeners", server.stdout.line_with(&last)).await.expect("the process runs");
    let lines = server.stdout.text();
    let addresses = lines.lines().filter_map(|line| line.trim().strip_prefix("plain "));
    addresses.map(|base| Client::new(base.trim(), &bus.ca_path()).beside_the_api()).collect()
}

on_both_stores!(they_take_calls_and_postbacks_and_nothing_else, |store| async move {
    let bus = Bus::new(&store).set("ROUTEMASTER_PLAIN_BIND", "127.0.0.1:0,[::1]:0");
    let server = bus.serve().await;
    let receiver = bus.receiver().await;
    let listeners = plain(&server, &bus, "[::1]").await;
    assert_eq!(listeners.len(), 2, "{}", server.stdout.text());
    for listener in &listeners {
        let demo = listener.with_token("demo");
        demo.post("/calls", json!({"url": receiver.url()}).to_string()).await.expect(202);
        demo.post("/", json!({"url": receiver.url()}).to_string()).await.expect(202);
        let endpoint = json!({"method": "GET", "url": receiver.url()});
        let body = json!({"endpoint": endpoint, "data": [{}]}).to_string();
        demo.post("/ingest.php", body).await.expect(200);
        listener.get("/health").await.expect(200);
        for path in ["/topics", "/subscriptions", "/api_tokens", "/metrics", "/dead_letters"] {
            demo.get(path).await.expect(404);
        }
        demo.post("/topics/widgets", "{}").await.expect(404);
        demo.get("/calls").await.expect(405);
        listener.post("/calls", "{}").await.expect(401);
    }
    receiver.attempts(6).await;
});

on_both_stores!(one_that_redirects_names_the_port_of_https, |store| async move {
    let bus = Bus::new(&store).set("ROUTEMASTER_REDIRECT_BIND", "127.0.0.1:0");
    let server = bus.web().await;
    let listener = &plain(&server, &bus, "127.0.0.1").await[0];
    listener.get("/health").await.expect(200);
    let reply = listener.get("/topics?a=b").await.expect(308);
    let expected = format!("https://127.0.0.1:{}/topics?a=b", server.port());
    assert_eq!(reply.header("location"), Some(expected.as_str()));
    assert_eq!(listener.post("/calls", "{}").await.status, 308);
});
