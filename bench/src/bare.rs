//! A server with nothing behind it: what the web stack itself can do, for the ceiling of a benchmark.

use std::io::Write;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Bytes;
use axum::http::StatusCode;
use routemaster::config::Settings;
use routemaster::http::{Server, Site, TransportRules};
use routemaster::roles::{places, server_options, url_of};
use routemaster::signals;

/// Serves HTTPS or plain HTTP as `web` does, but accepts each request as soon as it is read, until a signal stops it.
///
/// # Errors
/// If it cannot start.
pub async fn run(settings: Settings) -> anyhow::Result<()> {
    let stop = signals::stop_on_signal(Duration::ZERO)?;
    let address = SocketAddr::new(settings.bind, settings.port);
    let transport = TransportRules {
        trust_proxy: false,
        binds_browsers: false,
        is_answered_plain: |_| true,
        ignores_slash: |_| false,
    };
    let router = Router::new().fallback(async |_body: Bytes| StatusCode::NO_CONTENT);
    let site = Site { router, short_way: None, transport, in_flight: Arc::default() };
    let options =
        server_options(&settings, address, "choose another PORT", places(&settings, usize::MAX))?;
    let server = Server::bind(options, site, Arc::default()).await?;
    let url = url_of(&settings, server.local_address()?);
    let mut out = std::io::stdout().lock();
    writeln!(out, "a bare server is listening on {url}")?;
    out.flush()?;
    drop(out);
    server.serve(stop).await
}
