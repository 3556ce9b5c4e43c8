//! Clients that are up to no good, all at once, and a good one that must hardly notice.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::json;
use tokio::runtime::Handle;
use tokio::sync::oneshot;
use tokio::task::JoinSet;

use super::Order;
use crate::rig::{self, Row, peak_memory_kib};
use crate::support::raw::{self, Stream};
use crate::support::{Client, Signal, basic};

/// How many connections say nothing, bare ones and ones with TLS, and how many send a header, a byte now
/// and then.
struct Crowd {
    idle: usize,
    idle_tls: usize,
    dribbling: usize,
}

/// Of a short run, and of one that hurts for half a minute or more.
const SOME: Crowd = Crowd { idle: 2000, idle_tls: 200, dribbling: 200 };
const MANY: Crowd = Crowd { idle: 4000, idle_tls: 500, dribbling: 500 };
/// The pause of the others between two deeds: the machine is the bus's, too.
const PAUSE: Duration = Duration::from_millis(40);
/// The most memory that the bus may have had then.
const MEMORY_MAX_KIB: u64 = 512 * 1024;
/// A good client may wait twice as long as without the others, and that much in any case: below it,
/// what is measured is the machine that both sides share.
const WAIT_MAX: Duration = Duration::from_millis(8);

/// What all of them do, over and over.
#[derive(Clone, Copy, Debug)]
enum Deed {
    Garbage,
    Smuggling,
    HeaderFlood,
    HugeBody,
    DeepJson,
    BrokenUtf8,
    Pipelining,
    RapidReset,
}

const DEEDS: [Deed; 8] = [
    Deed::Garbage,
    Deed::Smuggling,
    Deed::HeaderFlood,
    Deed::HugeBody,
    Deed::DeepJson,
    Deed::BrokenUtf8,
    Deed::Pipelining,
    Deed::RapidReset,
];

#[derive(Default)]
struct Seen {
    /// How often each was done.
    deeds: [AtomicU64; DEEDS.len()],
    /// Answers of 500 and more.
    errors: AtomicU64,
}

impl Seen {
    /// How often was done what was done least.
    fn least(&self) -> u64 {
        let counts = self.deeds.iter().map(|count| count.load(Ordering::Relaxed));
        counts.min().unwrap_or_default()
    }
}

pub async fn hostile(order: Order) -> Row {
    let crowd = if order.is_long() { MANY } else { SOME };
    let store = order.store.open();
    let bus = rig::bus(&store)
        .set("ROUTEMASTER_FIRST_REQUEST_TIMEOUT", "3600")
        .set("ROUTEMASTER_LOG_LEVEL", "warn");
    let mut server = bus.serve().await;
    let (port, ca) = (server.port(), bus.ca_path());
    let good = server.client("alpha").with_token("alpha");
    let mut row = Row::default();
    let quiet = median_latency(&good, order.time / 3).await;

    let (mut mob, machine) = (JoinSet::new(), Machine::start());
    let seen = Arc::new(Seen::default());
    let mut dice = fastrand::Rng::with_seed(order.seed);
    let mut idle = vec![];
    for _ in 0..crowd.idle {
        idle.push(raw::connect_tcp(port).await);
    }
    for _ in 0..crowd.idle_tls {
        idle.push(raw::connect_tls(port, &ca).await);
    }
    for _ in 0..crowd.dribbling {
        let stream = raw::connect_tls(port, &ca).await;
        mob.spawn_on(dribble(stream), &machine.handle);
    }
    for (index, deed) in DEEDS.into_iter().enumerate() {
        let deeds = go_on(index, deed, port, ca.clone(), dice.fork(), seen.clone());
        mob.spawn_on(deeds, &machine.handle);
    }
    // Each of them has got going.
    while seen.least() == 0 {
        tokio::time::sleep(PAUSE).await;
    }
    let loud = median_latency(&good, order.time / 2).await;
    if let Some(panic) = mob.try_join_next().and_then(Result::err) {
        row.violation(format!("a hostile client saw what should not be: {panic}"));
    }
    mob.abort_all();
    while mob.join_next().await.is_some() {}
    drop(machine);
    drop(idle);

    row.cycles = seen.deeds.iter().map(|count| count.load(Ordering::Relaxed)).sum();
    if seen.least() < 3 {
        row.violation("hardly anything hostile was done: this proves nothing");
    }
    row.verdict.accepted = quiet.accepted + loud.accepted;
    row.slowest = loud.longest;
    let memory = peak_memory_kib(&server);
    row.notes.push(format!(
        "a good client's publish took {:.1} ms (median) without and {:.1} ms with {} hostile \
         connections; the bus had up to {} MiB (debug build)",
        quiet.median.as_secs_f64() * 1e3,
        loud.median.as_secs_f64() * 1e3,
        crowd.idle + crowd.idle_tls + crowd.dribbling + DEEDS.len(),
        memory.unwrap_or_default() / 1024
    ));
    if loud.median > (quiet.median * 2).max(WAIT_MAX) {
        let text = format!("{:?} became {:?} for a good client", quiet.median, loud.median);
        row.violation(text);
    }
    if memory.is_none_or(|memory| memory > MEMORY_MAX_KIB) {
        row.violation(format!("the bus had {memory:?} KiB of memory"));
    }
    let errors = seen.errors.load(Ordering::Relaxed);
    if errors + quiet.refused + loud.refused > 0 {
        row.violation(format!(
            "{errors} answers of 5xx, {} refusals",
            quiet.refused + loud.refused
        ));
    }
    let topics = server.client("demo").get("/topics").await.expect(200).json();
    let stored = topics.as_array().into_iter().flatten();
    for topic in stored.filter(|topic| topic["name"] != "apples") {
        row.violation(format!("something was let in: {topic}"));
    }
    row.verdict.received = topics[0]["events"].as_u64().unwrap_or_default();
    if row.verdict.received != row.verdict.accepted {
        row.violation("the good client's events were not counted one by one");
    }
    server.signal(Signal::Term);
    let (code, _) = server.exit().await;
    let log = server.stderr.text();
    if code != Some(0) || log.contains("panicked at") {
        row.violation(format!("it ended with {code:?}: {log}"));
    }
    row
}

