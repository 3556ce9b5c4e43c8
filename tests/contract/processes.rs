//! Who runs: `/processes`, `/pulse`, `routemaster ps` and what `doctor` makes of it.

use serde_json::{Value, json};

use crate::support::{Bus, Process, Signal, eventually};

/// The roles that are there, as the bus tells them.
async fn roles(asked: &Process) -> Vec<String> {
    let rows = asked.client("demo").get("/processes").await.expect(200).json();
    let role = |row: &Value| row["role"].as_str().unwrap().to_owned();
    rows.as_array().unwrap().iter().map(role).collect()
}

async fn are_there(asked: &Process, expected: &[&str]) {
    let look = async || (roles(asked).await == expected).then_some(());
    eventually("the processes are known", look).await;
}

on_both_stores!(each_process_says_that_it_is_there, |store| async move {
    let bus = Bus::new(&store);
    let web = bus.web().await;
    are_there(&web, &["web"]).await;
    let pulse = web.client("demo").get("/pulse").await.expect(204);
    assert_eq!(pulse.header("routemaster-workers"), Some("0"));
    let without = bus.run(&["ps", "--url", web.base(), "--token", "demo"]).await;
    assert!(without.stderr.contains("no worker runs"), "{}", without.stderr);
    let doctor = bus.run(&["doctor", "--url", web.base()]).await;
    assert_eq!(doctor.code, Some(1), "{}", doctor.stdout);
    assert!(doctor.stdout.contains("no worker runs"), "{}", doctor.stdout);

    let mut worker = bus.worker().await;
    are_there(&web, &["web", "worker"]).await;
    let pulse = web.client("demo").get("/pulse").await.expect(204);
    assert_eq!(pulse.header("routemaster-workers"), Some("1"));
    let rows = web.client("demo").get("/processes").await.expect(200).json();
    assert_eq!(rows[1]["pid"], json!(worker.id()));
    assert_eq!(rows[1]["deliveries"], json!({"used": 0, "max": 1000}));
    assert!(rows[0].get("deliveries").is_none(), "{rows}");
    let ps = bus.run(&["ps", "--url", web.base(), "--token", "demo"]).await;
    assert_eq!(ps.code, Some(0), "{}", ps.stderr);
    assert!(ps.stdout.contains("worker") && ps.stdout.contains("0 of 1000"), "{}", ps.stdout);
    let listed = bus.run(&["ps", "--json", "--url", web.base(), "--token", "demo"]).await;
    assert_eq!(serde_json::from_str::<Value>(&listed.stdout).unwrap(), rows);

    worker.signal(Signal::Term);
    worker.exit().await;
    assert_eq!(roles(&web).await, ["web"], "it has said farewell");
});
