//! Charts, as SVG that needs no script.

use maud::{Markup, html};

use super::parts;
use super::text;
use super::visit::Visit;
use crate::bus::tally::{Span, Subject, Tally};
use crate::store::{StoreResult, Tallies};

/// How far back a chart looks.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Range {
    Hour,
    Day,
    Week,
    Quarter,
}

impl Range {
    const ALL: [(Self, &'static str, &'static str); 4] = [
        (Self::Hour, "hour", "Hour"),
        (Self::Day, "day", "Day"),
        (Self::Week, "week", "Week"),
        (Self::Quarter, "quarter", "Quarter"),
    ];

    /// What the address asks for.
    pub fn of(visit: &Visit) -> Self {
        let asked = visit.asked("range").unwrap_or_default();
        let found = Self::ALL.into_iter().find(|(_, word, _)| *word == asked);
        found.map_or(Self::Hour, |(range, ..)| range)
    }

    fn span(self) -> Span {
        match self {
            Self::Hour => Span::Minute,
            Self::Day | Self::Week => Span::Hour,
            Self::Quarter => Span::Day,
        }
    }

    fn buckets(self) -> u64 {
        match self {
            Self::Hour => 60,
            Self::Day => 24,
            Self::Week => 7 * 24,
            Self::Quarter => 90,
        }
    }

    fn of_one(self) -> &'static str {
        match self.span() {
            Span::Minute => "a minute",
            Span::Hour => "an hour",
            Span::Day => "a day",
        }
    }
}

/// Links to the same page with another range.
pub fn ranges(current: Range, path: &str) -> Markup {
    html! {
        nav.ranges aria-label="How far back" {
            @for (range, word, name) in Range::ALL {
                a href={ (path) "?range=" (word) } aria-current=[(range == current).then_some("true")] {
                    (name)
                }
            }
        }
    }
}

/// What passed, bucket by bucket, the oldest first; what nothing is known of is nothing.
pub struct Series {
    range: Range,
    starts_ms: Vec<u64>,
    tallies: Vec<Tally>,
}

impl Series {
    /// # Errors
    /// If the store cannot be asked.
    pub async fn of(
        store: &dyn Tallies,
        subject: &Subject,
        range: Range,
        now_ms: u64,
    ) -> StoreResult<Self> {
        let (span, last) = (range.span(), range.span().start_of(now_ms));
        let starts_ms: Vec<u64> =
            (0..range.buckets()).rev().map(|back| last - back * span.length_ms()).collect();
        let found = store.tallies(subject, span, starts_ms.clone()).await?;
        let mut tallies = vec![Tally::default(); starts_ms.len()];
        for (start_ms, tally) in found {
            if let Ok(index) = starts_ms.binary_search(&start_ms) {
                tallies[index] = tally;
            }
        }
        Ok(Self { range, starts_ms, tallies })
    }

    /// What passed in the last bucket that is over.
    pub fn last_over(&self) -> Tally {
        self.tallies.iter().rev().nth(1).copied().unwrap_or_default()
    }

    /// What passed altogether.
    pub fn sum(&self) -> Tally {
        self.tallies.iter().fold(Tally::default(), |mut sum, tally| {
            sum.add(tally);
            sum
        })
    }

    /// What came, what got through and what failed; how long that waited, and how much waits.
    pub fn charts(&self, what: &str) -> Markup {
        let values =
            |value: fn(&Tally) -> u64| -> Vec<u64> { self.tallies.iter().map(value).collect() };
        let latency = |tally: &Tally| tally.latency_ms().unwrap_or_default();
        let of_one = self.range.of_one();
        html! {
            div.charts {
                (self.chart(&format!("{what} {of_one}"), &[
                    Line { name: "came", class: "volume", values: values(|tally| tally.volume) },
                    Line { name: "got through", class: "success", values: values(|tally| tally.success) },
                ], |value| text::short(value as f64)))
                (self.chart(&format!("Failed attempts {of_one}"), &[
                    Line { name: "failed", class: "failure", values: values(|tally| tally.failure) },
                ], |value| text::short(value as f64)))
                (self.chart("Waited until delivered, on average", &[
                    Line { name: "waited", class: "latency", values: values(latency) },
                ], text::span))
                (self.chart("Waiting, at most", &[
                    Line { name: "waiting", class: "queued", values: values(|tally| tally.queued) },
                ], |value| text::short(value as f64)))
            }
        }
    }