/// Where hostile clients run: they get what the bus and the good client leave of the processors, as if
/// they had a machine of their own.
struct Machine {
    handle: Handle,
    /// Gone when this is.
    _end: oneshot::Sender<()>,
}

impl Machine {
    fn start() -> Self {
        let mut builder = tokio::runtime::Builder::new_multi_thread();
        // On Linux this is the thread's alone; elsewhere the measurement is a stricter one.
        #[cfg(target_os = "linux")]
        builder.on_thread_start(|| rustix::process::setpriority_process(None, 19).unwrap());
        let runtime = builder.worker_threads(1).enable_all().build().unwrap();
        let handle = runtime.handle().clone();
        let (end, ended) = oneshot::channel();
        // A runtime must not be dropped where others run.
        thread::spawn(move || runtime.block_on(ended));
        Self { handle, _end: end }
    }
}

struct Latency {
    median: Duration,
    longest: Duration,
    accepted: u64,
    refused: u64,
}

async fn median_latency(client: &Client, time: Duration) -> Latency {
    let (end, mut took, mut refused) = (Instant::now() + time, vec![], 0);
    while Instant::now() < end {
        let sent = Instant::now();
        let event = json!({"type": "update", "url": "https://a.example/1"});
        match client.publish("apples", &event).await.status {
            204 => took.push(sent.elapsed()),
            _ => refused += 1,
        }
    }
    took.sort_unstable();
    Latency {
        median: took.get(took.len() / 2).copied().unwrap_or_default(),
        longest: took.last().copied().unwrap_or_default(),
        accepted: took.len() as u64,
        refused,
    }
}

