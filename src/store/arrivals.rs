//! Who waits for events of which queue: a held request is woken when something comes into its own, and by nothing
//! else.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

use crate::bus::token::ClientToken;

/// Those of this process who wait.
#[derive(Default)]
pub struct Arrivals(Mutex<HashMap<ClientToken, Waiting>>);

struct Waiting {
    bell: Arc<Notify>,
    count: usize,
}

/// Somebody who waits, until this is dropped.
pub struct Arrival {
    arrivals: Arc<Arrivals>,
    subscriber: ClientToken,
    bell: Arc<Notify>,
}

impl Arrivals {
    /// Begins to listen; then look whether something is there, and only then wait.
    pub fn listen(self: &Arc<Self>, subscriber: &ClientToken) -> Arrival {
        let mut all = self.lock();
        let new = || Waiting { bell: Arc::default(), count: 0 };
        let waiting = all.entry(subscriber.clone()).or_insert_with(new);
        waiting.count += 1;
        let bell = waiting.bell.clone();
        Arrival { arrivals: self.clone(), subscriber: subscriber.clone(), bell }
    }

    /// Wakes whoever waits for something in the queues of these.
    pub fn tell<'a>(&self, subscribers: impl IntoIterator<Item = &'a ClientToken>) {
        let all = self.lock();
        for subscriber in subscribers {
            if let Some(waiting) = all.get(subscriber) {
                waiting.bell.notify_waiters();
            }
        }
    }

    /// Wakes all: what they wait for may have come.
    pub fn tell_all(&self) {
        self.lock().values().for_each(|waiting| waiting.bell.notify_waiters());
    }

    /// Whether anybody waits.
    pub fn is_awaited(&self) -> bool {
        !self.lock().is_empty()
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<ClientToken, Waiting>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Arrival {
    /// Completes when something has come since this future was made.
    pub fn next(&self) -> impl Future<Output = ()> + use<> {
        self.bell.clone().notified_owned()
    }
}

impl Drop for Arrival {
    fn drop(&mut self) {
        let mut all = self.arrivals.lock();
        if let Some(waiting) = all.get_mut(&self.subscriber) {
            waiting.count -= 1;
            if waiting.count == 0 {
                all.remove(&self.subscriber);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[tokio::test]
    async fn only_who_is_meant_is_woken_and_nobody_is_remembered() {
        let arrivals = Arc::<Arrivals>::default();
        let [alice, bob] = ["alice", "bob"].map(|name| ClientToken::parse(name).unwrap());
        let soon = Duration::from_millis(50);
        let (first, second, other) =
            (arrivals.listen(&alice), arrivals.listen(&alice), arrivals.listen(&bob));
        let (one, two, three) = (first.next(), second.next(), other.next());
        arrivals.tell([&alice]);
        tokio::time::timeout(soon, async { tokio::join!(one, two) }).await.unwrap();
        tokio::time::timeout(soon, three).await.unwrap_err();
        drop((first, second, other));
        assert!(!arrivals.is_awaited());
    }
}
