//! Fronts: threads on which connections are served, one a core, each with a runtime of its own.
//!
//! What a connection waits for is then mostly woken on the thread that it is on, without a call of the system; and what
//! is short runs there from the first byte to the answer. What may take long runs elsewhere ([`super::service`]): a
//! front has nobody who takes its work over.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use anyhow::Context;
use tokio::runtime::{Builder, Handle};
use tokio_util::sync::{CancellationToken, DropGuard};

/// More are no faster: each has a connection to the store and commits groups of its own, which get smaller.
const MAX: usize = 16;

/// The fronts of a process; they end when they are dropped.
pub struct Fronts {
    all: Vec<Front>,
    _end: DropGuard,
}

struct Front {
    runtime: Handle,
    connections: Arc<AtomicUsize>,
}

/// A connection's place on a front.
pub struct Seat {
    connections: Arc<AtomicUsize>,
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.connections.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Fronts {
    /// Starts as many as there are cores.
    ///
    /// # Errors
    /// If the system gives no thread for one.
    pub fn start() -> anyhow::Result<Self> {
        let cores = thread::available_parallelism().map_or(1, usize::from);
        let end = CancellationToken::new();
        let all = (0..cores.min(MAX)).map(|number| Front::start(number, end.clone()));
        Ok(Self { all: all.collect::<anyhow::Result<_>>()?, _end: end.drop_guard() })
    }

    /// Makes something for each front, such as what its connections share; what is spawned meanwhile runs there.
    ///
    /// # Errors
    /// If one cannot be made.
    pub fn each<T>(&self, make: impl Fn() -> anyhow::Result<T>) -> anyhow::Result<Vec<T>> {
        let make_on = |front: &Front| {
            let _entered = front.runtime.enter();
            make()
        };
        self.all.iter().map(make_on).collect()
    }

    /// Serves a connection on the front that has fewest; `serve` is told which one that is.
    pub fn spawn<F: Future<Output = ()> + Send + 'static>(
        &self,
        serve: impl FnOnce(usize, Seat) -> F,
    ) {
        let load = |(_, front): &(usize, &Front)| front.connections.load(Ordering::Relaxed);
        let Some((number, front)) = self.all.iter().enumerate().min_by_key(load) else { return };
        front.connections.fetch_add(1, Ordering::Relaxed);
        let seat = Seat { connections: front.connections.clone() };
        front.runtime.spawn(serve(number, seat));
    }
}

impl Front {
    fn start(number: usize, end: CancellationToken) -> anyhow::Result<Self> {
        let runtime = Builder::new_current_thread()
            .enable_all()
            .build()
            .context("failed to start a runtime for connections")?;
        let handle = runtime.handle().clone();
        thread::Builder::new()
            .name(format!("front-{number}"))
            .spawn(move || runtime.block_on(end.cancelled()))
            .context("failed to start a thread for connections")?;
        Ok(Self { runtime: handle, connections: Arc::default() })
    }
}
