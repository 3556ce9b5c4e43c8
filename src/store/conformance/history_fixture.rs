//! A history in a PostgreSQL of its own, for one test.

use std::sync::Arc;
use std::time::Duration;

use super::postgres_server::Postgres;
use crate::egress::postgres::{self, PostgresOptions};
use crate::history::postgres::PostgresHistory;

pub fn postgres() -> (Arc<PostgresHistory>, Postgres) {
    let _ = crate::tls::install_provider();
    let server = Postgres::start();
    (PostgresHistory::new(options(&server)), server)
}

pub fn options(server: &Postgres) -> PostgresOptions {
    PostgresOptions {
        config: postgres::read(&server.url()).unwrap(),
        ca_files: Vec::new(),
        connect_timeout: Duration::from_secs(5),
    }
}
