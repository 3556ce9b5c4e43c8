//! Which part of a list a request asks for.

use axum::http::Uri;

use crate::http::query;
use crate::http::refusal::Refusal;

/// How many a page has, unless the query says otherwise, and at most.
const LIMIT: u64 = 100;
const LIMIT_MAX: u64 = 1000;

/// So many, of those after this id.
pub struct Page {
    limit: usize,
    after: u64,
}

impl Page {
    /// # Errors
    /// If a number in the query is none.
    pub fn of(uri: &Uri) -> Result<Self, Refusal> {
        let limit = query::number(uri, "limit", 1..=LIMIT_MAX)?.unwrap_or(LIMIT);
        let after = query::number(uri, "after", 0..=u64::MAX)?.unwrap_or(0);
        Ok(Self { limit: limit as usize, after })
    }

    /// The part of a list that is ordered by id, as it is shown, and what `after` is to be for the next one.
    pub fn cut<'a, T: 'a, S: From<&'a T>>(
        &self,
        all: impl Iterator<Item = &'a T>,
        id: fn(&T) -> u64,
    ) -> (Vec<S>, Option<u64>) {
        let mut rest = all.filter(|one| id(one) > self.after);
        let page: Vec<&T> = rest.by_ref().take(self.limit).collect();
        let next = rest.next().and(page.last()).map(|last| id(last));
        (page.into_iter().map(S::from).collect(), next)
    }
}
