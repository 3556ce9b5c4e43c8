//! How connections learn that they are to end. Each looks at a mark of its own whenever it is polled, because a lock
//! that all share would be asked for with every request.

use std::collections::HashMap;
use std::future::poll_fn;
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};

use futures_util::task::AtomicWaker;

/// How far the connections of a server have come.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
#[repr(u8)]
pub enum Stage {
    Open,
    /// Each answer tells its client to leave.
    Leaving,
    /// What was begun is finished, and nothing else is begun.
    Closing,
    /// What is not finished is broken off.
    Over,
}

/// What one connection looks at.
#[derive(Debug)]
pub struct Course {
    stage: AtomicU8,
    /// The one task that the connection is.
    task: AtomicWaker,
}

impl Course {
    fn new(stage: Stage) -> Self {
        Self { stage: AtomicU8::new(stage as u8), task: AtomicWaker::new() }
    }

    pub fn has_reached(&self, stage: Stage) -> bool {
        self.stage.load(Ordering::Acquire) >= stage as u8
    }

    /// Ready once it has come so far.
    pub fn poll_reached(&self, stage: Stage, cx: &Context<'_>) -> Poll<()> {
        if self.has_reached(stage) {
            return Poll::Ready(());
        }
        self.task.register(cx.waker());
        // It may have come so far before there was somebody to wake.
        if self.has_reached(stage) { Poll::Ready(()) } else { Poll::Pending }
    }

    /// Completes once it has come so far.
    pub async fn reached(&self, stage: Stage) {
        poll_fn(|cx| self.poll_reached(stage, cx)).await;
    }

    fn advance(&self, stage: Stage) {
        self.stage.store(stage as u8, Ordering::Release);
        self.task.wake();
    }
}

/// The connections of a server.
pub struct Connections(Mutex<Entered>);

struct Entered {
    stage: Stage,
    courses: HashMap<u64, Arc<Course>>,
    last: u64,
}

/// A connection of a server; it has ended when this is dropped.
pub struct Entry {
    pub course: Arc<Course>,
    number: u64,
    connections: Arc<Connections>,
}

impl Default for Connections {
    fn default() -> Self {
        Self(Mutex::new(Entered { stage: Stage::Open, courses: HashMap::new(), last: 0 }))
    }
}

impl Connections {
    pub fn enter(self: &Arc<Self>) -> Entry {
        let mut entered = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        entered.last += 1;
        let (number, course) = (entered.last, Arc::new(Course::new(entered.stage)));
        entered.courses.insert(number, course.clone());
        Entry { course, number, connections: self.clone() }
    }

    /// Tells all of them how far they are, and those that come later.
    pub fn advance(&self, stage: Stage) {
        let mut entered = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        entered.stage = stage;
        entered.courses.values().for_each(|course| course.advance(stage));
    }

    pub fn count(&self) -> usize {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).courses.len()
    }
}

impl Drop for Entry {
    fn drop(&mut self) {
        let mut entered = self.connections.0.lock().unwrap_or_else(PoisonError::into_inner);
        entered.courses.remove(&self.number);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn each_connection_is_woken_at_the_stage_that_it_waits_for() {
        let connections = Arc::new(Connections::default());
        let wait = |stage| {
            let entry = connections.enter();
            tokio::spawn(async move { entry.course.reached(stage).await })
        };
        let (leaves, closes) = (wait(Stage::Leaving), wait(Stage::Closing));
        tokio::task::yield_now().await;
        connections.advance(Stage::Leaving);
        leaves.await.unwrap();
        assert_eq!(connections.count(), 1);
        assert!(!closes.is_finished());
        connections.advance(Stage::Closing);
        closes.await.unwrap();
        assert_eq!(connections.count(), 0);
        assert!(connections.enter().course.has_reached(Stage::Closing), "whoever comes later");
    }
}
