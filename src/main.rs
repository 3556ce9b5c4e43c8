//! The command line: one subcommand for each role and each of the operator's commands.

mod args;

use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context;
use args::{Chore, Command};
use routemaster::config::SettingError;
use routemaster::{cli, roles, telemetry, tls};

/// The exit code for a command line or a setting that cannot be used.
const USAGE: u8 = 2;

/// How long work that nobody waits for any more may hold up the end, such as a name that is
/// being resolved.
const LINGER: Duration = Duration::from_millis(500);

fn main() -> ExitCode {
    match args::parse().and_then(run_to_end) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("routemaster: {error:#}");
            let usage = error.is::<SettingError>();
            if usage { ExitCode::from(USAGE) } else { ExitCode::FAILURE }
        }
    }
}

fn run_to_end(command: Command) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Runtime::new().context("failed to start the runtime")?;
    let result = runtime.block_on(run(command));
    runtime.shutdown_timeout(LINGER);
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
            telemetry::logging::start(settings.log_level, None);
            warn_about(unknown);
            cli::autodrop::run(args, &settings).await
        }
        Command::Import { args, settings, unknown } => {
            telemetry::logging::start(settings.log_level, None);
            warn_about(unknown);
            cli::import::run(args, &settings).await
        }
        Command::Chore(Chore::Listen(args)) => cli::listen::run(args).await,
        Command::Chore(Chore::Publish(args)) => cli::publish::run(args).await,
    }
}

fn warn_about(unknown_settings: Vec<String>) {
    for name in unknown_settings {
        tracing::warn!("{name} is not a setting of this version and has no effect");
    }
}
