//! Receivers that speak HTTP or TLS badly (§4): what is no whole answer acknowledges nothing, the
//! batch is sent again, and who behaves well is delivered to meanwhile.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use routemaster::tls::development::{DevelopmentCa, Identity};
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

use crate::support::{Bus, Process, soon};

/// The head of an acknowledgement; the connection stays.
const OK: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n";

/// What a receiver does with the first requests; then it acknowledges.
#[derive(Clone, Copy, Debug)]
enum Manner {
    /// Resets the connection when it has read the head.
    ResetInBody,
    /// Answers this, and closes.
    Says(&'static [u8]),
    /// Answers 200, a byte at a time.
    Drips,
    /// Answers that there is an answer to come (1xx), again and again.
    Promises,
    /// Takes the connection and never does its part of the handshake.
    StallsTls,
    /// Speaks something else than TLS.
    NoTls,
    /// Acknowledges, and closes the idle connection within milliseconds, without a word before.
    ClosesSoon,
}

type Tls = tokio_rustls::server::TlsStream<TcpStream>;

/// A receiver that is told what bytes to send. It offers HTTP/2 first, and would not understand it.
struct RawReceiver {
    port: u16,
    /// The bodies of the requests that it acknowledged, and each one's `Routemaster-Attempt`.
    acknowledged: watch::Receiver<Vec<(String, String)>>,
    /// Connections that went on with an earlier one's TLS session.
    resumed: Arc<AtomicUsize>,
}

/// Reads one request; `None` if the connection ends before it is whole.
async fn read_request(stream: &mut Tls) -> Option<(String, String)> {
    let mut head = vec![];
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await.ok()?);
    }
    let head = String::from_utf8(head).unwrap().to_lowercase();
    let header = |name: &str| {
        let line = head.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "));
        line.unwrap_or_default().to_owned()
    };
    let mut body = vec![0; header("content-length").parse().unwrap()];
    stream.read_exact(&mut body).await.ok()?;
    Some((String::from_utf8(body).unwrap(), header("routemaster-attempt")))
}

impl RawReceiver {
    /// Starts one that treats so many requests or connections badly first.
    async fn start(identity: &Identity, manner: Manner, badly: usize) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let tls = routemaster::tls::server::from_identity(identity).unwrap();
        let acceptor = tokio_rustls::TlsAcceptor::from(tls);
        let (sender, acknowledged) = watch::channel(vec![]);
        let (sender, bad) = (Arc::new(sender), Arc::new(AtomicUsize::new(badly)));
        let resumed = Arc::new(AtomicUsize::default());
        let counted = resumed.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (acceptor, sender, bad) = (acceptor.clone(), sender.clone(), bad.clone());
                let counted = counted.clone();
                tokio::spawn(async move {
                    let is_bad = || {
                        let less = |left: usize| left.checked_sub(1);
                        bad.fetch_update(Ordering::SeqCst, Ordering::SeqCst, less).is_ok()
                    };
                    serve(stream, acceptor, manner, is_bad, &sender, &counted).await;
                });
            }
        });
        Self { port, acknowledged, resumed }
    }

    fn url(&self) -> String {
        format!("https://localhost:{}/events", self.port)
    }

    async fn acknowledges(&self, count: usize) -> Vec<(String, String)> {
        let mut acknowledged = self.acknowledged.clone();
        let enough = |all: &Vec<(String, String)>| all.len() >= count;
        soon("batches are acknowledged", acknowledged.wait_for(enough)).await.unwrap().clone()
    }
}

