//! What a run costs in processor time and memory.

use serde::Serialize;

use super::usage::Usage;

#[derive(Clone, Copy, Default, Serialize)]
pub struct Cost {
    /// Of all its processes, if this command has started it.
    pub bus: Option<Usage>,
    pub redis: Option<Usage>,
    /// Publishers and receivers.
    pub bench: Usage,
}
