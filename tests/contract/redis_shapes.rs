//! Redis in its other shapes (§0): behind TLS and a password, behind Sentinels, as a Cluster.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
};
use serde_json::json;
use tempfile::TempDir;
use tokio::task::JoinHandle;

use crate::support::{
    Bus, Client, Receiver, RedisCluster, RedisSentinels, RedisServer, Store, event, eventually,
    first_seen, free_port, run,
};

/// How soon publishing must be back when another server has taken over.
const RESUMED: Duration = Duration::from_secs(15);

/// How many events are delivered one after the other to see whether wake-ups are heard, and the time in
/// which they would not all be without.
const WOKEN: u64 = 8;
const WOKEN_WITHIN: Duration = Duration::from_secs(4);

fn bus_on(redis_url: &str) -> Bus {
    Bus::new(&Store::sqlite()).set("ROUTEMASTER_REDIS_URL", redis_url)
}

/// A certificate authority, and certificates it has given to a Redis and to the bus.
struct Certificates(TempDir);

impl Certificates {
    fn make() -> Self {
        let made = Self(TempDir::new().unwrap());
        let mut ca = CertificateParams::new(vec![]).unwrap();
        ca.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        made.write("ca.pem", &ca.self_signed(&key).unwrap().pem());
        let issuer = Issuer::new(ca, key);
        for (name, purpose) in [
            ("server", ExtendedKeyUsagePurpose::ServerAuth),
            ("client", ExtendedKeyUsagePurpose::ClientAuth),
        ] {
            let mut params = CertificateParams::new(vec!["localhost".into()]).unwrap();
            params.distinguished_name.push(DnType::CommonName, name);
            params.extended_key_usages = vec![purpose];
            let key = KeyPair::generate().unwrap();
            let certificate = params.signed_by(&key, &issuer).unwrap();
            made.write(&format!("{name}.pem"), &certificate.pem());
            made.write(&format!("{name}.key"), &key.serialize_pem());
        }
        made
    }

    fn write(&self, name: &str, text: &str) {
        std::fs::write(self.0.path().join(name), text).unwrap();
    }

    fn path(&self, name: &str) -> String {
        self.0.path().join(name).display().to_string()
    }

    /// A Redis that takes who shows a certificate and knows the password, and its TLS port.
    fn redis(&self) -> (RedisServer, u16) {
        let port = free_port();
        let server = RedisServer::start_with(&[
            "--save",
            "",
            "--tls-port",
            &port.to_string(),
            "--tls-cert-file",
            &self.path("server.pem"),
            "--tls-key-file",
            &self.path("server.key"),
            "--tls-ca-cert-file",
            &self.path("ca.pem"),
            "--tls-auth-clients",
            "yes",
        ]);
        // No more rights than docs/redis.md says are enough.
        let rights = ["~rm:*", "&rm:*", "+@all", "-@dangerous", "+info"];
        let user = ["ACL", "SETUSER", "bus", "on", ">s3cr3t"];
        server.command(&[user.as_slice(), &rights].concat()).unwrap();
        (server, port)
    }
}

#[test]
fn a_redis_behind_tls_takes_the_bus_with_its_certificate_and_password() {
    run(async {
        let certificates = Certificates::make();
        let (server, port) = certificates.redis();
        let url = format!("rediss://bus:s3cr3t@localhost:{port}");
        let bus = bus_on(&url)
            .set("ROUTEMASTER_REDIS_CA_FILE", &certificates.path("ca.pem"))
            .set("ROUTEMASTER_REDIS_CERT", &certificates.path("client.pem"))
            .set("ROUTEMASTER_REDIS_KEY", &certificates.path("client.key"));
        let (web, _worker) = (bus.web().await, bus.worker().await);
        let (demo, receiver) = (web.client("demo"), bus.receiver().await);
        demo.claims("widgets").await;
        demo.subscribes(&receiver, &["widgets"], json!({"timeout": 0})).await;
        demo.publishes("widgets", 1..=3).await;
        assert_eq!(receiver.numbers(3).await, [1, 2, 3]);
        let listening = async || {
            let clients = server.command(&["CLIENT", "LIST"]).unwrap();
            let mut of_bus = clients.lines().filter(|client| client.contains("user=bus"));
            of_bus.any(|client| !client.contains(" sub=0 ")).then_some(())
        };
        eventually("the worker listens for wake-ups", listening).await;
        assert!(!web.stderr.text().contains("s3cr3t") && !web.stdout.text().contains("s3cr3t"));
    });
}

