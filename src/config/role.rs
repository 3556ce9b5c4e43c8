//! What a process does.

/// The role of a process: each is a subcommand.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Role {
    Serve,
    Web,
    Worker,
}

impl Role {
    /// The subcommand's name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Serve => "serve",
            Self::Web => "web",
            Self::Worker => "worker",
        }
    }
}
