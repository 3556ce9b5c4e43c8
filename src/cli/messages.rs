//! `routemaster messages`: which messages there are, what became of one, and what to do about them.

mod erase;
mod list;
mod one;
mod send;

use clap::{Args, Subcommand};

#[derive(Args)]
#[command(after_help = AFTER_HELP, args_conflicts_with_subcommands = true)]
pub struct MessagesArgs {
    #[command(subcommand)]
    action: Option<Action>,
    #[command(flatten)]
    list: list::ListArgs,
}

const AFTER_HELP: &str = "\
Examples:
  routemaster messages                                 the newest
  routemaster messages --topic orders --state dead
  routemaster messages --text '\"order\": 17'
  routemaster messages send orders -d '{\"order\": 17}' -a kind=created
  routemaster messages show 1764322800000123   with each attempt to forward
  routemaster messages retry 1764322800000123
  routemaster messages erase --topic orders --until 1790000000000";

#[derive(Subcommand)]
enum Action {
    /// List messages, the newest first
    List(list::ListArgs),
    /// Send a message to a topic
    Send(send::SendArgs),
    /// Show a message, and each attempt to forward it
    Show(one::ShowArgs),
    /// Try to forward a message at once, also where it was given up
    Retry(one::RetryArgs),
    /// Erase a message with all that is known of it, or all that match
    Erase(erase::EraseArgs),
}

/// # Errors
/// Why it was not done, and what to do.
pub async fn run(args: MessagesArgs) -> anyhow::Result<()> {
    match args.action {
        None => list::run(args.list).await,
        Some(Action::List(args)) => list::run(args).await,
        Some(Action::Send(args)) => send::run(args).await,
        Some(Action::Show(args)) => one::show(args).await,
        Some(Action::Retry(args)) => one::retry(args).await,
        Some(Action::Erase(args)) => erase::run(args).await,
    }
}
