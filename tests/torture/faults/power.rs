//! A machine that loses power, and a disk that is full.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use super::Order;
use super::redis::Resumed;
use crate::files::{Kept, WatchedFiles};
use crate::oracle::Counters;
use crate::rig::{self, Rig, Row};
use crate::support::{Bus, Client, RedisServer, Store};

/// How much a Redis that syncs every second may lose (docs/durability.md).
const EVERYSEC_MAX: Duration = Duration::from_secs(2);

/// A fault that cannot be tried here; says so loudly.
pub fn skipped(reason: &str) -> Row {
    let mut row = Row { skipped: true, ..Row::default() };
    row.notes.push(format!("SKIPPED: {reason}"));
    row
}

/// A bus that is not started yet, with the files of its SQLite store.
struct Watched {
    store: Store,
    bus: Bus,
    directory: PathBuf,
    files: WatchedFiles,
}

/// Puts the layer between a bus and its files; else says why it cannot be.
fn watched(order: &Order) -> Result<Watched, String> {
    let store = order.store.open();
    let bus = rig::bus(&store);
    let directory = bus.data_dir();
    std::fs::create_dir_all(&directory).unwrap();
    let files = WatchedFiles::new(&directory.canonicalize().unwrap().join("routemaster.db"))?;
    let environment = files.environment();
    let bus = environment.iter().fold(bus, |bus, (name, value)| bus.set(name, value));
    Ok(Watched { store, bus, directory, files })
}

/// All processes of the bus die, and what SQLite had not synced is gone, or a part of it.
pub async fn sqlite(order: Order) -> Row {
    let Watched { store, bus, directory, files } = match watched(&order) {
        Ok(watched) => watched,
        Err(reason) => return skipped(&reason),
    };
    let mut before = files.snapshot();
    let mut rig = Rig::start_with(store, bus, order.seed).await;
    rig.leases_may_be_lost = true;
    rig.load();
    let end = Instant::now() + order.time;
    let mut unsynced = 0;
    while Instant::now() < end {
        rig.sleep_between(200, 2000).await;
        rig.row.cycles += 1;
        for index in 0..2 {
            rig.kill_web(index).await;
            rig.kill_worker(index).await;
        }
        unsynced += files.lose_power(&before, Kept::Any, &mut rig.dice);
        if let Err(damage) = check_sqlite(&directory) {
            let mut row = std::mem::take(&mut rig.row);
            row.violation(format!("the file is damaged: {damage}"));
            return row;
        }
        before = files.snapshot();
        for index in 0..2 {
            rig.restart_web(index).await;
            rig.restart_worker(index).await;
        }
    }
    // A worker sees what is committed before it is synced (docs/decisions/0009-syncing-apart.md).
    rig.terms.may_undo = true;
    rig.terms.may_not_answer = true;
    // What was acknowledged since the last publish may be forgotten, too.
    rig.terms.duplicates_max = 4 * rig.row.cycles * rig.in_flight_max();
    rig.row.notes.push(format!("{unsynced} writes had not been synced when the power went"));
    rig.finish().await
}

/// Looks at a copy, so that the bus itself has to recover from what is there.
fn check_sqlite(directory: &Path) -> Result<(), String> {
    let copy = tempfile::tempdir().unwrap();
    for name in ["routemaster.db", "routemaster.db-wal", "routemaster.db-journal"] {
        if directory.join(name).exists() {
            std::fs::copy(directory.join(name), copy.path().join(name)).unwrap();
        }
    }
    let check = || -> rusqlite::Result<String> {
        let connection = rusqlite::Connection::open(copy.path().join("routemaster.db"))?;
        connection.pragma_query_value(None, "integrity_check", |row| row.get(0))
    };
    match check() {
        Ok(found) if found == "ok" => Ok(()),
        Ok(found) => Err(found),
        Err(error) => Err(error.to_string()),
    }
}

pub async fn redis_always(order: Order) -> Row {
    redis(order, "always").await
}

pub async fn redis_everysec(order: Order) -> Row {
    redis(order, "everysec").await
}

