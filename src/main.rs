//! The command line: one subcommand for each role and each of the operator's commands.

mod args;

use std::process::ExitCode;

use args::{Chore, Command};
use routemaster::{cli, roles, telemetry, tls};

/// The exit code for a command line or a setting that cannot be used.
const USAGE: u8 = 2;

#[tokio::main]
async fn main() -> ExitCode {
    let command = match args::parse() {
        Ok(command) => command,
        Err(error) => {
            eprintln!("routemaster: {error}");
            return ExitCode::from(USAGE);
        }
    };
    match run(command).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("routemaster: {error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn run(command: Command) -> anyhow::Result<()> {
    tls::install_provider()?;
    match command {
        Command::Role { role, settings, unknown } => {
            telemetry::logging::start(settings.log_level);
            for name in unknown {
                tracing::warn!("{name} is not a setting of this version and has no effect");
            }
            roles::run(role, *settings).await
        }
        Command::Chore(Chore::Listen(args)) => cli::listen::run(args).await,
        Command::Chore(Chore::Publish(args)) => cli::publish::run(args).await,
    }
}
