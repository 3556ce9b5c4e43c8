//! A network between the bus and Redis that cuts, swallows, delays, and loses answers: a TCP proxy
//! that does so on command.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

use super::Order;
use super::redis::Resumed;
use crate::rig::{self, Rig, Row};

/// A run that is so long does everything.
const LONG: Duration = Duration::from_secs(60);

/// What becomes of what is sent.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Manner {
    Pass,
    /// Everything takes this much longer.
    Delay(Duration),
    /// Nothing comes through, in neither direction. It is kept, and goes on when this is over.
    Blackhole,
    /// Commands come through, answers are lost for good.
    LoseAnswers,
    /// No connection is taken.
    Closed,
}

/// A proxy in front of a port of this machine.
pub struct Proxy {
    port: u16,
    manner: watch::Sender<Manner>,
    /// Connections of an earlier generation are cut.
    generation: watch::Sender<u64>,
    /// How many pieces of answers were lost.
    answers_lost: Arc<AtomicU64>,
}

impl Proxy {
    pub async fn start(upstream: u16) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let (manner, generation) = (watch::Sender::new(Manner::Pass), watch::Sender::new(0));
        let watched = (manner.subscribe(), generation.subscribe());
        let answers_lost = Arc::new(AtomicU64::new(0));
        let lost = answers_lost.clone();
        tokio::spawn(async move {
            // Ends with an error when the proxy is dropped.
            while watched.0.has_changed().is_ok() {
                let Ok((client, _)) = listener.accept().await else { return };
                let ((manner, mut generation), lost) = (watched.clone(), lost.clone());
                generation.mark_unchanged();
                tokio::spawn(async move {
                    if *manner.borrow() == Manner::Closed {
                        return;
                    }
                    let cut = async { generation.changed().await };
                    tokio::select! {
                        () = pipe(client, upstream, manner, &lost) => {}
                        _ = cut => {}
                    }
                });
            }
        });
        Self { port, manner, generation, answers_lost }
    }

    pub fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }

    pub fn set(&self, manner: Manner) {
        self.manner.send_replace(manner);
    }

    /// Ends all connections that there are.
    pub fn cut(&self) {
        self.generation.send_modify(|generation| *generation += 1);
    }
}

async fn pipe(
    client: TcpStream,
    upstream: u16,
    manner: watch::Receiver<Manner>,
    answers_lost: &AtomicU64,
) {
    let Ok(server) = TcpStream::connect(("127.0.0.1", upstream)).await else { return };
    let _ = (client.set_nodelay(true), server.set_nodelay(true));
    let (client_read, client_write) = client.into_split();
    let (server_read, server_write) = server.into_split();
    tokio::select! {
        () = copy(client_read, server_write, manner.clone(), false, answers_lost) => {}
        () = copy(server_read, client_write, manner, true, answers_lost) => {}
    }
}

async fn copy(
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    mut manner: watch::Receiver<Manner>,
    answers: bool,
    answers_lost: &AtomicU64,
) {
    let mut buffer = vec![0; 64 * 1024];
    // Nothing can come behind what was lost: no network does that.
    let mut lost = false;
    loop {
        let Ok(read @ 1..) = from.read(&mut buffer).await else { return };
        let passes = manner.wait_for(|manner| *manner != Manner::Blackhole).await;
        let Ok(now) = passes.map(|manner| *manner) else { return };
        match now {
            Manner::Delay(time) => tokio::time::sleep(time).await,
            Manner::LoseAnswers if answers => lost = true,
            _ => {}
        }
        if lost {
            answers_lost.fetch_add(1, Ordering::Relaxed);
            continue;
        }
        if to.write_all(&buffer[..read]).await.is_err() {
            return;
        }
    }
}

/// All of it, at random.
pub async fn network(order: Order) -> Row {
    let mut store = order.store.open();
    let proxy = Proxy::start(store.server().port()).await;
    let bus = rig::bus(&store).set("ROUTEMASTER_REDIS_URL", &proxy.url());
    let mut rig = Rig::start_with(store, bus, order.seed).await;
    rig.load();
    let end = Instant::now() + order.time;
    let mut resumed = Resumed::default();
    while Instant::now() < end {
        rig.sleep_between(100, 800).await;
        rig.row.cycles += 1;
        match rig.dice.u8(..5) {
            0 => proxy.cut(),
            1 => {
                proxy.set(Manner::Delay(Duration::from_millis(200)));
                rig.sleep_between(500, 2000).await;
            }
            2 => {
                proxy.set(Manner::Blackhole);
                rig.sleep_between(200, 5000).await;
                if rig.dice.bool() {
                    proxy.cut();
                }
            }
            3 => {
                proxy.set(Manner::LoseAnswers);
                rig.sleep_between(5, 300).await;
                // What was lost leaves a connection that makes no sense any more.
                proxy.cut();
            }
            _ => {
                proxy.set(Manner::Closed);
                proxy.cut();
                rig.sleep_between(100, 1500).await;
            }
        }
        proxy.set(Manner::Pass);
        resumed.wait(&rig).await;
    }
    rig.terms.duplicates_max = rig.row.cycles * rig.in_flight_max();
    let lost = proxy.answers_lost.load(Ordering::Relaxed);
    rig.row.notes.push(format!("{lost} times answers were lost after the command had run"));
    if lost == 0 && order.time >= LONG {
        rig.row.violation("no answer was lost: this proves nothing about that");
    }
    resumed.note(&mut rig.row);
    rig.finish().await
}