/// Redis dies, and what it had not synced is gone, or a part of it.
async fn redis(order: Order, fsync: &str) -> Row {
    let options = ["--save", "", "--appendonly", "yes", "--appendfsync", fsync];
    let mut server = RedisServer::start_with(&options);
    let directory = server.directory().canonicalize().unwrap().join("appendonlydir");
    let files = match WatchedFiles::new(&directory.join("appendonly.aof")) {
        Ok(files) => files,
        Err(reason) => return skipped(&reason),
    };
    server.kill();
    let mut before = files.snapshot();
    server.restart_in_environment(&files.environment());
    let everysec = fsync == "everysec";
    let mut rig = Rig::start(Store::Redis(server), order.seed).await;
    rig.load();
    let end = Instant::now() + order.time;
    let (mut unsynced, mut resumed) = (0, Resumed::default());
    while Instant::now() < end {
        rig.sleep_between(300, 2500).await;
        rig.row.cycles += 1;
        let begun = Instant::now();
        rig.store.server().kill();
        if everysec {
            rig.terms.may_lose.push(begun - EVERYSEC_MAX..=Instant::now());
        }
        unsynced += files.lose_power(&before, Kept::First, &mut rig.dice);
        before = files.snapshot();
        tokio::task::block_in_place(|| rig.store.server().restart());
        resumed.wait(&rig).await;
    }
    if everysec {
        rig.terms.counters = Counters::NoMore;
    }
    let acknowledged = if everysec { 200 } else { 1 };
    rig.terms.duplicates_max = acknowledged * rig.row.cycles * rig.in_flight_max();
    rig.row.notes.push(format!("{unsynced} writes had not been synced when the power went"));
    resumed.note(&mut rig.row);
    rig.finish().await
}

/// No file of the store can grow: publishers hear 503 in time, and all goes on when there is room.
pub async fn disk_full(order: Order) -> Row {
    let Watched { store, bus, files, .. } = match watched(&order) {
        Ok(watched) => watched,
        Err(reason) => return skipped(&reason),
    };
    let bus = bus.set("ROUTEMASTER_MAX_EVENT_DATA", "1000000");
    let mut rig = Rig::start_with(store, bus, order.seed).await;
    rig.load();
    let end = Instant::now() + order.time;
    let (mut resumed, mut refused) = (Resumed::default(), 0);
    let probe = rig.client("demo");
    if publish_large(&probe).await != 204 || !keep_probes(&probe).await {
        rig.row.violation("a topic could not be told to keep what is published to it");
    }
    while Instant::now() < end {
        rig.sleep_between(300, 1500).await;
        rig.row.cycles += 1;
        files.set_full(true);
        let hurt_until = Instant::now() + rig.between(1500, 4000);
        while Instant::now() < hurt_until {
            match publish_large(&probe).await {
                503 => refused += 1,
                204 => {}
                status => rig.row.violation(format!("a full disk was answered with {status}")),
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        files.set_full(false);
        resumed.wait(&rig).await;
        if publish_large(&probe).await != 204 {
            rig.row.violation("a publish was refused though there was room again");
        }
    }
    if refused == 0 {
        rig.row.violation("no publish was refused: the disk was never full");
    }
    rig.row.notes.push(format!("{refused} probes heard 503 while the disk was full"));
    rig.terms.duplicates_max = rig.row.cycles * rig.in_flight_max();
    resumed.note(&mut rig.row);
    rig.finish().await
}

/// Lets the topic keep all that is published to it: the log has room from the start, and is full after some twenty.
async fn keep_probes(probe: &Client) -> bool {
    let keep = serde_json::json!({"ms": 3_600_000, "bytes": 1_073_741_824}).to_string();
    probe.put("/topics/probes/keep", keep).await.status == 204
}

/// Publishes what takes most of a megabyte.
async fn publish_large(probe: &Client) -> u16 {
    let data = "x".repeat(900_000);
    let event = serde_json::json!({"type": "noop", "url": "https://a.example/", "data": data});
    probe.publish("probes", &event).await.status
}
