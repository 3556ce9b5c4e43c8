//! The bytes that clients make this process hold: bodies of requests that are not answered yet, and answers
//! that are not read yet. They are bounded, for all together and for each client.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;

use crate::bus::token::ClientToken;

/// How much may be held for all (contract §1), and for one.
const MAX: u64 = 256 * 1024 * 1024;
const MAX_OF_ONE: u64 = MAX / 4;
/// How long a request waits for room.
const WAIT: Duration = Duration::from_secs(5);

/// Whom bytes are held for.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Holder {
    Client(ClientToken),
    Root,
    Monitor,
    /// All those together who have not said who they are, or whom nobody asked.
    Strangers,
}

/// Who makes a request, in its extensions, as soon as that is known.
#[derive(Clone, Default)]
pub struct Requester(Arc<OnceLock<Holder>>);

impl Requester {
    pub fn learn(&self, holder: Holder) {
        // Whoever was found first stays.
        let _ = self.0.set(holder);
    }

    pub fn holder(&self) -> Holder {
        self.0.get().cloned().unwrap_or(Holder::Strangers)
    }
}

/// All bytes that are held.
#[derive(Default)]
pub struct BytesInFlight {
    held: Mutex<HeldBytes>,
    freed: Notify,
}

#[derive(Default)]
struct HeldBytes {
    total: u64,
    by_holder: HashMap<Holder, u64>,
}

/// So many bytes of one holder; free again when it is dropped.
pub struct Held {
    pool: Arc<BytesInFlight>,
    holder: Holder,
    bytes: u64,
}

/// There is no room for more bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("too many bytes of requests and answers are under way: try again")]
pub struct NoRoom;

impl BytesInFlight {
    /// Room for so many bytes, at once.
    ///
    /// # Errors
    /// If there is none.
    pub fn take_now(self: &Arc<Self>, holder: Holder, bytes: u64) -> Result<Held, NoRoom> {
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        let own = held.by_holder.get(&holder).copied().unwrap_or(0);
        if held.total + bytes > MAX || own + bytes > MAX_OF_ONE {
            return Err(NoRoom);
        }
        held.total += bytes;
        if bytes > 0 {
            held.by_holder.insert(holder.clone(), own + bytes);
        }
        Ok(Held { pool: self.clone(), holder, bytes })
    }

    /// Room for so many bytes, as soon as there is some.
    ///
    /// # Errors
    /// If there is none for a while.
    pub async fn take(self: &Arc<Self>, holder: Holder, bytes: u64) -> Result<Held, NoRoom> {
        if let Ok(held) = self.take_now(holder.clone(), bytes) {
            return Ok(held);
        }
        let waited = async {
            loop {
                let freed = self.freed.notified();
                if let Ok(held) = self.take_now(holder.clone(), bytes) {
                    return held;
                }
                freed.await;
            }
        };
        tokio::time::timeout(WAIT, waited).await.map_err(|_| NoRoom)
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        if self.bytes == 0 {
            return;
        }
        let mut held = self.pool.held.lock().unwrap_or_else(PoisonError::into_inner);
        held.total -= self.bytes;
        if let Some(own) = held.by_holder.get_mut(&self.holder) {
            *own -= self.bytes;
            if *own == 0 {
                held.by_holder.remove(&self.holder);
            }
        }
        drop(held);
        self.pool.freed.notify_waiters();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn holder(number: u8) -> Holder {
        Holder::Client(ClientToken::parse(&format!("client-{number}")).unwrap())
    }

    #[tokio::test(start_paused = true)]
    async fn one_holder_has_a_quarter_and_waits_for_more() {
        let pool = Arc::new(BytesInFlight::default());
        let first = pool.take(holder(1), MAX_OF_ONE - 1).await.unwrap();
        let _rest = pool.take_now(holder(1), 1).unwrap();
        assert_eq!(pool.take_now(holder(1), 1).err(), Some(NoRoom));
        let _others: Vec<_> =
            (2..5).map(|number| pool.take_now(holder(number), MAX_OF_ONE).unwrap()).collect();
        assert_eq!(pool.take(holder(5), 1).await.err(), Some(NoRoom), "all of it is taken");
        let waiting = tokio::spawn({
            let pool = pool.clone();
            async move { pool.take(holder(1), 100).await.map(drop) }
        });
        tokio::task::yield_now().await;
        drop(first);
        waiting.await.unwrap().unwrap();
        assert_eq!(pool.held.lock().unwrap().by_holder.len(), 4, "none is remembered in vain");
    }
}
