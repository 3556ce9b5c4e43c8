//! How much of what is made at once stands in memory: a call may be a megabyte, and a message eight.

use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::sync::Notify;

/// While so many bytes are in memory, no more are taken.
const MAX: usize = 64 * 1024 * 1024;

/// The contents of what is on its way.
#[derive(Default)]
pub struct Contents {
    bytes: AtomicUsize,
    less: Notify,
}

/// Some contents, until this is dropped.
pub struct HeldContents<'a> {
    all: &'a Contents,
    bytes: usize,
}

impl Contents {
    /// Takes note of contents that are in memory now.
    pub fn hold(&self, bytes: usize) -> HeldContents<'_> {
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
        HeldContents { all: self, bytes }
    }

    /// Waits until there is room for more.
    pub async fn room(&self) {
        loop {
            // What is given back in between is not missed.
            let less = self.less.notified();
            if self.bytes.load(Ordering::Relaxed) < MAX {
                return;
            }
            less.await;
        }
    }
}

impl Drop for HeldContents<'_> {
    fn drop(&mut self) {
        self.all.bytes.fetch_sub(self.bytes, Ordering::Relaxed);
        self.all.less.notify_waiters();
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn more_is_taken_when_there_is_less() {
        let contents = Contents::default();
        let large = contents.hold(MAX - 1);
        contents.room().await;
        let small = contents.hold(1);
        let waits = tokio::time::timeout(Duration::from_secs(1), contents.room());
        assert!(waits.await.is_err(), "there is no room");
        let (room, ()) =
            tokio::join!(tokio::time::timeout(Duration::from_secs(1), contents.room()), async {
                drop(small)
            });
        assert!(room.is_ok());
        drop(large);
    }
}
