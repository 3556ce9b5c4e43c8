//! Duties: which process does what for all.

use std::time::Duration;

use async_trait::async_trait;

use super::{RedisStore, ms};
use crate::store::{Duties, Duty, Lane, StoreResult};

#[async_trait]
impl Duties for RedisStore {
    async fn take_duty(&self, duty: Duty, term: Duration) -> StoreResult<bool> {
        let args = vec![duty.name().into(), self.origin.as_str().into(), ms(term)];
        Ok(self.run(&self.scripts.take_duty, Lane::HOME, args).await?.integer()? > 0)
    }
}
