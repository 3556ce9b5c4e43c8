//! Lists that the bus gives out in pages.

use serde::Deserialize;
use serde::de::DeserializeOwned;
use url::form_urlencoded::Serializer;

use super::connect::Bus;
use super::refusals::refusal;

#[derive(Deserialize)]
struct Page<T> {
    #[serde(
        alias = "calls",
        alias = "data",
        alias = "entries",
        alias = "events",
        alias = "dead_letters"
    )]
    rows: Vec<T>,
    next: Option<Place>,
}

/// Where a page begins: some lists have text for it, others a number.
#[derive(Deserialize)]
#[serde(untagged)]
enum Place {
    Text(String),
    Number(u64),
}

/// Parameters by name.
pub type More = [(&'static str, String)];

/// The first `limit` rows of a list, or all if it is 0, `page_size` at once, and whether there are more. `path` is asked for with these
/// parameters beside its own.
///
/// # Errors
/// If the bus cannot be asked, or refuses.
pub async fn rows<T: DeserializeOwned>(
    bus: &Bus,
    limit: usize,
    page_size: usize,
    path: impl Fn(&More) -> String,
) -> anyhow::Result<(Vec<T>, bool)> {
    let limit = if limit == 0 { usize::MAX } else { limit };
    let (mut rows, mut after) = (Vec::new(), None);
    loop {
        let mut more = vec![("limit", (limit - rows.len()).min(page_size).to_string())];
        more.extend(after.take().map(|after| ("after", after)));
        let answer = bus.get(&path(&more)).await?;
        if !answer.status.is_success() {
            return Err(refusal(bus, &answer, None));
        }
        let page: Page<T> = answer.json()?;
        rows.extend(page.rows);
        after = page.next.map(|next| match next {
            Place::Text(text) => text,
            Place::Number(number) => number.to_string(),
        });
        if after.is_none() || rows.len() >= limit {
            return Ok((rows, after.is_some()));
        }
    }
}

/// A query of those parameters that are there, and of more.
pub fn query<const N: usize>(own: [(&str, Option<String>); N], more: &More) -> String {
    let mut query = Serializer::new(String::new());
    for (name, value) in own {
        query.extend_pairs(value.map(|value| (name, value)));
    }
    query.extend_pairs(more.iter().map(|(name, value)| (*name, value)));
    query.finish()
}
