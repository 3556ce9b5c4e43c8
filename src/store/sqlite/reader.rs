//! The reader: one thread that owns a connection beside the writer's and answers queries.
//!
//! A thread of its own, and not one of the runtime's: those may all be busy with what others wait
//! for, such as names that are being looked up.

use std::thread;

use anyhow::Context;
use rusqlite::Connection;
use tokio::sync::{mpsc, oneshot};

use super::{CALL_TIMEOUT, EndNotice};
use crate::store::{StoreError, StoreResult};

type Query = Box<dyn FnOnce(&Connection) + Send>;

/// How many queries wait at most; callers beyond that wait for a place, within their time.
const WAITING_MAX: usize = 256;

/// A handle to the reader. The thread ends when the handle is dropped.
pub struct Reader {
    queries: mpsc::Sender<Query>,
}

impl Reader {
    pub fn start(connection: Connection, notice: EndNotice) -> anyhow::Result<Self> {
        let (queries, mut waiting) = mpsc::channel::<Query>(WAITING_MAX);
        thread::Builder::new()
            .name("sqlite-reader".into())
            .spawn(move || {
                let _notice = notice;
                while let Some(query) = waiting.blocking_recv() {
                    query(&connection);
                }
            })
            .context("failed to start the thread that reads from SQLite")?;
        Ok(Self { queries })
    }

    /// Runs a query after those that wait.
    pub async fn run<T, F>(&self, query: F) -> StoreResult<T>
    where
        T: Send + 'static,
        F: FnOnce(&Connection) -> rusqlite::Result<T> + Send + 'static,
    {
        let (reply, answer) = oneshot::channel();
        let query: Query = Box::new(move |connection| {
            // Nobody waits any more for what comes too late.
            if !reply.is_closed() {
                let _ = reply.send(query(connection));
            }
        });
        let ended =
            || StoreError::Unavailable("the thread that reads from SQLite has ended".into());
        let exchange = async {
            self.queries.send(query).await.map_err(|_| ended())?;
            Ok(answer.await.map_err(|_| ended())??)
        };
        match tokio::time::timeout(CALL_TIMEOUT, exchange).await {
            Ok(result) => result,
            Err(_) => Err(StoreError::Unavailable("a query took too long".into())),
        }
    }
}
