//! `routemaster doctor`: looks at everything that a bus needs, and says what to do about what is
//! wrong. It changes nothing, makes nothing, and disturbs no subscriber.
//!
//! Each check is a file of its own. None is left out because another one has found a problem, unless
//! it would have nothing to look at.

mod bus;
mod callbacks;
mod calls;
mod certificate;
mod clock;
mod dial;
mod finding;
mod messages;
mod processes;
mod queues;
mod settings;
mod store;
mod trust;

use clap::Args;
use serde::Serialize;

use self::bus::Visit;
use self::finding::{Finding, Verdict};
use super::connect::{Bus, BusAddress};
use super::credentials::{Credentials, variable};
use super::outcome::{AlreadyTold, UsageError};
use super::table::{Screen, Table, Tone, print, print_json};
use super::words::counted;
use crate::bus::clock::Clock;
use crate::config::{COMMANDS_TOKEN, SettingError, Survey, default_of};

#[derive(Args)]
#[command(after_help = AFTER_HELP)]
pub struct DoctorArgs {
    /// Print one JSON object: {"findings": [{"check", "result", "about", "found", "advice"}],
    /// "summary": {"ok", "warnings", "problems", "skipped"}}.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    bus: BusAddress,
}

const AFTER_HELP: &str = "\
Checks the settings, the store, the bus, the clock, certificates, the callbacks of all subscribers,
their queues, calls, messages, the PostgreSQL of their history and Google Pub/Sub, and says what to do
about each finding. Changes nothing.

It reads the settings as `routemaster serve` does: environment, .env and flags. So run it as the bus
is run: on the same machine, as the same user, in the same directory, with the same environment.
Without --token it asks the bus with ROUTEMASTER_TOKEN, the root key or a client of these settings.

Callbacks are connected to, TLS included, and asked for nothing; run it where a worker runs, because
another machine may not reach them.

The exit code is 0 without a problem, warnings or not; 1 with one; 2 if the command line is wrong.

Examples:
  routemaster doctor
  routemaster doctor --url https://bus.example --ca-file our-ca.pem
  routemaster doctor --json | jq '.findings[] | select(.result == \"problem\")'";

/// What is printed with `--json`.
#[derive(Serialize)]
struct Report {
    findings: Vec<Finding>,
    summary: Summary,
}

#[derive(Serialize)]
struct Summary {
    ok: usize,
    warnings: usize,
    problems: usize,
    skipped: usize,
}

/// Looks, and prints what it found. `files` is what is wrong with `.env`,
/// or with the file of a secret.
///
/// # Errors
/// If there is a problem, or the command line cannot be used.
pub async fn run(
    args: DoctorArgs,
    survey: &Survey,
    files: Option<SettingError>,
) -> anyhow::Result<()> {
    let bus = match bus_of(&args.bus, survey) {
        Ok(bus) => bus,
        Err(error) if error.is::<UsageError>() => return Err(error),
        Err(error) => Err(Finding::problem("bus", format!("{error:#}"), "see --ca-file and --url")),
    };
    let mut findings = settings::check(survey, files);
    let (store, visit, certificates) = tokio::join!(
        store::check(survey),
        Visit::to(bus.as_ref().ok()),
        certificate::check(bus.as_ref().ok(), survey),
    );
    findings.extend(store);
    findings.extend(bus.err());
    findings.extend(visit.findings);
    findings.extend(clock::check(visit.pong.as_ref()));
    findings.extend(certificates);
    let subscriptions = visit.subscriptions.as_deref();
    findings.extend(callbacks::check(subscriptions, survey).await);
    findings.extend(processes::check(visit.processes.as_deref()));
    let now_ms = visit.pong.map_or_else(|| Clock::system().now_ms(), |pong| pong.bus_now_ms());
    findings.extend(queues::check(subscriptions, now_ms / 1000));
    findings.extend(calls::check(visit.calls.as_ref(), now_ms));
    findings.extend(messages::check(visit.messages.as_ref(), survey).await);
    tell(findings, args.json)
}

/// The bus to ask, or why none is asked.
fn bus_of(address: &BusAddress, survey: &Survey) -> anyhow::Result<Result<Bus, Finding>> {
    let settings = &survey.settings;
    let skipped = |why: &str| Ok(Err(Finding::skipped("bus", why)));
    if !address.has_url() {
        if survey.is_bad("PORT") {
            return skipped("not asked: PORT does not say where it listens; --url can");
        }
        if settings.port == 0 {
            return skipped("not asked: PORT=0 takes any free port; say with --url which one");
        }
        if !settings.tls {
            return skipped(
                "not asked: with ROUTEMASTER_TLS=off clients reach it through a proxy; say with \
                 --url where that is",
            );
        }
    }
    let credentials = || Ok(credentials(survey));
    let port = settings.port.to_string();
    address.connect(&port, &settings.data_dir, credentials).map(Ok)
}

/// Somebody who is let in, as far as the settings here are the bus's.
fn credentials(survey: &Survey) -> Credentials {
    let settings = &survey.settings;
    let own = || Some((variable(COMMANDS_TOKEN)?, COMMANDS_TOKEN));
    let root = || Some((settings.root_key.as_ref()?.reveal().to_owned(), "ROUTEMASTER_ROOT_KEY"));
    let client = || {
        let client = settings.clients.first()?;
        Some((client.reveal().to_owned(), "ROUTEMASTER_CLIENTS"))
    };
    let default = || (default_of("ROUTEMASTER_CLIENTS").to_owned(), "the default");
    own().or_else(root).or_else(client).unwrap_or_else(default)
}

fn tell(findings: Vec<Finding>, json: bool) -> anyhow::Result<()> {
    let count = |verdict| findings.iter().filter(|finding| finding.result == verdict).count();
    let summary = Summary {
        ok: count(Verdict::Ok),
        warnings: count(Verdict::Warning),
        problems: count(Verdict::Problem),
        skipped: count(Verdict::Skipped),
    };
    let problems = summary.problems;
    if json {
        print_json(&Report { findings, summary })?;
    } else {
        print(&text(&findings, &summary))?;
    }
    if problems > 0 {
        return Err(AlreadyTold.into());
    }
    Ok(())
}

fn text(findings: &[Finding], summary: &Summary) -> String {
    let mut table = Table::without_header(Screen::stdout());
    let next_line = table.next_line();
    for finding in findings {
        let (result, tone) = match finding.result {
            Verdict::Ok => ("ok", Tone::Good),
            Verdict::Warning => ("warning", Tone::Doubtful),
            Verdict::Problem => ("PROBLEM", Tone::Bad),
            Verdict::Skipped => ("skipped", Tone::Dim),
        };
        let plain = |text: String| (text, Tone::Plain);
        table.coloured_row([
            plain(finding.check.to_owned()),
            (result.to_owned(), tone),
            plain(finding.text(next_line)),
        ]);
    }
    let number = |number: usize, one, many| match number {
        0 => format!("no {one}"),
        number => counted(number as u64, one, many),
    };
    let problems = number(summary.problems, "problem", "problems");
    let warnings = number(summary.warnings, "warning", "warnings");
    let skipped = match summary.skipped {
        0 => String::new(),
        number => format!(", {number} skipped"),
    };
    format!("{}\n{problems}, {warnings}{skipped}\n", table.text())
}
