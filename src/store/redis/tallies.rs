//! What passed, counted over time.

use async_trait::async_trait;
use fred::types::Value;

use super::RedisStore;
use super::reply::Reply;
use crate::bus::tally::{Span, Subject, Tally};
use crate::store::{Lane, StoreError, StoreResult, TALLY_SUBJECTS_MAX, Tallies};

/// How many subjects one script adds to.
const SUBJECTS_AT_ONCE: usize = 200;

#[async_trait]
impl Tallies for RedisStore {
    async fn add_tallies(&self, at_ms: u64, tallies: Vec<(Subject, Tally)>) -> StoreResult<()> {
        for some in tallies.chunks(SUBJECTS_AT_ONCE) {
            let mut args: Vec<Value> = vec![
                integer(at_ms),
                (TALLY_SUBJECTS_MAX as i64).into(),
                integer(Span::Day.kept_since(at_ms)),
            ];
            for span in Span::ALL {
                let start_ms = span.start_of(at_ms);
                args.push(bucket(span, start_ms).into());
                args.push(integer(span.kept() * span.length_ms()));
            }
            for (subject, tally) in some {
                let Tally { volume, success, failure, waited_ms, queued } = *tally;
                args.push(subject.name().into());
                args.extend([volume, success, failure, waited_ms, queued].map(integer));
            }
            self.run(&self.scripts.add_tallies, Lane::HOME, args).await?;
        }
        Ok(())
    }

    async fn tallies(
        &self,
        subject: &Subject,
        span: Span,
        starts_ms: Vec<u64>,
    ) -> StoreResult<Vec<(u64, Tally)>> {
        let buckets = starts_ms.iter().map(|start_ms| bucket(span, *start_ms).into());
        let args = std::iter::once(subject.name().into()).chain(buckets).collect();
        let found = self.run(&self.scripts.tallies, Lane::HOME, args).await?;
        let texts = found.map(Reply::text).collect::<StoreResult<Vec<_>>>()?;
        let tallies = starts_ms.into_iter().zip(&texts).filter(|(_, text)| !text.is_empty());
        tallies.map(|(start_ms, text)| Ok((start_ms, read(text)?))).collect()
    }
}

fn integer(number: u64) -> Value {
    number.to_string().into()
}

/// The end of a bucket's key.
fn bucket(span: Span, start_ms: u64) -> String {
    format!("{}:{}", span.length_ms(), start_ms)
}

fn read(text: &str) -> StoreResult<Tally> {
    let mut numbers = text.split(' ').map(str::parse);
    let mut next = || {
        let number = numbers.next().and_then(Result::ok);
        number.ok_or_else(|| StoreError::Corrupt(format!("a tally is not written so: {text}")))
    };
    Ok(Tally {
        volume: next()?,
        success: next()?,
        failure: next()?,
        waited_ms: next()?,
        queued: next()?,
    })
}
