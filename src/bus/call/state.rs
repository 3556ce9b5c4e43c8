//! What calls are, and where they stand.

/// Where a call came from, which says how it is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum CallKind {
    Call,
    Postback,
    /// A body that was taken unread, and holds no call (contract §9, `ROUTEMASTER_CALLS_FAST`).
    Unread,
    /// What a message publisher has to forward (contract §11).
    Message,
}

impl CallKind {
    pub const ALL: [Self; 4] = [Self::Call, Self::Postback, Self::Unread, Self::Message];

    pub fn as_str(self) -> &'static str {
        match self {
            Self::Call => "call",
            Self::Postback => "postback",
            Self::Unread => "unread",
            Self::Message => "message",
        }
    }

    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.as_str() == text)
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum CallState {
    /// It waits for its first attempt.
    Waiting,
    Sending,
    /// It waits to be made again.
    Failing,
    /// It was given up.
    Dead,
    Done,
}

impl CallState {
    pub const ALL: [Self; 5] =
        [Self::Waiting, Self::Sending, Self::Failing, Self::Dead, Self::Done];

    pub fn as_str(self) -> &'static str {
        match self {
            Self::Waiting => "waiting",
            Self::Sending => "sending",
            Self::Failing => "failing",
            Self::Dead => "dead",
            Self::Done => "done",
        }
    }

    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|state| state.as_str() == text)
    }

    /// From what stores keep: whether it is over, whether it is on its way, how often it was made.
    pub(crate) fn of(over: Option<&str>, is_leased: bool, attempts: u32) -> Self {
        match over {
            Some("done") => Self::Done,
            Some(_) => Self::Dead,
            None if is_leased => Self::Sending,
            None if attempts > 0 => Self::Failing,
            None => Self::Waiting,
        }
    }
}
