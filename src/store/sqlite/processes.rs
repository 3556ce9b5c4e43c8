//! Who runs.

use std::time::Duration;

use async_trait::async_trait;
use rusqlite::params;

use super::SqliteStore;
use crate::bus::process::Process;
use crate::store::processes::{PROCESSES_MAX, from_texts, to_text};
use crate::store::{Processes, StoreResult};

#[async_trait]
impl Processes for SqliteStore {
    async fn announce(&self, process: &Process, term: Duration) -> StoreResult<()> {
        let (id, text, now_ms) = (process.id.clone(), to_text(process), self.clock.now_ms());
        let until_ms = now_ms + term.as_millis() as u64;
        self.write_lazily(move |db| {
            db.prepare_cached("DELETE FROM processes WHERE until_ms <= ?1 OR id = ?2")?
                .execute(params![now_ms, id])?;
            db.prepare_cached(
                "INSERT INTO processes (id, text, until_ms) SELECT ?1, ?2, ?3
                 WHERE ?3 > ?4 AND (SELECT count(*) FROM processes) < ?5",
            )?
            .execute(params![id, text, until_ms, now_ms, PROCESSES_MAX as u64])?;
            Ok(())
        })
        .await
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