async fn dribble(mut stream: Stream) {
    for byte in b"GET /topics HTTP/1.1\r\nX-Long: ".iter().chain(std::iter::repeat(&b'x')) {
        if !stream.send([*byte]).await {
            return;
        }
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
}

async fn go_on(
    index: usize,
    deed: Deed,
    port: u16,
    ca: PathBuf,
    mut dice: fastrand::Rng,
    seen: Arc<Seen>,
) {
    loop {
        let answer = once(deed, port, &ca, &mut dice).await;
        seen.deeds[index].fetch_add(1, Ordering::Relaxed);
        if raw::status(&answer).is_some_and(|status| status >= 500) {
            eprintln!("{deed:?} was answered with {answer}");
            seen.errors.fetch_add(1, Ordering::Relaxed);
        }
        tokio::time::sleep(PAUSE).await;
    }
}

/// The head of a publish to a topic that must never be.
fn publish(headers: &str) -> String {
    let auth = basic("beta:x");
    format!(
        "POST /topics/smuggled HTTP/1.1\r\nHost: a\r\nAuthorization: {auth}\r\n{headers}\r\n\r\n"
    )
}

/// Does it once; returns the beginning of the answer.
async fn once(deed: Deed, port: u16, ca: &Path, dice: &mut fastrand::Rng) -> String {
    let event = r#"{"type":"noop","url":"https://a.example/"}"#;
    if let Deed::Garbage = deed {
        let mut stream = raw::connect_tcp(port).await;
        let noise: Vec<u8> = std::iter::repeat_with(|| dice.u8(..)).take(4000).collect();
        // Half of it claims to be a TLS handshake.
        let first: &[u8] = if dice.bool() { b"\x16\x03\x01\x02\x00\x01" } else { b"" };
        stream.send([first, &noise].concat()).await;
        return String::new();
    }
    let Ok(mut stream) = raw::try_connect_tls(port, ca).await else { return String::new() };
    match deed {
        Deed::Garbage => {}
        Deed::Smuggling => {
            // For a proxy that goes by the length, the second request is the first one's body.
            let hidden = publish(&format!("Content-Length: {}", event.len())) + event;
            let body = format!("0\r\n\r\n{hidden}");
            let both = [
                format!("Content-Length: {}\r\nTransfer-Encoding: chunked", body.len()),
                format!("Transfer-Encoding: chunked\r\nContent-Length: {}", body.len()),
                format!("Content-Length: {}\r\nTransfer-Encoding: xchunked", body.len()),
                format!("Content-Length: {}\r\nTransfer-Encoding: chunked, identity", body.len()),
                format!("Content-Length: {}\r\nTransfer-Encoding:\tchunked", body.len()),
                format!("Content-Length: 0\r\nContent-Length: {}", body.len()),
            ];
            stream.send(publish(&both[dice.usize(..both.len())]) + &body).await;
        }
        Deed::HeaderFlood => {
            let flood: String =
                (0..2000).map(|n| format!("X-{n}: {}\r\n", "y".repeat(40))).collect();
            stream.send(publish(&flood)).await;
        }
        Deed::HugeBody => {
            let piece = [b"4000\r\n".as_slice(), &[b' '; 16 * 1024], b"\r\n"].concat();
            let (head, piece) = match dice.bool() {
                true => ("Content-Length: 1073741824", &piece[6..]),
                false => ("Transfer-Encoding: chunked", piece.as_slice()),
            };
            stream.send(publish(head)).await;
            // A gigabyte, or until it hangs up.
            for _ in 0..65_536 {
                if !stream.send(piece.to_vec()).await {
                    break;
                }
            }
        }
        Deed::DeepJson => {
            let deep = "[".repeat(200_000);
            let body = format!(r#"{{"type":"noop","url":"https://a.example/","data":{deep}"#);
            stream.send(publish(&format!("Content-Length: {}", body.len())) + &body).await;
        }
        Deed::BrokenUtf8 => {
            let body = [&event.as_bytes()[..20], b"\xff\xfe\xc0\x80", &event.as_bytes()[20..]];
            let body = body.concat();
            stream.send(publish(&format!("Content-Length: {}", body.len()))).await;
            stream.send(body).await;
        }
        Deed::Pipelining => {
            let one = "GET /topics HTTP/1.1\r\nHost: a\r\n\r\n";
            stream.send(one.repeat(200)).await;
        }
        Deed::RapidReset => {
            stream.send(rapid_resets(500)).await;
            // What it says is HTTP/2, not for `status`.
            let _ = tokio::time::timeout(PAUSE * 5, stream.read_to_end()).await;
            return String::new();
        }
    }
    let head = tokio::time::timeout(Duration::from_secs(5), stream.read_head()).await;
    head.unwrap_or_default()
}

/// HTTP/2: so many requests, each taken back at once.
fn rapid_resets(count: u32) -> Vec<u8> {
    let mut bytes = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0".to_vec();
    // GET, https, /, and localhost as the authority.
    let headers = b"\x82\x87\x84\x41\x09localhost";
    for id in (0..count).map(|index| 2 * index + 1) {
        bytes.extend([0, 0, headers.len() as u8, 1, 0x5]);
        bytes.extend(id.to_be_bytes());
        bytes.extend(headers);
        // RST_STREAM, CANCEL.
        bytes.extend([0, 0, 4, 3, 0]);
        bytes.extend(id.to_be_bytes());
        bytes.extend([0, 0, 0, 8]);
    }
    bytes
}
