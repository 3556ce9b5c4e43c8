//! The tables of a day.

use std::collections::BTreeSet;

use tokio_postgres::Client;

use super::tables::LOCK;

const DAY_MS: u64 = 24 * 3600 * 1000;

/// Which day a time is in, counted from 1970-01-01.
pub fn day_of(ms: u64) -> i32 {
    i32::try_from(ms / DAY_MS).unwrap_or(i32::MAX)
}

/// Makes the parts of a table for these days, as far as they are not there.
pub async fn make(
    client: &mut Client,
    table: &str,
    days: &BTreeSet<i32>,
) -> Result<(), tokio_postgres::Error> {
    let transaction = client.transaction().await?;
    transaction.execute("SELECT pg_advisory_xact_lock($1)", &[&LOCK]).await?;
    for day in days {
        let end = day + 1;
        let make = format!(
            "CREATE TABLE IF NOT EXISTS routemaster.{table}_{day} PARTITION OF routemaster.{table}
             FOR VALUES FROM ({day}) TO ({end})"
        );
        transaction.batch_execute(&make).await?;
    }
    transaction.commit().await
}

/// The days that a table has parts for, the oldest first.
pub async fn all(client: &Client, table: &str) -> Result<BTreeSet<i32>, tokio_postgres::Error> {
    let parts = "SELECT relname FROM pg_inherits JOIN pg_class ON pg_class.oid = inhrelid
                 WHERE inhparent = ('routemaster.' || $1::text)::regclass";
    let rows = client.query(parts, &[&table]).await?;
    let day = |name: String| name.rsplit('_').next().and_then(|day| day.parse().ok());
    let names = rows.iter().map(|row| row.try_get::<_, String>(0));
    Ok(names.collect::<Result<Vec<_>, _>>()?.into_iter().filter_map(day).collect())
}

/// Removes a table's parts of days before this one.
pub async fn drop_before(
    client: &mut Client,
    table: &str,
    day: i32,
) -> Result<(), tokio_postgres::Error> {
    let old: Vec<i32> = all(client, table).await?.into_iter().filter(|one| *one < day).collect();
    for day in old {
        client.batch_execute(&format!("DROP TABLE IF EXISTS routemaster.{table}_{day}")).await?;
    }
    Ok(())
}
