//! A copy of the embedded store, made as docs/operating.md says, is a store to go on from.

use std::path::Path;

use serde_json::json;

use crate::support::{Bus, Client, Store, event, eventually, run};

/// Publishes one number after the other, without end.
async fn publish_on(demo: Client) {
    for number in 1.. {
        demo.publish("widgets", &event(number)).await.expect(204);
    }
}

fn copy_store(from: &Path, to: &Path) {
    let to = to.to_str().unwrap();
    let connection = rusqlite::Connection::open(from).unwrap();
    connection.execute("VACUUM INTO ?1", [to]).unwrap();
}

fn copy_files(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for file in std::fs::read_dir(from).unwrap() {
        let file = file.unwrap();
        std::fs::copy(file.path(), to.join(file.file_name())).unwrap();
    }
}

#[test]
fn a_copy_that_is_made_while_the_bus_publishes_has_all_that_was_accepted_before() {
    run(async {
        let (bus, restored) = (Bus::new(&Store::sqlite()), Bus::new(&Store::sqlite()));
        // Nothing is delivered before the copy is served.
        let web = bus.web().await;
        let (demo, receiver) = (web.client("demo"), bus.receiver().await);
        demo.claims("widgets").await;
        let more = json!({"timeout": 0, "uuid": "secret"});
        web.client("alice").subscribes(&receiver, &["widgets"], more).await;
        let publishing = tokio::spawn(publish_on(demo.clone()));
        let many = async || demo.queued("alice").await.filter(|queued| *queued >= 100);
        let (accepted, _) = eventually("many events are accepted", many).await;

        copy_files(&bus.data_dir().join("tls"), &restored.data_dir().join("tls"));
        let [from, to] = [&bus, &restored].map(|bus| bus.data_dir().join("routemaster.db"));
        tokio::task::spawn_blocking(move || copy_store(&from, &to)).await.unwrap();
        let later = demo.queued("alice").await.unwrap();
        let goes_on = async || demo.queued("alice").await.filter(|queued| *queued > later);
        eventually("the bus goes on", goes_on).await;
        publishing.abort();

        let server = restored.serve().await;
        let copied = server.client("alice").topic("widgets").await["events"].as_u64().unwrap() - 1;
        assert!((accepted..=later + 1).contains(&copied), "{accepted} <= {copied} <= {later}");
        let numbers = receiver.numbers(copied as usize).await;
        assert_eq!(numbers, (1..=copied).collect::<Vec<_>>());
        // It is not a picture of the bus, but a bus.
        server.client("demo").publish("widgets", &event(copied + 1)).await.expect(204);
        assert_eq!(receiver.numbers(copied as usize + 1).await.last(), Some(&(copied + 1)));
    });
}
