//! Numbers the commits of this process, so that Redis knows one that is sent again.
//!
//! Commits that run at the same time use different slots; a slot's commits are numbered upwards.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use crate::bus::token::random_hex;

/// The slots of this process.
pub struct CommitSlots {
    process: String,
    made: AtomicU64,
    free: Mutex<Vec<CommitSlot>>,
}

/// A committer's name, and the number of its present commit.
pub struct CommitSlot {
    pub name: String,
    pub number: u64,
}

impl CommitSlots {
    pub fn new() -> anyhow::Result<Self> {
        let (made, free) = (AtomicU64::new(0), Mutex::default());
        Ok(Self { process: random_hex()?, made, free })
    }

    /// Takes a slot with its number moved on.
    pub fn take(&self) -> CommitSlot {
        let mut free = self.free.lock().unwrap_or_else(PoisonError::into_inner);
        let mut slot = free.pop().unwrap_or_else(|| {
            // A slot whose last commit's fate is unknown is never used again, nor is its name.
            let index = self.made.fetch_add(1, Ordering::Relaxed);
            CommitSlot { name: format!("{}.{index}", self.process), number: 0 }
        });
        slot.number += 1;
        slot
    }

    /// Gives a slot back whose commit was answered.
    pub fn give_back(&self, slot: CommitSlot) {
        self.free.lock().unwrap_or_else(PoisonError::into_inner).push(slot);
    }
}
