//! Reads the command line and the environment.

mod help;

use clap::{Arg, CommandFactory, FromArgMatches, Parser, Subcommand};
use routemaster::cli::autodrop::AutodropArgs;
use routemaster::cli::call::CallArgs;
use routemaster::cli::calls::CallsArgs;
use routemaster::cli::completions::CompletionsArgs;
use routemaster::cli::control::{PauseArgs, ResumeArgs, RetryArgs, SkipArgs};
use routemaster::cli::dead_letters::DeadLettersArgs;
use routemaster::cli::doctor::DoctorArgs;
use routemaster::cli::drain::DrainArgs;
use routemaster::cli::import::ImportArgs;
use routemaster::cli::journal::JournalArgs;
use routemaster::cli::listen::ListenArgs;
use routemaster::cli::message_publishers::MessagePublishersArgs;
use routemaster::cli::message_topics::MessageTopicsArgs;
use routemaster::cli::messages::MessagesArgs;
use routemaster::cli::profile::ProfileArgs;
use routemaster::cli::ps::PsArgs;
use routemaster::cli::publish::PublishArgs;
use routemaster::cli::pulse::PulseArgs;
use routemaster::cli::queue::QueueArgs;
use routemaster::cli::replay::ReplayArgs;
use routemaster::cli::subscribe::SubscribeArgs;
use routemaster::cli::subscriptions::SubscriptionsArgs;
use routemaster::cli::token::TokenArgs;
use routemaster::cli::topics::TopicsArgs;
use routemaster::cli::trace::TraceArgs;
use routemaster::cli::unsubscribe::UnsubscribeArgs;
use routemaster::config::{
    Role, SETTINGS, SettingError, Settings, Sources, Survey, environment, unknown_names,
};
use routemaster_bench::BenchArgs;

/// An HTTPS event bus: publish small notifications, receive them in ordered batches.
#[derive(Parser)]
#[command(name = "routemaster", version, after_help = help::AFTER_HELP)]
struct Cli {
    #[command(subcommand)]
    command: Option<Subcommands>,
}

#[derive(Subcommand)]
#[allow(clippy::large_enum_variant, reason = "there is one of it, for a moment")]
enum Subcommands {
    /// Take publishes and deliver, in one process (the default)
    #[command(after_help = help::SERVE)]
    Serve,
    /// Take publishes only; a worker beside it delivers
    #[command(after_help = help::ROLE)]
    Web,
    /// Deliver only, what a web process takes
    #[command(after_help = help::ROLE)]
    Worker,
    /// Drop the oldest events if the store is short of room
    #[command(after_help = help::AUTODROP)]
    Autodrop(AutodropArgs),
    /// Say what is wrong with a bus, and what to do about it
    Doctor(DoctorArgs),
    /// Print the script that lets a shell complete these commands
    Completions(CompletionsArgs),
    /// Move in from what a bus replaces, with what waits there
    #[command(after_help = help::IMPORT)]
    Import(ImportArgs),
    /// Measure how much goes through, and how long it takes
    Bench(BenchArgs),
    #[command(flatten)]
    Chore(Chore),
}

/// A command that talks to a running bus.
#[derive(Subcommand)]
#[allow(clippy::large_enum_variant, reason = "there is one of it, for a moment")]
pub enum Chore {
    /// Receive the events of topics and print them
    Listen(ListenArgs),
    /// Publish events to a topic
    Publish(PublishArgs),
    /// Subscribe a callback to topics
    Subscribe(SubscribeArgs),
    /// Unsubscribe from topics, or remove a subscription
    Unsubscribe(UnsubscribeArgs),
    /// List the topics, or delete one
    Topics(TopicsArgs),
    /// List who receives what, and how much waits; or show one
    Subscriptions(SubscriptionsArgs),
    /// Look at what waits for a subscriber
    Queue(QueueArgs),
    /// Tell what became of one event
    Trace(TraceArgs),
    /// Hold a queue: nothing is sent, everything is kept
    Pause(PauseArgs),
    /// End a pause
    Resume(ResumeArgs),
    /// Deliver what waits for a subscriber now
    Retry(RetryArgs),
    /// Take what is in the way out of a subscriber's queue
    Skip(SkipArgs),
    /// Have what topics have kept once more
    Replay(ReplayArgs),
    /// Let the bus make a request until it succeeds
    Call(CallArgs),
    /// List the calls, show, retry or cancel one, or many
    Calls(CallsArgs),
    /// List what was given up, put an event back or forget it
    DeadLetters(DeadLettersArgs),
    /// List the messages, send, show, retry or erase one
    Messages(MessagesArgs),
    /// List the topics of messages, make or remove one
    MessageTopics(MessageTopicsArgs),
    /// List who forwards messages, make, change or remove one
    MessagePublishers(MessagePublishersArgs),
    /// List every attempt at a delivery
    Journal(JournalArgs),
    /// List the processes of the bus, and how busy they are
    Ps(PsArgs),
    /// Let a worker finish what it does, and begin nothing more
    Drain(DrainArgs),
    /// Show where the bus spends its processor time
    Profile(ProfileArgs),
    /// Tell whether the bus works, as a health check
    Pulse(PulseArgs),
    /// Make, list and remove the tokens of clients
    Token(TokenArgs),
}

