//! The processes: whether there is one that delivers, and whether all are of one version.

use std::collections::BTreeSet;

use super::finding::Finding;
use crate::bus::process::Process;
use crate::cli::words::counted;

const CHECK: &str = "processes";

pub fn check(processes: Option<&[Process]>) -> Vec<Finding> {
    let Some(processes) = processes else {
        return vec![Finding::skipped(CHECK, "not looked at: the bus has not told them")];
    };
    let mut findings = Vec::new();
    let workers = processes.iter().filter(|process| process.is_worker()).count();
    if workers == 0 {
        findings.push(Finding::problem(
            CHECK,
            "no worker runs: nothing is delivered",
            "start `routemaster worker`, or `routemaster serve`, with the store of this bus",
        ));
    }
    for process in processes {
        let busy = [("deliveries", process.deliveries), ("calls", process.calls)];
        for (what, places) in busy {
            let Some(places) = places.filter(|places| places.used >= places.max) else { continue };
            let found = format!("makes {} {what}, as many as it may", places.used);
            let advice = "start another worker, or raise ROUTEMASTER_MAX_DELIVERIES: queues wait for a \
                          place";
            let about = format!("{} {}", process.host, process.pid);
            findings.push(Finding::warning(CHECK, found, advice).about(about));
        }
    }
    let versions: BTreeSet<&str> = processes.iter().map(|process| &*process.version).collect();
    if versions.len() > 1 {
        let versions: Vec<_> = versions.into_iter().collect();
        findings.push(Finding::warning(
            CHECK,
            format!("they are of several versions: {}", versions.join(", ")),
            "restart those that are older",
        ));
    }
    if findings.is_empty() {
        let all = counted(processes.len() as u64, "process", "processes");
        let workers = counted(workers as u64, "delivers", "deliver");
        findings.push(Finding::ok(CHECK, format!("{all}, of which {workers}")));
    }
    findings
}

#[cfg(test)]
mod tests {
    use super::super::finding::Verdict;
    use super::*;
    use crate::bus::process::PlacesInUse;

    fn process(version: &str, deliveries: Option<(u64, u64)>) -> Process {
        Process {
            id: "1".into(),
            role: "any".into(),
            host: "a".into(),
            pid: 7,
            version: version.into(),
            since: 0,
            deliveries: deliveries.map(|(used, max)| PlacesInUse { used, max }),
            calls: None,
            draining: false,
        }
    }

    #[test]
    fn a_bus_needs_a_worker_that_has_a_place_left() {
        let results = |processes: &[Process]| {
            let findings = check(Some(processes));
            findings.iter().map(|finding| finding.result).collect::<Vec<_>>()
        };
        let worker = process("1", Some((9, 10)));
        assert_eq!(results(&[process("1", None)]), [Verdict::Problem]);
        assert_eq!(results(&[process("1", None), worker.clone()]), [Verdict::Ok]);
        assert_eq!(results(&[process("1", Some((10, 10))), worker]), [Verdict::Warning]);
        assert_eq!(results(&[process("2", None), process("1", Some((0, 1)))]), [Verdict::Warning]);
        assert_eq!(check(None)[0].result, Verdict::Skipped);
    }
}
