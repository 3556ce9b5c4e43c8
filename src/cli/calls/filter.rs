//! Which calls are meant.

use clap::{Args, ValueEnum};

use crate::bus::call::CallState;
use crate::cli::pages;
use crate::cli::words::moment;

/// What all calls that are meant have in common.
#[derive(Args, Clone, Default)]
pub struct Filter {
    /// In this state.
    #[arg(long)]
    pub state: Option<State>,
    #[command(flatten)]
    pub of: Of,
}

/// The part of it that holds in any state.
#[derive(Args, Clone, Default)]
pub struct Of {
    /// To this destination: scheme, host and port, such as `https://example.com:443`.
    #[arg(long, value_name = "ORIGIN")]
    pub destination: Option<String>,
    /// Of this client: a token, or calls-key, open or root; needs the root key.
    #[arg(long, value_name = "TOKEN")]
    pub client: Option<String>,
    /// Accepted then or later: milliseconds since 1970, or how long ago, such as 30m, 12h or 7d.
    #[arg(long, value_name = "TIME", value_parser = moment)]
    pub since: Option<u64>,
    /// Accepted before then.
    #[arg(long, value_name = "TIME", value_parser = moment)]
    pub until: Option<u64>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum State {
    Waiting,
    Sending,
    Failing,
    Dead,
    Done,
}

impl From<State> for CallState {
    fn from(state: State) -> Self {
        match state {
            State::Waiting => Self::Waiting,
            State::Sending => Self::Sending,
            State::Failing => Self::Failing,
            State::Dead => Self::Dead,
            State::Done => Self::Done,
        }
    }
}

impl Filter {
    /// Whether it is about no call in particular.
    pub fn is_any(&self) -> bool {
        let Of { destination, client, since, until } = &self.of;
        self.state.is_none()
            && destination.is_none()
            && client.is_none()
            && since.is_none()
            && until.is_none()
    }

    /// As a query, with more at its end.
    pub fn query(&self, more: &pages::More) -> String {
        let Of { destination, client, since, until } = &self.of;
        let state = self.state.map(|state| CallState::from(state).as_str().to_owned());
        let own = [
            ("state", state),
            ("destination", destination.clone()),
            ("client", client.clone()),
            ("since", since.map(|since| since.to_string())),
            ("until", until.map(|until| until.to_string())),
        ];
        pages::query(own, more)
    }
}
