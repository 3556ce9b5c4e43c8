//! Chores that are done in portions, beside publishers and workers.

use tokio::time::Instant;

/// After how many something else has its turn.
const PORTIONS_MAX: usize = 100;

/// The portions of one chore.
pub struct Portions {
    done: usize,
    begun: Instant,
}

impl Portions {
    /// The first one begins.
    pub fn begin() -> Self {
        Self { done: 0, begun: Instant::now() }
    }

    /// One is done, and there is more: waits as long as it took, for half of the time is for others. Whether another one
    /// begins.
    pub async fn another(&mut self) -> bool {
        tokio::time::sleep(self.begun.elapsed()).await;
        self.done += 1;
        self.begun = Instant::now();
        self.done < PORTIONS_MAX
    }
}
