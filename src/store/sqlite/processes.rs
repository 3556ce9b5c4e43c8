//! Who runs.

use std::time::Duration;

use async_trait::async_trait;
use rusqlite::{OptionalExtension, params};

use super::SqliteStore;
use crate::bus::process::Process;
use crate::store::processes::{PROCESSES_MAX, from_texts, to_text};
use crate::store::{Processes, StoreResult};

#[async_trait]
impl Processes for SqliteStore {
    async fn announce(&self, process: &Process, term: Duration) -> StoreResult<bool> {
        let (id, text, now_ms) = (process.id.clone(), to_text(process), self.clock.now_ms());
        let until_ms = now_ms + term.as_millis() as u64;
        self.write_lazily(move |db| {
            let is_draining: Option<bool> = db
                .prepare_cached("SELECT drain FROM processes WHERE id = ?1")?
                .query_row([&id], |row| row.get(0))
                .optional()?;
            let is_draining = is_draining.unwrap_or(false);
            db.prepare_cached("DELETE FROM processes WHERE until_ms <= ?1 OR id = ?2")?
                .execute(params![now_ms, id])?;
            db.prepare_cached(
                "INSERT INTO processes (id, text, until_ms, drain) SELECT ?1, ?2, ?3, ?6
                 WHERE ?3 > ?4 AND (SELECT count(*) FROM processes) < ?5",
            )?
            .execute(params![
                id,
                text,
                until_ms,
                now_ms,
                PROCESSES_MAX as u64,
                is_draining
            ])?;
            Ok(is_draining)
        })
        .await
    }

    async fn drain(&self, process: &str, is_draining: bool) -> StoreResult<bool> {
        let (id, now_ms) = (process.to_owned(), self.clock.now_ms());
        let sql = "UPDATE processes SET drain = ?2 WHERE id = ?1 AND until_ms > ?3";
        let asked = self.write(move |db| db.execute(sql, params![id, is_draining, now_ms])).await?;
        Ok(asked > 0)
    }

    async fn processes(&self) -> StoreResult<Vec<Process>> {
        let now_ms = self.clock.now_ms();
        let texts: Vec<String> = self
            .reader
            .run(move |db| {
                db.prepare_cached("SELECT text FROM processes WHERE until_ms > ?1")?
                    .query_map([now_ms], |row| row.get(0))?
                    .collect()
            })
            .await?;
        Ok(from_texts(texts.iter().map(String::as_str)))
    }
}
