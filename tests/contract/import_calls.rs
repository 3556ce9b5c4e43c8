//! `routemaster import`, of what waits at the services that calls and postbacks came from before: a real RabbitMQ
//! and a real Redis, filled as those do.

use serde_json::{Value, json};

use crate::support::{Bus, RabbitMq, RedisServer, Store, eventually, run};

const QUEUE: &str = "services";

/// Runs an import that has to succeed; what it reports.
async fn import(bus: &Bus, arguments: &[&str]) -> Value {
    let ended = bus.run(&[&["import", "--json"], arguments].concat()).await;
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    serde_json::from_str(&ended.stdout).expect("one JSON object")
}

fn numbers<const N: usize>(report: &Value, names: [&str; N]) -> [u64; N] {
    names.map(|name| report[name].as_u64().unwrap_or_else(|| panic!("{name}: {report}")))
}

on_both_stores!(calls_move_in_from_rabbitmq, |store| async move {
    let rabbit = RabbitMq::start().await;
    let bus = Bus::new(&store);
    let receiver = bus.receiver().await;
    rabbit.make_queue(QUEUE).await;
    let call = |number: usize| json!({"url": format!("{}/{number}", receiver.url())}).to_string();
    // Two that are alike are two; what is no call is a dead letter.
    let mut waiting: Vec<String> = (0..120).map(call).collect();
    waiting.extend([call(7), "no call".into(), r#"{"method":"GET"}"#.into()]);
    for message in &waiting {
        rabbit.publish(QUEUE, message).await;
    }
    let url = rabbit.url("guest");
    // The plug-in counts every few seconds.
    eventually("it has counted them", async || {
        let report = import(&bus, &["--from", &url, "--dry-run"]).await;
        (report["found"] == 123).then(|| {
            let looked = numbers(&report, ["looked_at", "imported", "unreadable"]);
            assert_eq!(looked, [123, 123, 2], "{report}");
        })
    })
    .await;
    assert_eq!(rabbit.waiting(QUEUE).await, waiting);

    let report = import(&bus, &["--from", &url]).await;
    assert_eq!(numbers(&report, ["found", "imported", "unreadable"]), [123, 123, 2], "{report}");
    assert_eq!((&report["complete"], &report["dry_run"]), (&json!(true), &json!(false)));
    assert!(!report.to_string().contains("guest"), "{report}");
    assert_eq!(rabbit.waiting(QUEUE).await, Vec::<String>::new());
    let again = import(&bus, &["--from", &url]).await;
    assert_eq!(again["imported"], 0, "{again}");

    let server = bus.serve().await;
    let made = receiver.attempts(121).await;
    let mut numbers: Vec<usize> =
        made.iter().map(|made| made.path.rsplit('/').next().unwrap().parse().unwrap()).collect();
    numbers.sort_unstable();
    let mut expected: Vec<usize> = (0..120).chain([7]).collect();
    expected.sort_unstable();
    assert_eq!(numbers, expected);
    let root = server.client(crate::support::ROOT);
    eventually("what is no call is told", async || {
        let letters = root.get("/dead_letters").await.json()["dead_letters"].clone();
        (letters.as_array().unwrap().len() == 2).then_some(())
    })
    .await;
});

#[test]
fn a_queue_that_somebody_takes_from_is_left_alone() {
    run(async {
        let rabbit = RabbitMq::start().await;
        let bus = Bus::new(&Store::sqlite());
        rabbit.make_queue(QUEUE).await;
        let mut consumer = rabbit.consumer(QUEUE);
        let refused = async |arguments: &[&str]| {
            let ended = bus.run(&[&["import"], arguments].concat()).await;
            assert!(!ended.stderr.contains("guest") && !ended.stderr.contains("wrong@"));
            (ended.code == Some(1)).then_some(ended.stderr)
        };
        let url = rabbit.url("guest");
        let (told, _) =
            eventually("it is refused", async || refused(&["--from", &url]).await).await;
        assert!(
            told.contains("1 consumers") && told.contains("stop the call proxy first"),
            "{told}"
        );
        consumer.kill().await.unwrap();

        let told = refused(&["--from", &rabbit.url("wrong")]).await.unwrap();
        assert!(told.contains("does not know the user and password of --from"), "{told}");
        let told = refused(&["--from", &url, "--queue", "other"]).await.unwrap();
        assert!(told.contains("there is no such queue"), "{told}");
    });
}

on_both_stores!(postbacks_move_in_from_the_services_redis, |store| async move {
    let redis = RedisServer::start();
    let bus = Bus::new(&store);
    let receiver = bus.receiver().await;
    let url = format!("{}?n={{n}}", receiver.url());
    let request = |numbers: std::ops::Range<u32>| {
        let data: Vec<Value> = numbers.map(|number| json!({"n": number})).collect();
        json!({"endpoint": {"method": "GET", "url": url}, "data": data}).to_string()
    };
    for number in 0..150 {
        redis.command(&["LPUSH", "data", &request(2 * number..2 * number + 2)]).unwrap();
    }
    redis.command(&["LPUSH", "data", "no postback"]).unwrap();
    let from = redis.url();
    let arguments = ["--from", &from, "--list", "data"];
    let look = import(&bus, &[&arguments[..], &["--dry-run"]].concat()).await;
    let names = ["found", "looked_at", "imported", "unreadable"];
    assert_eq!(numbers(&look, names), [151, 151, 301, 1], "{look}");
    assert_eq!(redis.command(&["LLEN", "data"]).unwrap(), "151");

    let report = import(&bus, &arguments).await;
    assert_eq!(numbers(&report, names), [151, 151, 301, 1], "{report}");
    assert_eq!(redis.command(&["LLEN", "data"]).unwrap(), "0");
    let _server = bus.serve().await;
    let made = receiver.attempts(300).await;
    let mut numbers: Vec<u32> =
        made.iter().map(|made| made.path.split_once("n=").unwrap().1.parse().unwrap()).collect();
    numbers.sort_unstable();
    assert_eq!(numbers, (0..300).collect::<Vec<_>>());
});
