//! `routemaster completions`: what lets a shell complete the commands.

use clap::Args;
use clap_complete::Shell;

use super::table::print;

#[derive(Args)]
#[command(after_help = AFTER_HELP)]
pub struct CompletionsArgs {
    /// The shell.
    shell: Shell,
}

const AFTER_HELP: &str = "\
Where it goes:
  bash        ~/.local/share/bash-completion/completions/routemaster
  zsh         ~/.zfunc/_routemaster, with these lines in ~/.zshrc:
              fpath+=~/.zfunc; autoload -U compinit; compinit
  fish        ~/.config/fish/completions/routemaster.fish
  elvish      the end of ~/.config/elvish/rc.elv
  powershell  the end of the file $PROFILE

Examples:
  routemaster completions zsh > ~/.zfunc/_routemaster
  routemaster completions powershell >> $PROFILE

It takes effect in the next shell.";

/// Prints the script for one shell. `command` is the whole command line.
///
/// # Errors
/// If it cannot be written.
pub fn run(args: &CompletionsArgs, mut command: clap::Command) -> anyhow::Result<()> {
    let name = command.get_name().to_owned();
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut command, name, &mut script);
    Ok(print(&String::from_utf8_lossy(&script))?)
}
