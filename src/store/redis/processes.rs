//! Who runs.

use std::time::Duration;

use async_trait::async_trait;

use super::reply::Reply;
use super::{RedisStore, ms};
use crate::bus::process::Process;
use crate::store::processes::{PROCESSES_MAX, from_texts, to_text};
use crate::store::{Lane, Processes, StoreResult};

#[async_trait]
impl Processes for RedisStore {
    async fn announce(&self, process: &Process, term: Duration) -> StoreResult<bool> {
        let args = vec![
            process.id.as_str().into(),
            to_text(process).into(),
            ms(term),
            (PROCESSES_MAX as i64).into(),
        ];
        Ok(self.run(&self.scripts.announce, Lane::HOME, args).await?.integer()? > 0)
    }

    async fn drain(&self, process: &str, is_draining: bool) -> StoreResult<bool> {
        let args = vec![process.into(), i64::from(is_draining).into()];
        Ok(self.run(&self.scripts.drain, Lane::HOME, args).await?.integer()? > 0)
    }

    async fn processes(&self) -> StoreResult<Vec<Process>> {
        let texts = self.run(&self.scripts.processes, Lane::HOME, vec![]).await?;
        let texts = texts.map(Reply::text).collect::<StoreResult<Vec<_>>>()?;
        Ok(from_texts(texts.iter().map(String::as_str)))
    }
}
