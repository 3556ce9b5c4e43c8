//! Whose token a command takes: what stands on a command line is seen by everybody on the machine, so
//! that the environment, `.env` included, is the better place.

use super::outcome::UsageError;
use crate::config::{COMMANDS_TOKEN, default_of, environment};

/// What a command does with the bus decides whose token it takes when `--token` is not given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Capacity {
    /// Publishes or subscribes: ROUTEMASTER_TOKEN, else the default client.
    Client,
    /// Looks at the bus: ROUTEMASTER_TOKEN, else the root key if it is set here, else the default
    /// client.
    Operator,
    /// Does what the holder of the root key may do alone: ROUTEMASTER_ROOT_KEY.
    Root,
}

/// A token, and where it comes from, for messages.
pub type Credentials = (String, &'static str);

/// The option that wins over all of it.
pub const OPTION: &str = "--token";
const ROOT_KEY: &str = "ROUTEMASTER_ROOT_KEY";

impl Capacity {
    /// # Errors
    /// If the root key is needed and not set.
    pub fn credentials(
        self,
        variable: &dyn Fn(&str) -> Option<String>,
    ) -> anyhow::Result<Credentials> {
        let own = || Some((variable(COMMANDS_TOKEN)?, COMMANDS_TOKEN));
        let root = || Some((variable(ROOT_KEY)?, ROOT_KEY));
        let default = || (default_token().to_owned(), "the default");
        match self {
            Self::Client => Ok(own().unwrap_or_else(default)),
            Self::Operator => Ok(own().or_else(root).unwrap_or_else(default)),
            Self::Root => root().ok_or_else(|| {
                let reason = "this needs the root key of the bus: set ROUTEMASTER_ROOT_KEY, in the \
                              environment or in .env, or give it with --token";
                UsageError::new(reason).into()
            }),
        }
    }
}

/// The token of the client that a bus allows when it is told of none.
fn default_token() -> &'static str {
    default_of("ROUTEMASTER_CLIENTS")
}

/// An environment variable; an empty one counts as not set.
pub fn variable(name: &str) -> Option<String> {
    environment::variable(name).filter(|value| !value.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_command_does_decides_whose_token_it_takes() {
        let all = |name: &str| match name {
            COMMANDS_TOKEN => Some("mine".to_owned()),
            ROOT_KEY => Some("boss".to_owned()),
            _ => None,
        };
        let root_only = |name: &str| all(name).filter(|_| name == ROOT_KEY);
        let none = |_: &str| None;
        let token = |capacity: Capacity, variable: &dyn Fn(&str) -> Option<String>| {
            capacity.credentials(variable).ok().map(|(token, _)| token)
        };
        for (capacity, expected) in [
            (Capacity::Client, [Some("mine"), Some("demo"), Some("demo")]),
            (Capacity::Operator, [Some("mine"), Some("boss"), Some("demo")]),
            (Capacity::Root, [Some("boss"), Some("boss"), None]),
        ] {
            let found =
                [token(capacity, &all), token(capacity, &root_only), token(capacity, &none)];
            assert_eq!(found.each_ref().map(Option::as_deref), expected, "{capacity:?}");
        }
    }
}