async fn serve(
    stream: TcpStream,
    acceptor: tokio_rustls::TlsAcceptor,
    manner: Manner,
    is_bad: impl Fn() -> bool,
    acknowledged: &watch::Sender<Vec<(String, String)>>,
    resumed: &AtomicUsize,
) {
    match manner {
        Manner::StallsTls if is_bad() => return std::future::pending().await,
        Manner::NoTls if is_bad() => {
            let mut stream = stream;
            let _ = stream.write_all(b"220 mail.example ESMTP\r\n").await;
            return;
        }
        _ => {}
    }
    let Ok(mut stream) = acceptor.accept(stream).await else { return };
    if stream.get_ref().1.handshake_kind() == Some(rustls::HandshakeKind::Resumed) {
        resumed.fetch_add(1, Ordering::SeqCst);
    }
    if matches!(manner, Manner::ResetInBody) && is_bad() {
        let _ = stream.read_u8().await;
        // What is not read yet makes the system reset the connection.
        return drop(stream);
    }
    while let Some(request) = read_request(&mut stream).await {
        match manner {
            Manner::Says(answer) if is_bad() => {
                let _ = stream.write_all(answer).await;
                let _ = stream.shutdown().await;
                return;
            }
            Manner::Promises if is_bad() => {
                let many = b"HTTP/1.1 103 Early Hints\r\n\r\n".repeat(1_000);
                while stream.write_all(&many).await.is_ok() {}
                return;
            }
            Manner::Drips if is_bad() => {
                for byte in OK {
                    if stream.write_all(&[*byte]).await.is_err() || stream.flush().await.is_err() {
                        return;
                    }
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
            }
            _ => {
                acknowledged.send_modify(|all| all.push(request));
                if stream.write_all(OK).await.is_err() {
                    return;
                }
                if matches!(manner, Manner::ClosesSoon) {
                    tokio::time::sleep(Duration::from_micros(fastrand::u64(..6_000))).await;
                    let _ = stream.shutdown().await;
                    return;
                }
            }
        }
    }
}

/// A certificate that vouches for itself.
fn identity(name: &str, until: i32) -> Identity {
    identity_for(vec![name.to_owned()], until)
}

fn identity_for(names: Vec<String>, until: i32) -> Identity {
    // Those who vouch for themselves are told apart by their names.
    let common_name = format!("{} until {until}", names.join(" "));
    let mut params = rcgen::CertificateParams::new(names).unwrap();
    params.distinguished_name.push(rcgen::DnType::CommonName, common_name);
    params.not_before = rcgen::date_time_ymd(2020, 1, 1);
    params.not_after = rcgen::date_time_ymd(until, 1, 31);
    let key = rcgen::KeyPair::generate().unwrap();
    let certificate = params.self_signed(&key).unwrap().pem();
    Identity { certificate, key: key.serialize_pem() }
}

/// Lets somebody who vouches for itself, as `openssl req -x509` makes it, be an authority too.
fn authority(names: &[&str]) -> Identity {
    let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
    let mut params = rcgen::CertificateParams::new(names.clone()).unwrap();
    params.distinguished_name.push(rcgen::DnType::CommonName, format!("authority of {names:?}"));
    params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    let key = rcgen::KeyPair::generate().unwrap();
    let certificate = params.self_signed(&key).unwrap().pem();
    Identity { certificate, key: key.serialize_pem() }
}

/// A bus that gives up soon, and a well-behaved subscriber beside the bad one.
async fn start(bus: Bus) -> (Bus, Process, DevelopmentCa) {
    let bus = bus
        .set("ROUTEMASTER_TIMEOUT", "1")
        .set("ROUTEMASTER_CONNECT_TIMEOUT", "1")
        .set("ROUTEMASTER_MAX_BACKOFF_MS", "100");
    let server = bus.serve().await;
    server.client("demo").claims("widgets").await;
    let ca = DevelopmentCa::open_or_create(&bus.data_dir()).unwrap();
    (bus, server, ca)
}

async fn subscribe(server: &Process, token: &str, callback: &str) {
    let body = json!({"topics": ["widgets"], "callback": callback, "timeout": 0, "max": 1});
    server.client(token).post("/subscription", body.to_string()).await.expect(204);
}

on_both_stores!(what_is_no_whole_answer_acknowledges_nothing, |store| async move {
    let (bus, server, ca) = start(Bus::new(&store)).await;
    for (token, manner) in [
        ("alice", Manner::ResetInBody),
        ("alice", Manner::Says(b"")),
        ("alice", Manner::Says(b"HTTP/1.1 20")),
        ("alice", Manner::Says(b"HTTP/1.1 100 Continue\r\n\r\n")),
        ("alice", Manner::Says(b"200 OK\r\n\r\n")),
        ("alice", Manner::Says(b"SSH-2.0-x\r\n")),
        (
            "alice",
            Manner::Says(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\n"),
        ),
        ("alice", Manner::Drips),
        ("alice", Manner::StallsTls),
        ("alice", Manner::NoTls),
    ] {
        let bad = RawReceiver::start(&ca.issue().unwrap(), manner, 1).await;
        let good = bus.receiver().await;
        subscribe(&server, token, &bad.url()).await;
        subscribe(&server, "bob", &good.url()).await;
        server.client("demo").publishes("widgets", 1..=2).await;
        // One of them is in trouble, the other one notices nothing.
        assert_eq!(good.numbers(2).await, [1, 2], "{manner:?}");
        let acknowledged = bad.acknowledges(2).await;
        let attempts: Vec<&str> =
            acknowledged.iter().map(|(_, attempt)| attempt.as_str()).collect();
        assert_eq!(attempts, ["2", "1"], "{manner:?}: the first batch was sent again, as such");
        assert!(acknowledged[0].0.contains("a.example/1\""), "{manner:?}: {acknowledged:?}");
        for token in ["alice", "bob"] {
            server.client(token).delete("/subscriber").await.expect(204);
        }
    }
});

on_both_stores!(interim_answers_are_not_taken_for_the_answer, |store| async move {
    let (_bus, server, ca) = start(Bus::new(&store)).await;
    let answer = b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n\
                   HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n";
    let receiver = RawReceiver::start(&ca.issue().unwrap(), Manner::Says(answer), 1).await;
    subscribe(&server, "alice", &receiver.url()).await;
    server.client("demo").publishes("widgets", 1..=2).await;
    let acknowledged = receiver.acknowledges(1).await;
    assert!(acknowledged[0].0.contains("a.example/2\""), "{acknowledged:?}");
    assert_eq!(acknowledged[0].1, "1");
});

// Else it would keep a core busy until the time for an answer is over.
on_both_stores!(promises_of_an_answer_without_end_are_given_up_at_once, |store| async move {
    let bus = Bus::new(&store).set("ROUTEMASTER_MAX_BACKOFF_MS", "100");
    let server = bus.serve().await;
    server.client("demo").claims("widgets").await;
    let ca = DevelopmentCa::open_or_create(&bus.data_dir()).unwrap();
    let receiver = RawReceiver::start(&ca.issue().unwrap(), Manner::Promises, 1).await;
    subscribe(&server, "alice", &receiver.url()).await;
    let start = Instant::now();
    server.client("demo").publishes("widgets", 1..=1).await;
    let acknowledged = receiver.acknowledges(1).await;
    assert_eq!(acknowledged[0].1, "2", "the second attempt");
    let took = start.elapsed();
    assert!(took < Duration::from_secs(5), "it took {took:?} of the 20 s for an answer");
    let log = server.stderr.text();
    assert!(log.contains("informational answers"), "{log}");
});

on_both_stores!(an_untidy_answer_acknowledges_all_the_same, |store| async move {
    let (_bus, server, ca) = start(Bus::new(&store)).await;
    let many =
        format!("HTTP/1.1 200 OK\r\n{}Content-Length: 0\r\n\r\n", "X-Trace: 1\r\n".repeat(300));
    for answer in [
        "HTTP/1.1 200 OK\r\nContent-Length : 0\r\n\r\n",
        "HTTP/1.1 200 OK\r\nServer : tidy\r\nContent-Length: 0\r\n\r\n",
        "HTTP/1.1 200 OK\r\nX-Note: a line\r\n that goes on\r\nContent-Length: 0\r\n\r\n",
        "HTTP/1.1 200 OK\r\nno header at all\r\nContent-Length: 0\r\n\r\n",
        "HTTP/1.1 200\r\nContent-Length: 0\r\n\r\n",
        &many,
    ] {
        let answer: &'static [u8] = answer.to_owned().into_bytes().leak();
        let receiver = RawReceiver::start(&ca.issue().unwrap(), Manner::Says(answer), 1).await;
        subscribe(&server, "alice", &receiver.url()).await;
        server.client("demo").publishes("widgets", 1..=2).await;
        let acknowledged = receiver.acknowledges(1).await;
        let text = String::from_utf8_lossy(answer);
        assert!(acknowledged[0].0.contains("a.example/2\""), "{text}: {acknowledged:?}");
        server.client("alice").delete("/subscriber").await.expect(204);
    }
});

on_both_stores!(a_bad_certificate_is_not_delivered_to, |store| async move {
    // All of them are trusted; what is wrong with one is wrong all the same.
    let expired = identity("localhost", 2021);
    let for_another = identity("other.example", 2099);
    let its_own_authority = authority(&["localhost"]);
    let nameless = identity_for(vec![], 2099);
    let files = tempfile::tempdir().unwrap();
    let trusted = files.path().join("trusted.pem");
    let all = [&expired, &for_another, &its_own_authority, &nameless];
    std::fs::write(&trusted, all.map(|one| one.certificate.as_str()).concat()).unwrap();
    let bus = Bus::new(&store).set("ROUTEMASTER_CALLBACK_CA_FILE", trusted.to_str().unwrap());
    let (_bus, server, ca) = start(bus).await;
    let self_signed = identity("localhost", 2099);
    for (what, bad) in [
        ("its certificate has expired: renew it", expired),
        ("is not for localhost, but for other.example", for_another),
        ("comes from an authority that is not trusted here", self_signed),
        ("is an authority's and not a server's: issue one", its_own_authority),
        ("has no subject alternative name", nameless),
    ] {
        let receiver = RawReceiver::start(&bad, Manner::Drips, 0).await;
        subscribe(&server, "alice", &receiver.url()).await;
        server.client("demo").publishes("widgets", [1]).await;
        let line = soon("a failure is logged", server.stderr.line_with(what)).await;
        assert!(line.unwrap().contains("failed to deliver"), "{what}");
        assert_eq!(server.client("demo").queued("alice").await, Some(1), "{what}");
        assert!(receiver.acknowledged.borrow().is_empty(), "{what}");
        // With a good one, all that waited arrives.
        let good = RawReceiver::start(&ca.issue().unwrap(), Manner::Drips, 0).await;
        subscribe(&server, "alice", &good.url()).await;
        good.acknowledges(1).await;
        server.client("alice").delete("/subscriber").await.expect(204);
    }
});

/// How many batches go to a receiver that closes its connections.
const CLOSED: u64 = 150;

on_both_stores!(a_connection_that_the_receiver_closes_costs_no_attempt, |store| async move {
    let (_bus, server, ca) = start(Bus::new(&store)).await;
    let receiver = RawReceiver::start(&ca.issue().unwrap(), Manner::ClosesSoon, 0).await;
    subscribe(&server, "alice", &receiver.url()).await;
    // Some at once, some when the connection has been idle for about as long as it lives.
    for number in 1..=CLOSED {
        server.client("demo").publishes("widgets", [number]).await;
    }
    let acknowledged = receiver.acknowledges(CLOSED as usize).await;
    let log = server.stderr.text();
    assert!(!log.contains("failed to deliver"), "{log}");
    assert!(acknowledged.iter().all(|(_, attempt)| attempt == "1"), "{acknowledged:?}");
    assert_eq!(acknowledged.len(), CLOSED as usize);
    // A session's ticket would go in clear to whoever answers at that name, at whatever port.
    assert_eq!(receiver.resumed.load(Ordering::SeqCst), 0);
});
