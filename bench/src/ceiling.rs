//! The ceiling: what the web stack of the bus answers on this machine with nothing behind it.
//!
//! It is the same binary in another process, which takes the same requests over the same kind of
//! connections, with TLS or without, reads them whole and answers 204.

use std::time::Duration;

use super::child::{Process, Scratch};
use super::connection::Endpoint;
use super::mark::Clock;
use super::own;
use super::publishers::{Load, Pace, Published, Script, Until, publish};
use super::request::Kind;
use super::usage::Usage;
use routemaster::bus::token::{ClientToken, random_hex};
use routemaster::cli::connect::Bus;
use routemaster::tls::development::ca_path;

/// How long the process may take to start.
const START: Duration = Duration::from_secs(30);
/// The option that makes a process of `routemaster bench` the server.
pub const OPTION: &str = "bare-server";

/// Sends it requests of one kind, as fast as the connections go. Says too what the process has used.
///
/// # Errors
/// If the process does not start, or does not answer.
pub async fn measure(
    kind: Kind,
    connections: usize,
    array: usize,
    seconds: Duration,
    clock: Clock,
) -> anyhow::Result<(Published, Usage)> {
    let directory = Scratch::create()?;
    let mut command = own::command(directory.path())?;
    command.args(["bench", "ceiling", &format!("--{OPTION}")]);
    if kind != Kind::Events {
        command.env("ROUTEMASTER_TLS", "off");
    }
    let mut process = Process::start("ceiling", command, directory.path())?;
    let url = process.wait_for("it listened", START, async |output| own::url_in(output)).await?;
    let endpoint = match kind {
        Kind::Events => {
            let ca_files = vec![ca_path(&own::data_dir(directory.path()))];
            Endpoint::of(&Bus::at(&url, &random_hex()?, ca_files)?)?
        }
        Kind::Calls | Kind::Postbacks | Kind::Messages => Endpoint::plain(&url)?,
    };
    let target = match kind {
        Kind::Events | Kind::Messages => "bench_aaaaaaaa_aaaaaaa".into(),
        Kind::Calls | Kind::Postbacks => format!("http://localhost:40000/{}/00000", random_hex()?),
    };
    let load = Load {
        token: ClientToken::parse(&random_hex()?)?,
        kind,
        targets: vec![target],
        script: Script {
            array,
            connections,
            pace: Pace::Closed,
            warm_up: Duration::ZERO,
            until: Until::after(seconds),
            first_stream: 0,
        },
    };
    let published = publish(&endpoint.into(), &load, clock, &Default::default()).await?;
    Ok((published, process.usage()))
}
