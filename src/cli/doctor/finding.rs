//! What a check has found, and what to do about it.

use serde::Serialize;

use crate::cli::words::clean;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    Ok,
    /// Works, and may not for long, or not as it was meant.
    Warning,
    /// Does not work.
    Problem,
    /// There was nothing to look at.
    Skipped,
}

#[derive(Clone, Debug, Serialize)]
pub struct Finding {
    pub check: &'static str,
    pub result: Verdict,
    /// What of many it is about, such as one subscriber.
    pub about: Option<String>,
    pub found: String,
    /// What to do.
    pub advice: Option<String>,
}

impl Finding {
    pub fn ok(check: &'static str, found: impl Into<String>) -> Self {
        Self::new(check, Verdict::Ok, found.into(), None)
    }

    pub fn skipped(check: &'static str, why: impl Into<String>) -> Self {
        Self::new(check, Verdict::Skipped, why.into(), None)
    }

    pub fn warning(
        check: &'static str,
        found: impl Into<String>,
        advice: impl Into<String>,
    ) -> Self {
        Self::new(check, Verdict::Warning, found.into(), Some(advice.into()))
    }

    pub fn problem(
        check: &'static str,
        found: impl Into<String>,
        advice: impl Into<String>,
    ) -> Self {
        Self::new(check, Verdict::Problem, found.into(), Some(advice.into()))
    }

    fn new(check: &'static str, result: Verdict, found: String, advice: Option<String>) -> Self {
        Self { check, result, about: None, found, advice }
    }

    pub fn about(mut self, what: impl Into<String>) -> Self {
        self.about = Some(what.into());
        self
    }

    /// For people; `next_line` stands before the advice.
    pub fn text(&self, next_line: &str) -> String {
        let mut text = match &self.about {
            Some(about) => format!("{}: {}", clean(about), clean(&self.found)),
            None => clean(&self.found),
        };
        if let Some(advice) = &self.advice {
            text += &format!("{next_line}→ {}", clean(advice));
        }
        text
    }
}
