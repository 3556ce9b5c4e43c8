//! Who is told of what came of attempts.

use super::attempts::Attempts;
use crate::commit::NewsDesk;

/// The journal, of each; and of what everybody may know, whoever has subscribed to the bus's news.
#[derive(Clone)]
pub struct Reporting {
    pub attempts: Attempts,
    pub news: NewsDesk,
}