#[test]
fn a_redis_behind_tls_is_refused_with_what_is_wrong_and_without_the_password() {
    run(async {
        let certificates = Certificates::make();
        let (_server, port) = certificates.redis();
        let ca = certificates.path("ca.pem");
        let (cert, key) = (certificates.path("client.pem"), certificates.path("client.key"));
        let with = |password: &str, files: &[(&str, &str)]| {
            let url = format!("rediss://bus:{password}@localhost:{port}");
            let bus = bus_on(&url);
            files.iter().fold(bus, |bus, (name, file)| bus.set(name, file))
        };
        let trusted = ("ROUTEMASTER_REDIS_CA_FILE", ca.as_str());
        let shown =
            [("ROUTEMASTER_REDIS_CERT", cert.as_str()), ("ROUTEMASTER_REDIS_KEY", key.as_str())];
        for (what, bus, expected) in [
            ("an unknown authority", with("s3cr3t", &shown), "an authority that is not trusted"),
            ("no certificate", with("s3cr3t", &[trusted]), "ertificate"),
            ("a wrong password", with("wr0ng", &[trusted, shown[0], shown[1]]), "WRONGPASS"),
        ] {
            let ended = bus.run(&["doctor", "--json"]).await;
            assert_eq!(ended.code, Some(1), "{what}: {}", ended.stdout);
            assert!(ended.stdout.contains(expected), "{what}: {}", ended.stdout);
            for secret in ["s3cr3t", "wr0ng"] {
                assert!(!ended.stdout.contains(secret) && !ended.stderr.contains(secret), "{what}");
            }
        }
        let half = with("s3cr3t", &[trusted, shown[0]]).run(&["serve"]).await;
        assert_eq!(half.code, Some(2));
        assert!(
            half.stderr.contains("ROUTEMASTER_REDIS_KEY must be set together"),
            "{}",
            half.stderr
        );
    });
}

/// Publishes numbered events, one after the other, until it is told to stop; what is refused, or not
/// answered, is published again under the next number.
struct Publishing {
    accepted: Arc<AtomicU64>,
    task: JoinHandle<Vec<u64>>,
}

impl Publishing {
    fn start(client: Client, topic: &'static str) -> Self {
        let accepted = Arc::new(AtomicU64::new(0));
        let count = accepted.clone();
        let task = tokio::spawn(async move {
            let mut numbers = Vec::new();
            for number in 1.. {
                if count.load(Ordering::SeqCst) == u64::MAX {
                    break;
                }
                if client.try_publish(topic, &event(number)).await {
                    numbers.push(number);
                    let _ = count.try_update(Ordering::SeqCst, Ordering::SeqCst, |count| {
                        (count != u64::MAX).then(|| count + 1)
                    });
                }
            }
            numbers
        });
        Self { accepted, task }
    }

    /// Waits until so many more events are accepted.
    async fn goes_on(&self, more: u64) -> Duration {
        let before = self.accepted.load(Ordering::SeqCst);
        let reached =
            async || (self.accepted.load(Ordering::SeqCst) >= before + more).then_some(());
        eventually("publishing goes on", reached).await.1
    }

    /// Stops, and returns the numbers of all events that were accepted.
    async fn stop(self) -> Vec<u64> {
        self.accepted.store(u64::MAX, Ordering::SeqCst);
        self.task.await.unwrap()
    }
}

/// Checks that every accepted event arrived, and that each was first seen in order.
async fn has_all_in_order(receiver: &Receiver, accepted: &[u64]) {
    let last = *accepted.last().unwrap();
    let seen = first_seen(&receiver.arrival(last).await);
    assert!(seen.is_sorted(), "out of order: {seen:?}");
    let missing: Vec<_> = accepted.iter().filter(|number| !seen.contains(number)).collect();
    assert!(missing.is_empty(), "accepted and lost: {missing:?}");
}

#[test]
fn a_forced_failover_loses_nothing_that_a_replica_was_waited_for() {
    run(async {
        let redis = RedisSentinels::start(1).await;
        let bus = bus_on(&redis.url()).set("ROUTEMASTER_REDIS_WAIT_REPLICAS", "1");
        // Without a worker: what an old master still accepts must not get out before it is lost.
        let web = bus.web().await;
        let (demo, receiver) = (web.client("demo"), bus.receiver().await);
        demo.claims("widgets").await;
        demo.subscribes(&receiver, &["widgets"], json!({"timeout": 0})).await;
        let publishing = Publishing::start(demo, "widgets");
        publishing.goes_on(100).await;
        redis.fail_over().await;
        // A Sentinel tells the old master at its next look, which can take 10 s.
        redis.becomes(0, "slave").await;
        let back = publishing.goes_on(100).await;
        println!("publishing was back {back:?} after the old master had been demoted");
        let _worker = bus.worker().await;
        let accepted = publishing.stop().await;
        has_all_in_order(&receiver, &accepted).await;
    });
}

