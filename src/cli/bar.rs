//! How far a command is that does something to many things: on a terminal.

use std::io::IsTerminal;

use indicatif::{ProgressBar, ProgressStyle};

/// A bar up to `count` of things that are called `plural`.
pub fn bar(count: u64, plural: &str) -> ProgressBar {
    if !std::io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let bar = ProgressBar::new(count);
    // The template is good, as the first use shows.
    let template = format!("{{bar:40}} {{human_pos}} of {{human_len}} {plural}");
    if let Ok(style) = ProgressStyle::with_template(&template) {
        bar.set_style(style);
    }
    bar
}
