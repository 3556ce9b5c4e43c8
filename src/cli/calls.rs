//! `routemaster calls`: which calls there are, how one stands, and what to do about them.

mod filter;
mod list;
mod many;
mod one;

use clap::{Args, Subcommand};

#[derive(Args)]
#[command(after_help = AFTER_HELP, args_conflicts_with_subcommands = true)]
pub struct CallsArgs {
    #[command(subcommand)]
    action: Option<Action>,
    #[command(flatten)]
    list: list::ListArgs,
}

const AFTER_HELP: &str = "\
Examples:
  routemaster calls                                    the newest
  routemaster calls --state failing
  routemaster calls show order:17                      with its attempts
  routemaster calls retry --state dead --destination https://example.com:443
  routemaster calls cancel order:17
  routemaster calls purge --state dead";

#[derive(Subcommand)]
enum Action {
    /// List calls, the newest first
    List(list::ListArgs),
    /// Show a call and its attempts
    Show(one::ShowArgs),
    /// Make a call due at once, or all that match; dead ones live again
    Retry(many::RetryArgs),
    /// End a call: it is never made again
    Cancel(one::CancelArgs),
    /// End all calls that match
    Purge(many::PurgeArgs),
}

/// # Errors
/// Why it was not done, and what to do.
pub async fn run(args: CallsArgs) -> anyhow::Result<()> {
    match args.action {
        None => list::run(args.list).await,
        Some(Action::List(args)) => list::run(args).await,
        Some(Action::Show(args)) => one::show(args).await,
        Some(Action::Retry(args)) => many::retry(args).await,
        Some(Action::Cancel(args)) => one::cancel(args).await,
        Some(Action::Purge(args)) => many::purge(args).await,
    }
}