#[test]
fn a_master_that_hangs_is_left_for_the_one_that_took_over() {
    run(async {
        let redis = RedisSentinels::start(1).await;
        let bus = bus_on(&redis.url());
        let (web, _worker) = (bus.web().await, bus.worker().await);
        let (demo, receiver) = (web.client("demo"), bus.receiver().await);
        demo.claims("widgets").await;
        demo.subscribes(&receiver, &["widgets"], json!({"timeout": 0})).await;
        demo.publishes("widgets", 1..=1).await;
        receiver.numbers(1).await;
        let publishing = Publishing::start(demo.clone(), "widgets");
        publishing.goes_on(20).await;
        redis.servers[0].pause();
        redis.becomes(1, "master").await;
        let promoted = Instant::now();
        publishing.goes_on(20).await;
        assert!(promoted.elapsed() < RESUMED, "publishing was back after {:?}", promoted.elapsed());
        let accepted = publishing.stop().await;
        let last = accepted[accepted.len() - 1];
        receiver.arrival(last).await;
        // The old master still hangs, and nobody listens to it for wake-ups any more: else each of these
        // would wait for the worker's next look, a second later.
        let begun = Instant::now();
        for number in last + 1..=last + WOKEN {
            demo.publish("widgets", &event(number)).await.expect(204);
            receiver.arrival(number).await;
        }
        assert!(begun.elapsed() < WOKEN_WITHIN, "{:?} for {WOKEN} events", begun.elapsed());
    });
}

#[test]
fn publishers_hear_503_while_too_few_replicas_are_there() {
    run(async {
        let store = Store::redis();
        let bus = Bus::new(&store).set("ROUTEMASTER_REDIS_WAIT_REPLICAS", "1");
        let web = bus.web().await;
        let reply = web.client("demo").publish("widgets", &event(1)).await;
        assert!(reply.header("retry-after").is_some(), "{reply:?}");
        reply.expect_reason(503);
        assert!(web.stderr.line_with("0 of 1 replicas have the change").await.is_some());
    });
}

const SUBSCRIBERS: usize = 12;

#[test]
fn a_cluster_delivers_from_all_nodes_while_slots_move() {
    run(async {
        let cluster = RedisCluster::start().await;
        let names: Vec<String> = (0..SUBSCRIBERS).map(|number| format!("s{number}")).collect();
        let clients = format!("demo,{}", names.join(","));
        let bus = bus_on(&cluster.url()).set("ROUTEMASTER_CLIENTS", &clients);
        let web = bus.web().await;
        let _workers = (bus.worker().await, bus.worker().await);
        let demo = web.client("demo");
        demo.claims("widgets").await;
        let mut receivers = Vec::new();
        for name in &names {
            let receiver = bus.receiver().await;
            let more = json!({"timeout": 0, "max": 50});
            web.client(name).subscribes(&receiver, &["widgets"], more).await;
            receivers.push(receiver);
        }
        assert!(cluster.keys().iter().all(|keys| *keys > 0), "{:?}", cluster.keys());

        let publishing = Publishing::start(demo.clone(), "widgets");
        publishing.goes_on(100).await;
        for lane in ["{1}", "{3}", "{1}"] {
            let slot = cluster.slot_of(lane);
            let to = (cluster.owner_of(slot) + 1) % 3;
            // Publishers and workers meet the lane in two halves.
            let meanwhile = tokio::time::sleep(Duration::from_millis(700));
            cluster.move_slot(slot, to, meanwhile).await;
            let back = publishing.goes_on(50).await;
            println!("50 events were published {back:?} after slot {slot} had moved to {to}");
        }
        let accepted = publishing.stop().await;
        for receiver in &receivers {
            has_all_in_order(receiver, &accepted).await;
        }
        let subscriptions = demo.get("/subscriptions").await.expect(200).json();
        assert_eq!(subscriptions.as_array().unwrap().len(), SUBSCRIBERS);
        demo.delete("/topics/widgets").await.expect(204);
        let topics = |row: &serde_json::Value| row["topics"].as_array().unwrap().len();
        let left = demo.get("/subscriptions").await.expect(200).json();
        assert!(left.as_array().unwrap().iter().all(|row| topics(row) == 0), "{left}");
    });
}

