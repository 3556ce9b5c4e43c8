//! What pages are made of.

use maud::{Markup, Render, html};

use super::text;
use super::visit::Visit;

/// The code that each form must carry.
pub fn code(visit: &Visit) -> Markup {
    html! { input type="hidden" name="code" value=(visit.session.form_code); }
}

/// A button that does something at once.
pub fn act(visit: &Visit, action: &str, label: &str) -> Markup {
    html! {
        form.act method="post" action=(action) {
            (code(visit))
            button type="submit" { (label) }
        }
    }
}

/// What cannot be undone: it opens first, says what will happen, and has a button of its own.
pub fn confirmed(visit: &Visit, action: &str, label: &str, what: &str, fields: &Markup) -> Markup {
    html! {
        details.confirmed {
            summary { (label) "…" }
            form method="post" action=(action) {
                (code(visit))
                p { (what) }
                (fields)
                button.danger type="submit" { (label) }
            }
        }
    }
}

/// A moment: in the reader's own time once the script has seen it, exact on hover.
pub fn moment(ms: u64) -> Markup {
    time(ms, false)
}

/// How long ago a moment is, or in how long it comes.
///
/// The script says it; without it, the moment itself stands there. So what is shown does not change by itself.
pub fn from_now(ms: u64) -> Markup {
    time(ms, true)
}

fn time(ms: u64, in_words: bool) -> Markup {
    let exact = text::moment(ms);
    html! {
        time datetime=(exact) title=(exact) data-words[in_words] { (text::moment_in_words(ms)) }
    }
}

/// What state something is in: the colour says how that is meant.
pub fn state(state: &str) -> Markup {
    let tone = match state {
        "failing" | "dead" | "refused" | "failure" => "bad",
        "paused" | "skipped" | "inactive" | "draining" | "unread" => "warn",
        "delivering" | "sending" | "waiting" => "busy",
        "done" | "ok" | "active" | "processed" => "good",
        _ => "calm",
    };
    html! { span class={ "state " (tone) } { (state) } }
}

/// How an answer's status is meant.
pub fn status(status: Option<u16>) -> Markup {
    match status {
        None => html! { span.state.bad { "no answer" } },
        Some(status @ 200..300) => html! { span.state.good { (status) } },
        Some(status @ 300..400) => html! { span.state.warn { (status) } },
        Some(status) => html! { span.state.bad { (status) } },
    }
}

/// What was answered: its status, if there was one, and what that means.
pub fn answer(status: Option<u16>, meaning: impl Render) -> Markup {
    html! {
        @if status.is_some() { (self::status(status)) " " }
        (meaning)
    }
}

/// Why something failed, where there is room for a part of it. With a status beside it, what was answered says more than
/// that it was not what was hoped for.
pub fn why(status: Option<u16>, reason: &str, at_most: usize) -> Markup {
    let said = reason.split_once(": ").map(|(_, said)| said).filter(|_| status.is_some());
    answer(status, cut(said.unwrap_or(reason), at_most))
}

/// What is short and exact, such as an id.
pub fn exact(text: &str) -> Markup {
    html! { code { (text) } }
}

/// How much of a text is shown on hover, in characters.
const TITLE_MAX: usize = 500;

/// A text that may be long: cut, and more of it on hover.
pub fn cut(text: &str, at_most: usize) -> Markup {
    match text.char_indices().nth(at_most) {
        None => html! { span.long { (text) } },
        Some((end, _)) => {
            let whole = text.char_indices().nth(TITLE_MAX).map_or(text, |(end, _)| &text[..end]);
            html! { span.long title=(whole) { (text[..end]) "…" } }
        }
    }
}

/// A block of text to read or copy.
pub fn block(text: &str) -> Markup {
    html! { pre.block tabindex="0" data-copy { code { (text) } } }
}

/// A JSON text as people read it; what is none stays as it is.
pub fn pretty(text: &str) -> String {
    let value = serde_json::from_str::<serde_json::Value>(text).ok();
    let value = value.filter(|value| value.is_object() || value.is_array());
    value
        .and_then(|value| serde_json::to_string_pretty(&value).ok())
        .unwrap_or_else(|| text.to_owned())
}

/// A table. On a narrow screen each row is a block, whose cells say what column they are of.
pub struct Table {
    caption: &'static str,
    columns: &'static [&'static str],
    rows: Vec<(Option<String>, Vec<Markup>)>,
}

impl Table {
    /// A column that begins with `#` has numbers.
    pub fn new(caption: &'static str, columns: &'static [&'static str]) -> Self {
        Self { caption, columns, rows: Vec::new() }
    }

    pub fn row(&mut self, cells: Vec<Markup>) {
        self.rows.push((None, cells));
    }

    /// A row of something that has a page, to which its first cell leads.
    pub fn row_to(&mut self, address: String, cells: Vec<Markup>) {
        self.rows.push((Some(address), cells));
    }

    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }
}

