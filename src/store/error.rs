//! What goes wrong with a store.

/// Why the store did not do what it was asked.
#[derive(Debug, Clone, thiserror::Error)]
pub enum StoreError {
    /// It cannot be reached or is too busy; the same call may succeed later.
    #[error("the store is not available: {0}")]
    Unavailable(String),
    /// It has no room left for what it was to store.
    #[error("the store is full: {0}")]
    Full(String),
    /// It answered something that the bus does not understand.
    #[error("the store answered wrongly: {0}")]
    Corrupt(String),
}

pub type StoreResult<T> = Result<T, StoreError>;