#[test]
fn a_cluster_replays_what_is_kept_to_subscribers_in_any_lane() {
    run(async {
        let cluster = RedisCluster::start().await;
        let names: Vec<String> = (0..SUBSCRIBERS).map(|number| format!("s{number}")).collect();
        let clients = format!("demo,{}", names.join(","));
        let bus = bus_on(&cluster.url()).set("ROUTEMASTER_CLIENTS", &clients);
        let (web, _worker) = (bus.web().await, bus.worker().await);
        let demo = web.client("demo");
        demo.claims("widgets").await;
        demo.put("/topics/widgets/keep", r#"{"ms": 3600000, "bytes": 100000}"#).await.expect(204);
        demo.publishes("widgets", 1..=5).await;
        for name in &names {
            let (client, receiver) = (web.client(name), bus.receiver().await);
            client.subscribes(&receiver, &["widgets"], json!({"timeout": 0})).await;
            let replay = client.post("/subscription/replay", r#"{"since": 0}"#).await.expect(200);
            assert_eq!(replay.json()["replayed"], 5);
            assert_eq!(receiver.numbers(5).await, [1, 2, 3, 4, 5]);
        }
        let since = r#"{"topics": ["widgets"], "pull": true, "since": 0}"#;
        demo.post("/subscription", since).await.expect_reason(400);
    });
}

#[test]
fn a_node_of_a_cluster_that_hangs_is_left_for_its_replica() {
    run(async {
        let mut cluster = RedisCluster::start_with_replicas(1).await;
        let bus = bus_on(&cluster.url());
        let (web, _worker) = (bus.web().await, bus.worker().await);
        let (demo, receiver) = (web.client("demo"), bus.receiver().await);
        demo.claims("widgets").await;
        demo.subscribes(&receiver, &["widgets"], json!({"timeout": 0})).await;
        let publishing = Publishing::start(demo, "widgets");
        publishing.goes_on(20).await;
        let node = cluster.owner_of(cluster.slot_of("{0}"));
        cluster.server(node).pause();
        cluster.has_masters_without(node).await;
        let promoted = Instant::now();
        publishing.goes_on(20).await;
        assert!(promoted.elapsed() < RESUMED, "publishing was back after {:?}", promoted.elapsed());
        let last = *publishing.stop().await.last().unwrap();
        receiver.arrival(last).await;
    });
}

/// A Redis with a user that lacks some rights; the URL to be that user.
fn server_with_user(lacking: &[&str]) -> (RedisServer, String) {
    let server = RedisServer::start();
    let mut words = vec!["ACL", "SETUSER", "limited", "on", ">pw", "~*", "&*", "+@all"];
    words.extend(lacking);
    server.command(&words).unwrap();
    let url = format!("redis://limited:pw@localhost:{}", server.port());
    (server, url)
}

#[test]
fn a_redis_user_without_all_rights_is_told_of_at_the_start() {
    run(async {
        for (lacking, named) in [
            ("-publish", "PUBLISH"),
            ("-hvals", "HVALS"),
            ("-evalsha", "evalsha"),
            ("-info", "info"),
            ("resetchannels", "PUBLISH"),
        ] {
            let (_server, url) = server_with_user(&[lacking]);
            let bus = bus_on(&url);
            let ended = bus.run(&["serve"]).await;
            assert_eq!(ended.code, Some(1), "{lacking}: {}", ended.stderr);
            assert!(ended.stderr.contains(named), "{lacking}: {}", ended.stderr);
            assert!(ended.stderr.contains("ACL SETUSER"), "{lacking}: {}", ended.stderr);
            let doctor = bus.run(&["doctor"]).await;
            assert!(doctor.stdout.contains(named), "{lacking}: {}", doctor.stdout);
        }
        let (server, url) = server_with_user(&["-@dangerous", "+info"]);
        bus_on(&url).serve().await;
        let keys = server.command(&["KEYS", "*rights*"]).unwrap();
        assert!(!keys.contains("rights"), "nothing is left of the asking: {keys}");
    });
}

#[test]
fn a_right_that_is_taken_away_later_makes_no_event_come_twice() {
    run(async {
        let (server, url) = server_with_user(&[]);
        let bus = bus_on(&url);
        let serve = bus.serve().await;
        let (demo, receiver) = (serve.client("demo"), bus.receiver().await);
        demo.claims("widgets").await;
        demo.subscribes(&receiver, &["widgets"], json!({"timeout": 0})).await;
        server.command(&["ACL", "SETUSER", "limited", "-publish"]).unwrap();
        demo.publishes("widgets", 1..=5).await;
        assert_eq!(receiver.numbers(5).await, [1, 2, 3, 4, 5]);
        assert_eq!(demo.topic("widgets").await["events"], 6, "with the first one");
    });
}
