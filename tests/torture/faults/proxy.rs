//! A network between the bus and Redis that cuts, swallows, delays, and loses answers: a TCP proxy
//! that does so on command.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

use super::Order;
use super::redis::Resumed;
use crate::rig::{self, Rig, Row};

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
}

impl Proxy {
    pub async fn start(upstream: u16) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let (manner, generation) = (watch::Sender::new(Manner::Pass), watch::Sender::new(0));
        let watched = (manner.subscribe(), generation.subscribe());
        tokio::spawn(async move {
            // Ends with an error when the proxy is dropped.
            while watched.0.has_changed().is_ok() {
                let Ok((client, _)) = listener.accept().await else { return };
                let (manner, mut generation) = watched.clone();
                generation.mark_unchanged();
                tokio::spawn(async move {
                    if *manner.borrow() == Manner::Closed {
                        return;
                    }
                    let cut = async { generation.changed().await };
                    tokio::select! {
                        _ = pipe(client, upstream, manner) => {}
                        _ = cut => {}
                    }
                });
            }
        });
        Self { port, manner, generation }
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

async fn pipe(client: TcpStream, upstream: u16, manner: watch::Receiver<Manner>) {
    let Ok(server) = TcpStream::connect(("127.0.0.1", upstream)).await else { return };
    let _ = (client.set_nodelay(true), server.set_nodelay(true));
    let (client_read, client_write) = client.into_split();
    let (server_read, server_write) = server.into_split();
    let manner = Arc::new(manner);
    tokio::select! {
        () = copy(client_read, server_write, manner.clone(), false) => {}
        () = copy(server_read, client_write, manner, true) => {}
    }
}

async fn copy(
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    manner: Arc<watch::Receiver<Manner>>,
    answers: bool,
) {
    let mut manner = (*manner).clone();
    let mut buffer = vec![0; 64 * 1024];
    loop {
        let Ok(read @ 1..) = from.read(&mut buffer).await else { return };
        let passes = manner.wait_for(|manner| *manner != Manner::Blackhole).await;
        let Ok(now) = passes.map(|manner| *manner) else { return };
        match now {
            Manner::Delay(time) => tokio::time::sleep(time).await,
            Manner::LoseAnswers if answers => continue,
            _ => {}
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
    resumed.note(&mut rig.row);
    rig.finish().await
}
