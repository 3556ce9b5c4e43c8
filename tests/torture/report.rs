//! The table at the end, what went wrong, and how to see it again.

use std::process::ExitCode;
use std::time::Duration;

use comfy_table::{CellAlignment, Table, presets};

use crate::rig::Row;

const HEADER: [&str; 13] = [
    "fault",
    "store",
    "cycles",
    "accepted",
    "received",
    "lost",
    "reordered",
    "phantom",
    "duplicated",
    "503, stored",
    "publish pause",
    "delivery pause",
    "slowest answer",
];

/// Prints everything; failure if anything was violated.
pub fn print(rows: &[Row], seed: u64, seconds: u64) -> ExitCode {
    let mut table = Table::new();
    table.load_style(presets::ASCII_MARKDOWN).set_header(HEADER);
    for row in rows {
        table.add_row(cells(row));
    }
    for column in table.column_iter_mut().skip(2) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    println!("\n{table}\n");
    for row in rows {
        for note in &row.notes {
            println!("{} on {}: {note}", row.fault, row.store);
        }
    }
    let mut failed = false;
    for row in rows {
        for violation in &row.verdict.violations {
            println!("VIOLATION in {} on {}: {violation}", row.fault, row.store);
        }
        if !row.verdict.violations.is_empty() {
            failed = true;
            println!(
                "  again: ./scripts/torture --seed {seed} --seconds {seconds} --only {} --store {}",
                row.fault, row.store
            );
        }
    }
    println!("torture: seed {seed}: {}", if failed { "FAILED" } else { "nothing was violated" });
    if failed { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}

fn cells(row: &Row) -> Vec<String> {
    if row.skipped {
        let mut cells = vec![row.fault.to_owned(), row.store.to_owned(), "skipped".to_owned()];
        cells.resize(HEADER.len(), String::new());
        return cells;
    }
    let verdict = &row.verdict;
    let unanswered = match verdict.unavailable + verdict.unanswered {
        0 => String::new(),
        some => format!(" (+{some} ?)"),
    };
    vec![
        row.fault.to_owned(),
        row.store.to_owned(),
        row.cycles.to_string(),
        format!("{}{unanswered}", verdict.accepted),
        verdict.received.to_string(),
        verdict.lost.to_string(),
        verdict.reordered.to_string(),
        verdict.phantom.to_string(),
        format!("{} of {}", verdict.duplicated, row.duplicates_max),
        format!("{} of {}", verdict.stored_unavailable, verdict.unavailable),
        seconds(row.publish_pause),
        seconds(row.delivery_pause),
        seconds(row.slowest),
    ]
}

fn seconds(time: Duration) -> String {
    format!("{:.2} s", time.as_secs_f64())
}
