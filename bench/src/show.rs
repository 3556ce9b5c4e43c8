//! What was measured, for people: tables of what went through, how long it took and what it cost.

use super::latency::Quantiles;
use super::report::{Report, Run};
use super::usage::Usage;
use routemaster::cli::table::{Screen, Table, Tone};

const NONE: &str = "-";

/// All tables, and what is wrong.
pub fn text(report: &Report, screen: Screen) -> String {
    let mut parts = vec![throughput(report, screen), times(report, screen), cost(report, screen)];
    parts.push(remarks(report));
    parts.retain(|part| !part.is_empty());
    parts.join("\n")
}

fn throughput(report: &Report, screen: Screen) -> String {
    let columns = [
        "SCENARIO",
        "REQUESTS/S",
        "ACCEPTED/S",
        "OF CEILING",
        "DELIVERED/S",
        "EMPTY AFTER",
        "DELIVERED",
        "MISSING",
        "TWICE",
        "DISORDER",
    ];
    let mut table = Table::new(screen, &columns, &[1, 2, 3, 4, 5, 6, 7, 8, 9]);
    for run in &report.runs {
        let published = run.published.as_ref();
        let received = run.received.as_ref();
        let disorder = received.and_then(|received| received.out_of_order);
        let fault = |number: u64| match number {
            0 => ("0".into(), Tone::Plain),
            number => (whole(number as f64), Tone::Bad),
        };
        let plain = |text: Option<String>| (text.unwrap_or_else(|| NONE.into()), Tone::Plain);
        table.coloured_row([
            (name(run), Tone::Plain),
            plain(published.map(|published| whole(published.requests_per_s))),
            plain(published.map(|published| whole(published.events_per_s))),
            plain(run.ceiling.as_ref().map(|ceiling| format!("{:.2}", ceiling.share))),
            plain(received.map(|received| whole(received.events_per_s))),
            plain(received.map(|received| format!("{:.2} s", received.empty_after_s))),
            plain(received.map(|received| whole(received.events as f64))),
            received.map_or(plain(None), |received| fault(received.missing)),
            plain(received.map(|received| whole(received.duplicated as f64))),
            disorder.map_or(plain(None), fault),
        ]);
    }
    table.text()
}

fn times(report: &Report, screen: Screen) -> String {
    let columns = ["MILLISECONDS", "FROM REQUEST TO", "P50", "P90", "P99", "P99.9", "MAX"];
    let mut table = Table::new(screen, &columns, &[2, 3, 4, 5, 6]);
    for run in &report.runs {
        let published = run.published.as_ref().and_then(|published| published.latency);
        let received = run.received.as_ref().and_then(|received| received.latency);
        let lateness = run.received.as_ref().and_then(|received| received.lateness);
        let late = format!("receipt, after {} ms", run.timeout_ms);
        let noisy = run.noisy.as_ref();
        for (what, quantiles) in [
            ("answer", published),
            ("receipt", received),
            (late.as_str(), lateness),
            ("receipt, nobody hangs", noisy.and_then(|noisy| noisy.without)),
            ("receipt, one hangs", noisy.and_then(|noisy| noisy.with)),
        ] {
            let Some(Quantiles { p50, p90, p99, p99_9, max }) = quantiles else { continue };
            let numbers = [p50, p90, p99, p99_9, max].map(|number| format!("{number:.2}"));
            table.row([name(run), what.to_owned()].into_iter().chain(numbers));
        }
    }
    for run in &report.runs {
        for page in run.console.iter().flat_map(|console| &console.pages) {
            let Some(Quantiles { p50, p90, p99, p99_9, max }) = page.latency else { continue };
            let numbers = [p50, p90, p99, p99_9, max].map(|number| format!("{number:.2}"));
            table.row([page.page.to_owned(), "page".to_owned()].into_iter().chain(numbers));
        }
    }
    table.text()
}

