//! A server with nothing behind it: what a web stack can do, for the ceiling of a benchmark. It is axum on axum-server, as
//! anybody would put them together, with the bus's certificate; nothing in it changes when the bus does.

use std::io::Write;
use std::net::{SocketAddr, TcpListener};
use std::time::Duration;

use anyhow::Context;
use axum::Router;
use axum::body::Bytes;
use axum::http::StatusCode;
use axum_server::Handle;
use axum_server::tls_rustls::RustlsConfig;
use routemaster::config::Settings;
use routemaster::roles::{certificate_files, url_of};
use routemaster::signals;

/// Serves HTTPS or plain HTTP, and accepts each request as soon as it is read, until a signal stops it.
///
/// # Errors
/// If it cannot start.
pub async fn run(settings: Settings) -> anyhow::Result<()> {
    let stop = signals::stop_on_signal(Duration::ZERO)?;
    let listener = TcpListener::bind(SocketAddr::new(settings.bind, settings.port))
        .context("failed to listen: choose another PORT")?;
    listener.set_nonblocking(true)?;
    let url = url_of(&settings, listener.local_addr()?);
    let router = Router::new().fallback(async |_body: Bytes| StatusCode::NO_CONTENT);
    let handle = Handle::new();
    let mut out = std::io::stdout().lock();
    writeln!(out, "a bare server is listening on {url}")?;
    out.flush()?;
    drop(out);
    let service = router.into_make_service();
    let stopped = async {
        stop.cancelled().await;
        handle.shutdown();
        Ok(())
    };
    if !settings.tls {
        let server = axum_server::from_tcp(listener)?.handle(handle.clone());
        return tokio::try_join!(server.serve(service), stopped).map(drop).map_err(Into::into);
    }
    let config = RustlsConfig::from_config(certificate_files(&settings)?.load()?);
    let server = axum_server::from_tcp_rustls(listener, config)?.handle(handle.clone());
    tokio::try_join!(server.serve(service), stopped)?;
    Ok(())
}