    fn chart(&self, title: &str, lines: &[Line], written: fn(u64) -> String) -> Markup {
        let top = lines.iter().flat_map(|line| &line.values).copied().max().unwrap_or(0);
        let scale = Scale { count: self.starts_ms.len(), top: top.max(1) };
        let newest = |line: &Line| line.values.last().copied().unwrap_or_default();
        let said: Vec<_> = lines
            .iter()
            .map(|line| {
                format!(
                    "{}: at most {}, last {}",
                    line.name,
                    written(line.top()),
                    written(newest(line))
                )
            })
            .collect();
        let label = format!("{title}. {}.", said.join("; "));
        html! {
            figure.chart {
                figcaption {
                    span.title { (title) }
                    span.legend {
                        @for line in lines {
                            span class=(line.class) { (line.name) " " b { (written(newest(line))) } }
                        }
                    }
                }
                svg viewBox=(format!("0 0 {WIDTH} {HEIGHT}")) role="img" aria-label=(label)
                    preserveAspectRatio="none" {
                    line.grid x1="0" x2=(WIDTH) y1=(scale.y(scale.top)) y2=(scale.y(scale.top)) {}
                    line.grid x1="0" x2=(WIDTH) y1=(HEIGHT / 2) y2=(HEIGHT / 2) {}
                    line.axis x1="0" x2=(WIDTH) y1=(HEIGHT) y2=(HEIGHT) {}
                    @for line in lines {
                        path class={ "area " (line.class) } d=(scale.area(&line.values)) {}
                        path class={ "line " (line.class) } d=(scale.line(&line.values)) {}
                    }
                }
                p.axis-words {
                    span { (self.starts_ms.first().map(|start_ms| parts::moment(*start_ms)).unwrap_or_default()) }
                    span.top { "top " (written(top)) }
                    span { "now" }
                }
            }
        }
    }
}

/// Something that a chart shows.
struct Line {
    name: &'static str,
    class: &'static str,
    values: Vec<u64>,
}

impl Line {
    fn top(&self) -> u64 {
        self.values.iter().copied().max().unwrap_or(0)
    }
}

const WIDTH: u32 = 600;
const HEIGHT: u32 = 100;
/// What stays free above the highest value.
const HEAD: f64 = 4.0;

struct Scale {
    count: usize,
    top: u64,
}

impl Scale {
    fn x(&self, index: usize) -> f64 {
        let last = self.count.saturating_sub(1).max(1);
        f64::from(WIDTH) * index as f64 / last as f64
    }

    fn y(&self, value: u64) -> f64 {
        let height = f64::from(HEIGHT);
        height - (height - HEAD) * value as f64 / self.top as f64
    }

    fn line(&self, values: &[u64]) -> String {
        let points = values.iter().enumerate().map(|(index, value)| {
            let mark = if index == 0 { 'M' } else { 'L' };
            format!("{mark}{:.1} {:.1}", self.x(index), self.y(*value))
        });
        points.collect()
    }

    fn area(&self, values: &[u64]) -> String {
        format!("{}L{WIDTH} {HEIGHT}L0 {HEIGHT}Z", self.line(values))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_goes_from_edge_to_edge_and_up_to_the_top() {
        let scale = Scale { count: 3, top: 10 };
        assert_eq!(scale.line(&[0, 5, 10]), "M0.0 100.0L300.0 52.0L600.0 4.0");
        assert_eq!(scale.area(&[0, 0, 0]), "M0.0 100.0L300.0 100.0L600.0 100.0L600 100L0 100Z");
    }
}