/// What the process is to do.
pub enum Command {
    Role {
        role: Role,
        settings: Box<Settings>,
        unknown: Vec<String>,
    },
    Autodrop {
        args: AutodropArgs,
        settings: Box<Settings>,
        unknown: Vec<String>,
    },
    Doctor {
        args: DoctorArgs,
        survey: Box<Survey>,
        /// What is wrong with `.env`, or with the file of a secret.
        files: Option<SettingError>,
    },
    Completions {
        args: CompletionsArgs,
        command: Box<clap::Command>,
    },
    Import {
        args: ImportArgs,
        settings: Box<Settings>,
        unknown: Vec<String>,
    },
    Bench(BenchArgs),
    /// What `bench` measures the bus against.
    BareServer {
        settings: Box<Settings>,
    },
    Chore(Chore),
}

/// Reads the command line, `.env` and the environment. Ends the process for `--help`,
/// `--version` and a wrong command line.
pub fn parse() -> anyhow::Result<Command> {
    let matches = command().get_matches();
    let flags = matches.subcommand().map_or(&matches, |(_, flags)| flags);
    let cli = Cli::from_arg_matches(&matches).unwrap_or_else(|error| error.exit());
    // `routemaster --port 1 web` means the same as `routemaster web --port 1`.
    let flag = |name: &str| {
        let given = [flags, &matches].into_iter();
        given.filter_map(|flags| flags.try_get_one::<String>(name).ok().flatten()).next().cloned()
    };
    let files = environment::complete();
    let sources = Sources { flags: &flag, environment: &environment::variable };
    let settings = || Settings::load(&sources).map(Box::new);
    let unknown = unknown_names(environment::names());
    let role = match cli.command {
        None | Some(Subcommands::Serve) => Role::Serve,
        Some(Subcommands::Web) => Role::Web,
        Some(Subcommands::Worker) => Role::Worker,
        Some(Subcommands::Autodrop(args)) => {
            files?;
            return Ok(Command::Autodrop { args, settings: settings()?, unknown });
        }
        Some(Subcommands::Import(args)) => {
            files?;
            return Ok(Command::Import { args, settings: settings()?, unknown });
        }
        Some(Subcommands::Doctor(args)) => {
            let survey = Box::new(Survey::of(&sources, environment::names())?);
            return Ok(Command::Doctor { args, survey, files: files.err() });
        }
        Some(Subcommands::Completions(args)) => {
            return Ok(Command::Completions { args, command: Box::new(to_complete()) });
        }
        Some(Subcommands::Bench(args)) if args.is_bare_server() => {
            return Ok(Command::BareServer { settings: settings()? });
        }
        Some(Subcommands::Bench(args)) => {
            files?;
            return Ok(Command::Bench(args));
        }
        Some(Subcommands::Chore(chore)) => {
            files?;
            return Ok(Command::Chore(chore));
        }
    };
    files?;
    Ok(Command::Role { role, settings: settings()?, unknown })
}

/// Where the settings stand in the help.
const ROLES: [&str; 3] = ["serve", "web", "worker"];

/// The commands, with a flag for each setting where settings are read.
fn command() -> clap::Command {
    // The flags work here as well, but the help is about something else.
    let with_hidden_settings = |command: clap::Command| {
        let own: Vec<_> = command.get_arguments().map(|arg| arg.get_id().clone()).collect();
        with_settings(command)
            .mut_args(|arg| if own.contains(arg.get_id()) { arg } else { arg.hide(true) })
    };
    let cli = with_hidden_settings(to_complete());
    let cli = cli.mut_subcommand("autodrop", with_hidden_settings);
    let cli = cli.mut_subcommand("doctor", with_hidden_settings);
    let cli = cli.mut_subcommand("import", with_hidden_settings);
    let template = help::template(&cli);
    help::flowing(cli.help_template(template))
}

/// The commands with those flags only that the help shows: a shell does not offer the others.
fn to_complete() -> clap::Command {
    ROLES.into_iter().fold(Cli::command(), |cli, role| cli.mut_subcommand(role, with_settings))
}

fn with_settings(command: clap::Command) -> clap::Command {
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
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_consistent_and_every_command_is_in_its_help() {
        let mut command = command();
        command.clone().debug_assert();
        let help = command.render_help().to_string();
        assert!(!help.contains("Others:"), "a command is in no group:\n{help}");
        let names = command.get_subcommands().map(clap::Command::get_name);
        for name in names.filter(|name| *name != "help") {
            assert!(help.contains(&format!("\n  {name} ")), "{name} is missing:\n{help}");
        }
    }

    /// The commands with all that are below them, and how each is called.
    fn all(command: &clap::Command, called: &str) -> Vec<(String, clap::Command)> {
        let called = format!("{called} {}", command.get_name());
        let below = command.get_subcommands().flat_map(|below| all(below, &called));
        [(called.clone(), command.clone())].into_iter().chain(below).collect()
    }

    #[test]
    fn help_is_whole_on_eighty_columns() {
        let mut broken = Vec::new();
        for (called, command) in all(&command(), "") {
            let after = command.get_after_help().map(ToString::to_string).unwrap_or_default();
            let examples = after.lines().filter(|line| line.starts_with(' '));
            broken.extend(examples.filter(|line| line.chars().count() > 80).map(str::to_owned));
            let help = command.term_width(80).render_long_help().to_string();
            let wide = help.lines().filter(|line| line.chars().count() > 80);
            broken.extend(wide.map(|line| format!("{called}: {line}")));
        }
        assert!(broken.is_empty(), "{broken:#?}");
    }

    #[test]
    fn every_command_teaches_by_examples() {
        for command in command().get_subcommands() {
            let after = command.get_after_help().map(ToString::to_string).unwrap_or_default();
            assert!(after.contains("routemaster "), "{} has no example", command.get_name());
        }
    }
}
