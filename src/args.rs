//! Reads the command line and the environment.

use clap::{Arg, CommandFactory, FromArgMatches, Parser, Subcommand};
use routemaster::cli::autodrop::AutodropArgs;
use routemaster::cli::import::ImportArgs;
use routemaster::cli::listen::ListenArgs;
use routemaster::cli::publish::PublishArgs;
use routemaster::config::{SETTINGS, SettingError, Settings, Sources, unknown_names};
use routemaster::roles::Role;

/// An HTTPS event bus: publish small notifications, receive them in ordered batches.
#[derive(Parser)]
#[command(name = "routemaster", version, after_help = AFTER_HELP)]
struct Cli {
    #[command(subcommand)]
    command: Option<Subcommands>,
}

const AFTER_HELP: &str = "\
Without a command, the bus is served: `routemaster` alone is `routemaster serve`.
Each setting is an environment variable, a line in a .env file, or a flag; a flag wins.
`routemaster serve --help` lists them all.";

#[derive(Subcommand)]
#[allow(clippy::large_enum_variant, reason = "there is one of it, for a moment")]
enum Subcommands {
    /// Take publishes and deliver them, in one process (the default)
    Serve,
    /// Take publishes only; a worker beside it delivers
    Web,
    /// Deliver only, what a web process takes
    Worker,
    /// Drop the oldest events if the store is short of room, or tell which ones would go
    #[command(after_help = "It takes the settings of `routemaster serve`, as flags too.")]
    Autodrop(AutodropArgs),
    /// Move in from a Ruby Routemaster: topics, tokens, subscribers and queued events from its Redis
    #[command(
        after_help = "It takes the settings of `routemaster serve`, as flags too. docs/moving-in.md tells how to move."
    )]
    Import(ImportArgs),
    #[command(flatten)]
    Chore(Chore),
}

/// A command that talks to a running bus.
#[derive(Subcommand)]
pub enum Chore {
    /// Receive the events of topics and print them
    Listen(ListenArgs),
    /// Publish events to a topic
    Publish(PublishArgs),
}

/// What the process is to do.
pub enum Command {
    Role { role: Role, settings: Box<Settings>, unknown: Vec<String> },
    Autodrop { args: AutodropArgs, settings: Box<Settings>, unknown: Vec<String> },
    Import { args: ImportArgs, settings: Box<Settings>, unknown: Vec<String> },
    Chore(Chore),
}

/// Reads `.env`, the command line and the environment. Ends the process for `--help`,
/// `--version` and a wrong command line.
pub fn parse() -> anyhow::Result<Command> {
    read_dotenv()?;
    let matches = command().get_matches();
    let flags = matches.subcommand().map_or(&matches, |(_, flags)| flags);
    let cli = Cli::from_arg_matches(&matches).unwrap_or_else(|error| error.exit());
    // `routemaster --port 1 web` means the same as `routemaster web --port 1`.
    let flag = |name: &str| {
        let given = [flags, &matches].into_iter();
        given.filter_map(|flags| flags.try_get_one::<String>(name).ok().flatten()).next().cloned()
    };
    let settings = || load(&flag).map(Box::new);
    let names = std::env::vars_os().filter_map(|(name, _)| name.into_string().ok());
    let unknown = unknown_names(names);
    let role = match cli.command {
        None | Some(Subcommands::Serve) => Role::Serve,
        Some(Subcommands::Web) => Role::Web,
        Some(Subcommands::Worker) => Role::Worker,
        Some(Subcommands::Autodrop(args)) => {
            return Ok(Command::Autodrop { args, settings: settings()?, unknown });
        }
        Some(Subcommands::Import(args)) => {
            return Ok(Command::Import { args, settings: settings()?, unknown });
        }
        Some(Subcommands::Chore(chore)) => return Ok(Command::Chore(chore)),
    };
    Ok(Command::Role { role, settings: settings()?, unknown })
}

/// A missing `.env` is fine; one that cannot be read is not.
fn read_dotenv() -> anyhow::Result<()> {
    match dotenvy::from_path(".env") {
        Ok(_) => Ok(()),
        Err(error) if error.not_found() => Ok(()),
        Err(error) => Err(SettingError::Conflict(format!("failed to read .env: {error}")).into()),
    }
}

fn load(flags: &dyn Fn(&str) -> Option<String>) -> Result<Settings, SettingError> {
    // What is not UTF-8 must not pass for not set: no setting allows the replacement character.
    let environment = |name: &str| Some(std::env::var_os(name)?.to_string_lossy().into_owned());
    Settings::load(&Sources { flags, environment: &environment })
}

/// The commands, with a flag for each setting where settings are read.
fn command() -> clap::Command {
    let with_settings = |command: clap::Command| {
        SETTINGS.iter().fold(command, |command, setting| {
            let default = match setting.default {
                "" => String::new(),
                default => format!(" [default: {default}]"),
            };
            let meaning = setting.meaning.trim();
            let help = format!("{meaning}\n{}: {}{default}", setting.name, setting.allowed);
            let flag = Arg::new(setting.flag()).long(setting.flag()).value_name("VALUE");
            command.arg(flag.help(help).help_heading("Settings"))
        })
    };
    // The flags work here as well, but the help is about something else.
    let with_hidden_settings = |command: clap::Command| {
        let own: Vec<_> = command.get_arguments().map(|arg| arg.get_id().clone()).collect();
        with_settings(command)
            .mut_args(|arg| if own.contains(arg.get_id()) { arg } else { arg.hide(true) })
    };
    let cli = with_hidden_settings(Cli::command())
        .mut_subcommand("autodrop", with_hidden_settings)
        .mut_subcommand("import", with_hidden_settings);
    ["serve", "web", "worker"]
        .into_iter()
        .fold(cli, |cli, role| cli.mut_subcommand(role, with_settings))
}
