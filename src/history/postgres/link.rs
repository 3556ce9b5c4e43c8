//! The connections: one for writing and one for reading, made when they are needed, and again when they have ended or
//! hang.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Mutex;
use tokio::time::Instant;
use tokio_postgres::Client;

use super::{days, tables};
use crate::egress::postgres::{self, PostgresOptions, told};

/// How long something may take.
const PATIENCE: Duration = Duration::from_secs(10);
/// For how long nobody tries again after a connection failed.
const FAILED_PAUSE: Duration = Duration::from_secs(1);

/// Journal and messages in a PostgreSQL.
pub struct PostgresHistory {
    options: PostgresOptions,
    writer: Mutex<Link>,
    reader: Mutex<Link>,
}

#[derive(Default)]
pub(super) struct Link {
    client: Option<Client>,
    failed: Option<(Arc<str>, Instant)>,
    /// Of which tables there is a part for which day.
    parts: BTreeSet<(&'static str, i32)>,
    /// When old parts were last removed.
    pub cleaned: Option<Instant>,
}

/// Which connection.
#[derive(Clone, Copy)]
pub(super) enum Use {
    Write,
    Read,
}

impl PostgresHistory {
    /// Connects to nobody yet.
    pub fn new(options: PostgresOptions) -> Arc<Self> {
        Arc::new(Self { options, writer: Mutex::default(), reader: Mutex::default() })
    }

    /// Does something over a connection, within a time.
    ///
    /// # Errors
    /// Why it was not done, or nobody knows.
    pub(super) async fn with<T>(
        &self,
        which: Use,
        act: impl AsyncFnOnce(&mut Client, &mut LinkState<'_>) -> Result<T, tokio_postgres::Error>,
    ) -> Result<T, String> {
        let link = match which {
            Use::Write => &self.writer,
            Use::Read => &self.reader,
        };
        // Whoever is in front takes so long at most.
        let mut link = tokio::time::timeout(PATIENCE, link.lock())
            .await
            .map_err(|_| "others have waited for it too long".to_owned())?;
        let Link { client, failed, parts, cleaned } = &mut *link;
        if client.as_ref().is_none_or(Client::is_closed) {
            *client = Some(self.connect(failed).await?);
        }
        let Some(connected) = client.as_mut() else { return Err("there is no connection".into()) };
        let mut state = LinkState { parts, cleaned };
        match tokio::time::timeout(PATIENCE, act(connected, &mut state)).await {
            Ok(Ok(done)) => Ok(done),
            Ok(Err(error)) => {
                // A transaction that failed is over with its connection.
                *client = None;
                parts.clear();
                Err(told(&error))
            }
            Err(_) => {
                *client = None;
                Err(format!("no answer within {} s", PATIENCE.as_secs()))
            }
        }
    }

    async fn connect(&self, failed: &mut Option<(Arc<str>, Instant)>) -> Result<Client, String> {
        if let Some((error, _)) = failed.as_ref().filter(|(_, until)| Instant::now() < *until) {
            return Err(error.to_string());
        }
        let connecting = async {
            let mut client = postgres::connect(&self.options).await?;
            tables::migrate(&mut client).await?;
            anyhow::Ok(client)
        };
        let connected = match tokio::time::timeout(PATIENCE, connecting).await {
            Ok(connected) => connected.map_err(|error| match error.downcast_ref() {
                Some(error) => told(error),
                None => format!("{error:#}"),
            }),
            Err(_) => Err(format!("no answer within {} s", PATIENCE.as_secs())),
        };
        match &connected {
            Ok(_) => *failed = None,
            Err(error) => *failed = Some((error.as_str().into(), Instant::now() + FAILED_PAUSE)),
        }
        connected
    }
}

/// What is remembered of a connection.
pub(super) struct LinkState<'a> {
    parts: &'a mut BTreeSet<(&'static str, i32)>,
    pub cleaned: &'a mut Option<Instant>,
}

impl LinkState<'_> {
    /// Makes sure that a table has parts for these days.
    pub async fn prepare(
        &mut self,
        client: &mut Client,
        table: &'static str,
        days: &BTreeSet<i32>,
    ) -> Result<(), tokio_postgres::Error> {
        let missing: BTreeSet<i32> =
            days.iter().copied().filter(|day| !self.parts.contains(&(table, *day))).collect();
        if !missing.is_empty() {
            days::make(client, table, &missing).await?;
            self.parts.extend(missing.into_iter().map(|day| (table, day)));
        }
        Ok(())
    }

    /// Takes note that parts were removed.
    pub fn forget_parts(&mut self) {
        self.parts.clear();
    }
}