impl Render for Table {
    fn render(&self) -> Markup {
        let columns: Vec<_> = self
            .columns
            .iter()
            .map(|column| (column.trim_start_matches('#'), column.starts_with('#')))
            .collect();
        html! {
            table {
                caption.unseen { (self.caption) }
                thead {
                    tr {
                        @for (name, is_number) in &columns {
                            th class=[is_number.then_some("num")] scope="col" { (name) }
                        }
                    }
                }
                tbody {
                    @for (address, cells) in &self.rows {
                        tr {
                            @for (index, (cell, (name, is_number))) in cells.iter().zip(&columns).enumerate() {
                                td class=[is_number.then_some("num")] data-column=(name) {
                                    @match address {
                                        Some(address) if index == 0 => a.row href=(address) { (cell) },
                                        _ => (cell),
                                    }
                                }
                            }
                        }
                    }
                }
            }
        }
    }
}

/// Facts about one thing.
pub fn facts(facts: &[(&str, Markup)]) -> Markup {
    html! {
        dl.facts {
            @for (name, value) in facts {
                div { dt { (name) } dd { (value) } }
            }
        }
    }
}

/// A figure that one looks at first.
pub struct Tile<'a> {
    pub name: &'a str,
    pub value: String,
    pub detail: Markup,
    pub tone: &'a str,
    pub address: Option<&'a str>,
}

pub fn tiles(tiles: &[Tile<'_>]) -> Markup {
    let content = |tile: &Tile<'_>| {
        html! {
            span.name { (tile.name) }
            span.value { (tile.value) }
            span.detail { (tile.detail) }
        }
    };
    html! {
        ul.tiles {
            @for tile in tiles {
                li class=(tile.tone) {
                    @match tile.address {
                        Some(address) => a href=(address) { (content(tile)) },
                        None => div { (content(tile)) },
                    }
                }
            }
        }
    }
}

/// Where the list goes on; `back_to_ms` is how far was looked, if that was not to its end.
pub fn older(visit: &Visit, next: Option<&str>, back_to_ms: Option<u64>) -> Markup {
    let is_first = visit.asked("after").is_none();
    html! {
        @if let Some(back_to_ms) = back_to_ms {
            p.hint { "Looked back to " (moment(back_to_ms)) " so far: looking takes long." }
        }
        @if next.is_some() || !is_first {
            nav.pager aria-label="Pages of the list" {
                @if !is_first { a href=(visit.address_with(None)) { "Newest" } }
                @if let Some(next) = next {
                    a href=(visit.address_with(Some(("after", next)))) rel="next" {
                        @if back_to_ms.is_some() { "Look further back" } @else { "Older" }
                    }
                }
            }
        }
    }
}

/// That there is nothing, and what that means.
pub fn nothing(text: &str) -> Markup {
    html! { p.nothing { (text) } }
}

/// A field of a form, with its label and what it is for.
pub struct Field<'a> {
    pub label: &'a str,
    pub name: &'a str,
    pub value: &'a str,
    pub hint: &'a str,
    pub required: bool,
}

impl Field<'_> {
    pub fn line(&self, kind: &str) -> Markup {
        let (hint_id, is_number) = (format!("{}-hint", self.name), kind == "number");
        html! {
            div.field {
                label for=(self.name) { (self.label) }
                input id=(self.name) name=(self.name) type=(kind) value=(self.value)
                    required[self.required] min=[is_number.then_some("0")]
                    aria-describedby=[(!self.hint.is_empty()).then_some(&hint_id)];
                @if !self.hint.is_empty() { p.hint id=(hint_id) { (self.hint) } }
            }
        }
    }

    pub fn text(&self, rows: u32) -> Markup {
        let hint_id = format!("{}-hint", self.name);
        html! {
            div.field {
                label for=(self.name) { (self.label) }
                textarea id=(self.name) name=(self.name) rows=(rows) spellcheck="false"
                    aria-describedby=[(!self.hint.is_empty()).then_some(&hint_id)] { (self.value) }
                @if !self.hint.is_empty() { p.hint id=(hint_id) { (self.hint) } }
            }
        }
    }
}

/// One of several values.
pub fn choice(label: &str, name: &str, values: &[(&str, &str)], chosen: &str) -> Markup {
    html! {
        div.field {
            label for=(name) { (label) }
            select id=(name) name=(name) {
                @for (value, words) in values {
                    option value=(value) selected[*value == chosen] { (words) }
                }
            }
        }
    }
}

/// On or off.
pub fn switch(label: &str, name: &str, is_on: bool) -> Markup {
    html! {
        div.field.switch {
            input id=(name) name=(name) type="checkbox" value="true" checked[is_on];
            label for=(name) { (label) }
        }
    }
}

/// What narrows a list down; the address then says it.
pub fn filters(path: &str, fields: &Markup, is_narrowed: bool) -> Markup {
    html! {
        form.filters method="get" action=(path) role="search" {
            (fields)
            div.field.go {
                button type="submit" { "Filter" }
                @if is_narrowed { a href=(path) { "Clear" } }
            }
        }
    }
}

/// A field of a filter; the first one of a page is where `/` goes.
pub fn filter_line(visit: &Visit, label: &str, name: &str, kind: &str) -> Markup {
    html! {
        div.field {
            label for=(name) { (label) }
            input id=(name) name=(name) type=(kind) value=(visit.asked(name).unwrap_or_default())
                data-search[name == "text" || name == "name"] spellcheck="false";
        }
    }
}

pub fn filter_choice(visit: &Visit, label: &str, name: &str, values: &[(&str, &str)]) -> Markup {
    choice(label, name, values, &visit.asked(name).unwrap_or_default())
}