fn cost(report: &Report, screen: Screen) -> String {
    let columns =
        ["COST", "SECONDS", "BUS CPU", "BUS PEAK", "REDIS CPU", "REDIS PEAK", "BENCH CPU"];
    let mut table = Table::new(screen, &columns, &[1, 2, 3, 4, 5, 6]);
    for run in &report.runs {
        let Some(cost) = &run.cost else { continue };
        let seconds = run.published.as_ref().map(|published| format!("{:.1}", published.seconds));
        let cpu = |usage: Option<Usage>| match usage {
            None => NONE.into(),
            Some(Usage { cpu_s: None, .. }) => "not known".into(),
            Some(Usage { cpu_s: Some(seconds), .. }) => format!("{seconds:.2} s"),
        };
        let peak = |usage: Option<Usage>| match usage {
            None => NONE.into(),
            Some(Usage { peak_bytes: None, .. }) => "not known".into(),
            Some(Usage { peak_bytes: Some(bytes), .. }) => megabytes(bytes),
        };
        table.row([
            name(run),
            seconds.unwrap_or_else(|| NONE.into()),
            cpu(cost.bus),
            peak(cost.bus),
            cpu(cost.redis),
            peak(cost.redis),
            cpu(Some(cost.bench)),
        ]);
    }
    table.text()
}

/// What has no column, a line each.
fn remarks(report: &Report) -> String {
    let mut lines = Vec::new();
    for run in &report.runs {
        let name = name(run);
        if let Some(ceiling) = &run.ceiling {
            lines.push(format!(
                "{name}: the ceiling was {} requests/s before and {} after, on the average {}",
                whole(ceiling.before),
                whole(ceiling.after),
                whole(ceiling.mean)
            ));
        }
        if let Some(fan_out) = &run.fan_out {
            let how =
                if fan_out.appends_alone { "with no worker beside" } else { "while delivering" };
            lines.push(format!("{name}: {} appends/s, {how}", whole(fan_out.appends_per_s)));
        }
        if let Some(backlog) = &run.backlog {
            lines.push(format!(
                "{name}: {} drained at {}/s, the first tenth at {}/s, the last at {}/s; the \
                 first delivery after {:.2} s",
                whole(backlog.events as f64),
                whole(backlog.drained_per_s),
                whole(backlog.first_tenth_per_s),
                whole(backlog.last_tenth_per_s),
                backlog.first_delivery_after_s
            ));
            if let Some(stored) = &backlog.stored {
                lines.push(format!(
                    "{name}: the store took {} when empty, {} when full ({:.0} bytes each), {} \
                     when drained",
                    megabytes(stored.before),
                    megabytes(stored.full),
                    stored.per_event,
                    megabytes(stored.drained)
                ));
                if let Some(file) = stored.file_after {
                    let file = megabytes(file);
                    lines.push(format!("{name}: a moment later, its file had {file}"));
                }
            }
        }
        if let Some(noisy) = &run.noisy {
            let change = |ratio: Option<f64>| {
                ratio.map_or(NONE.into(), |ratio| format!("{:+.0} %", (ratio - 1.0) * 100.0))
            };
            lines.push(format!(
                "{name}: while one hangs, the others' p50 changes by {}, their p99 by {}",
                change(noisy.p50_ratio),
                change(noisy.p99_ratio)
            ));
        }
        if let Some(console) = &run.console {
            lines.push(format!(
                "{name}: {} subscribers, {} messages, {} attempts",
                whole(run.subscribers as f64),
                whole(console.messages as f64),
                whole(console.journal_entries as f64)
            ));
            if let Some(watched) = &console.watched {
                lines.push(format!(
                    "{name}: at rest, the bus uses {:.2} % of a core, and {:.2} % with an open overview",
                    watched.cores_unwatched * 100.0,
                    watched.cores_watched * 100.0
                ));
            }
        }
        if let Some(published) = run.published.as_ref().filter(|published| published.sent_again > 0)
        {
            let again = whole(published.sent_again as f64);
            lines.push(format!(
                "{name}: requests sent again, because the bus had to refuse: {again}"
            ));
        }
        if let Some(received) = run.received.as_ref().filter(|received| received.strange > 0) {
            let strange = whole(received.strange as f64);
            lines.push(format!("{name}: delivered to who has not subscribed to them: {strange}"));
        }
    }
    lines.iter().map(|line| format!("{line}\n")).collect()
}

fn name(run: &Run) -> String {
    match (run.scenario, run.subscribers) {
        ("publish", subscribers) => format!("publish to {subscribers}"),
        ("calls", _) => format!("calls to {}", run.destinations),
        ("messages", publishers) => format!("messages to {publishers}"),
        (name, _) => name.to_owned(),
    }
}

/// A number with commas.
fn whole(number: f64) -> String {
    indicatif::HumanCount(number.round() as u64).to_string()
}

fn megabytes(bytes: u64) -> String {
    format!("{:.1} MB", bytes as f64 / 1e6)
}
