//! The command line: one subcommand for each role and each of the operator's commands.

#![deny(clippy::print_stdout, clippy::print_stderr)]

mod args;

use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context;
use args::{Chore, Command};
use routemaster::cli::outcome::{AlreadyTold, UsageError};
use routemaster::config::SettingError;
use routemaster::note;
use routemaster::{cli, roles, telemetry, tls};

/// A publish makes some dozens of small allocations, often freed by another thread: the system's
/// allocator takes a sixth of the time of one. Huge pages would make a process at rest half as large
/// again.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// The exit code for a command line or a setting that cannot be used.
const USAGE: u8 = 2;

/// How long work that nobody waits for any more may hold up the end, such as a name that is
/// being resolved.
const LINGER: Duration = Duration::from_millis(500);

fn main() -> ExitCode {
    match args::parse().and_then(run_to_end) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            if error.is::<AlreadyTold>() {
                return ExitCode::FAILURE;
            }
            note!("routemaster: {error:#}");
            let usage = error.is::<SettingError>() || error.is::<UsageError>();
            if usage { ExitCode::from(USAGE) } else { ExitCode::FAILURE }
        }
    }
}

fn run_to_end(command: Command) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Runtime::new().context("failed to start the runtime")?;
    let result = runtime.block_on(run(command));
    runtime.shutdown_timeout(LINGER);
    telemetry::logging::finish();
    result
}

async fn run(command: Command) -> anyhow::Result<()> {
    tls::install_provider()?;
    match command {
        Command::Role { role, settings, unknown } => {
            let reporter = telemetry::start(role, &settings)?;
            warn_about(unknown);
            let result = roles::run(role, *settings).await;
            if let Some(reporter) = reporter {
                reporter.finish().await;
            }
            result
        }
        Command::Autodrop { args, settings, unknown } => {
            telemetry::logging::start(settings.log_level, None, None)?;
            warn_about(unknown);
            cli::autodrop::run(args, &settings).await
        }
        Command::Import { args, settings, unknown } => {
            telemetry::logging::start(settings.log_level, None, None)?;
            warn_about(unknown);
            cli::import::run(args, &settings).await
        }
        Command::Doctor { args, survey, files } => cli::doctor::run(args, &survey, files).await,
        Command::Bench(args) => routemaster_bench::run(args).await,
        Command::BareServer { settings } => routemaster_bench::bare::run(*settings).await,
        Command::Completions { args, command } => cli::completions::run(&args, *command),
        Command::Chore(chore) => run_chore(chore).await,
    }
}

async fn run_chore(chore: Chore) -> anyhow::Result<()> {
    match chore {
        Chore::Listen(args) => cli::listen::run(args).await,
        Chore::Publish(args) => cli::publish::run(args).await,
        Chore::Subscribe(args) => cli::subscribe::run(args).await,
        Chore::Unsubscribe(args) => cli::unsubscribe::run(args).await,
        Chore::Topics(args) => cli::topics::run(args).await,
        Chore::Subscriptions(args) => cli::subscriptions::run(args).await,
        Chore::Call(args) => cli::call::run(args).await,
        Chore::Calls(args) => cli::calls::run(args).await,
        Chore::Messages(args) => cli::messages::run(args).await,
        Chore::MessageTopics(args) => cli::message_topics::run(args).await,
        Chore::MessagePublishers(args) => cli::message_publishers::run(args).await,
        Chore::DeadLetters(args) => cli::dead_letters::run(args).await,
        Chore::Queue(args) => cli::queue::run(args).await,
        Chore::Trace(args) => cli::trace::run(args).await,
        Chore::Pause(args) => cli::control::pause(args).await,
        Chore::Resume(args) => cli::control::resume(args).await,
        Chore::Retry(args) => cli::control::retry(args).await,
        Chore::Skip(args) => cli::control::skip(args).await,
        Chore::Replay(args) => cli::replay::run(args).await,
        Chore::Journal(args) => cli::journal::run(args).await,
        Chore::Drain(args) => cli::drain::run(args).await,
        Chore::Ps(args) => cli::ps::run(args).await,
        Chore::Profile(args) => cli::profile::run(args).await,
        Chore::Pulse(args) => cli::pulse::run(args).await,
        Chore::Token(args) => cli::token::run(args).await,
    }
}

fn warn_about(unknown_settings: Vec<String>) {
    for name in unknown_settings {
        tracing::warn!("{name} is not a setting of this version and has no effect");
    }
}
