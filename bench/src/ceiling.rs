//! The ceiling: what the web stack of the bus answers on this machine with nothing behind it.
//!
//! It is the same binary in another process, which takes the same requests over the same kind of
//! connections, reads them whole and answers 204.

use std::time::Duration;

use super::child::{Process, Scratch};
use super::connection::Endpoint;
use super::mark::Clock;
use super::own;
use super::publishers::{Load, Pace, Published, Script, Until, publish};
use super::usage::Usage;
use routemaster::bus::token::random_hex;
use routemaster::cli::connect::Bus;
use routemaster::tls::development::ca_path;

/// How long the process may take to start.
const START: Duration = Duration::from_secs(30);
/// The option that makes a process of `routemaster bench` the server.
pub const OPTION: &str = "bare-server";

/// Publishes to it: one topic, as fast as the connections go. Says too what the process has used.
///
/// # Errors
/// If the process does not start, or does not answer.
pub async fn measure(
    connections: usize,
    array: usize,
    seconds: Duration,
    clock: Clock,
) -> anyhow::Result<(Published, Usage)> {
    let directory = Scratch::create()?;
    let mut command = own::command(directory.path())?;
    command.args(["bench", "ceiling", &format!("--{OPTION}")]);
    let mut process = Process::start("ceiling", command, directory.path())?;
    let url = process.wait_for("it listened", START, async |output| own::url_in(output)).await?;
    let token = random_hex()?;
    let bus = Bus::at(&url, &token, vec![ca_path(&own::data_dir(directory.path()))])?;
    let endpoint = Endpoint::of(&bus)?.into();
    let load = Load {
        token: bus.client()?.clone(),
        topics: vec!["bench_aaaaaaaa_aaaaaaa".into()],
        script: Script {
            array,
            connections,
            pace: Pace::Closed,
            warm_up: Duration::ZERO,
            until: Until::after(seconds),
            first_stream: 0,
        },
    };
    let published = publish(&endpoint, &load, clock, &Default::default()).await?;
    Ok((published, process.usage()))
}
