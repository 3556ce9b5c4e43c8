//! Secrets (§0): what is easily guessed or read is warned of, and what the bus makes is for its owner alone.

use routemaster::tls::development::DevelopmentCa;

use crate::support::{Bus, Process, Store, run, soon};

#[test]
fn secrets_that_are_easily_guessed_or_read_are_warned_of() {
    use std::os::unix::fs::PermissionsExt;
    run(async {
        let bus = Bus::new(&Store::sqlite());
        let (certificate, key) =
            DevelopmentCa::open_or_create(&bus.data_dir()).unwrap().bus_identity();
        let bus = bus
            .set("ROUTEMASTER_TLS_CERT", certificate.to_str().unwrap())
            .set("ROUTEMASTER_TLS_KEY", key.to_str().unwrap())
            .set("ROUTEMASTER_ROOT_KEY", "short-s3cret");
        std::fs::set_permissions(&key, PermissionsExt::from_mode(0o644)).unwrap();
        let server = bus.serve().await;
        for warning in ["ROUTEMASTER_ROOT_KEY has 12 characters", "everybody on this machine"] {
            soon("it is warned of", server.stderr.line_with(warning)).await.expect("a line");
        }
        assert!(!server.stderr.text().contains("short-s3cret"), "{}", server.stderr.text());
        drop(server);
        std::fs::set_permissions(&key, PermissionsExt::from_mode(0o600)).unwrap();
        let bus = bus.set("ROUTEMASTER_ROOT_KEY", "a-key-that-nobody-guesses");
        let server = bus.serve().await;
        server.client("demo").get("/topics").await.expect(200);
        let log = server.stderr.text();
        assert!(!log.contains("can be guessed") && !log.contains("everybody"), "{log}");
    });
}

#[test]
fn the_data_directory_is_for_its_owner_alone_whatever_the_store() {
    use std::os::unix::fs::PermissionsExt;
    run(async {
        for store in [Store::sqlite(), Store::redis()] {
            let mut bus = Bus::new(&store);
            let place = bus.directory().join("other");
            bus = bus.set("ROUTEMASTER_DATA_DIR", place.to_str().unwrap());
            let _server =
                Process::start(bus.command(&["serve"]), &bus.ca_path(), "listening on").await;
            let mode = std::fs::metadata(&place).unwrap().permissions().mode();
            assert_eq!(mode & 0o777, 0o700, "{mode:o}");
        }
    });
}
