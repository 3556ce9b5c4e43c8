//! A certificate that is renewed while the bus runs.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use routemaster::tls::development::{DevelopmentCa, ca_path};
use tempfile::TempDir;

use crate::support::{Bus, Client, Process, Signal, Store, event, eventually, run, soon};

/// An authority of its own for each certificate, so that a client tells by its trust which
/// certificate it is shown.
struct Authority(TempDir);

impl Authority {
    fn new() -> Self {
        let directory = TempDir::new().unwrap();
        DevelopmentCa::open_or_create(directory.path()).unwrap();
        Self(directory)
    }

    /// Puts a certificate of this authority where the bus finds it, each file in one step.
    fn install_in(&self, directory: &Path) {
        let identity = DevelopmentCa::open_or_create(self.0.path()).unwrap().issue().unwrap();
        for (file, content) in [("cert.pem", identity.certificate), ("key.pem", identity.key)] {
            let draft = directory.join(format!("{file}.new"));
            std::fs::write(&draft, content).unwrap();
            std::fs::rename(draft, directory.join(file)).unwrap();
        }
    }

    /// A new client, with a new connection, that trusts this authority only.
    fn client(&self, server: &Process) -> Client {
        Client::new(server.base(), &ca_path(self.0.path())).with_token("demo")
    }
}

async fn start(first: &Authority) -> (Bus, Process) {
    let bus = Bus::new(&Store::sqlite());
    first.install_in(bus.directory());
    let bus = bus.set("ROUTEMASTER_TLS_CERT", "cert.pem").set("ROUTEMASTER_TLS_KEY", "key.pem");
    let web = bus.web().await;
    (bus, web)
}

/// Whether a client gets through to the bus at all.
async fn is_trusted(authority: &Authority, server: &Process) -> bool {
    authority.client(server).try_publish("widgets", &event(1)).await
}

#[test]
fn a_renewed_certificate_is_taken_up_on_sighup_without_a_refused_request() {
    run(async {
        let (old, new) = (Authority::new(), Authority::new());
        let (bus, web) = start(&old).await;
        let client = old.client(&web);
        client.claims("widgets").await;
        let stop = Arc::new(AtomicBool::new(false));
        let published = Arc::new(AtomicU64::new(0));
        let load = {
            let (client, stop, published) = (client.clone(), stop.clone(), published.clone());
            tokio::spawn(async move {
                while !stop.load(Ordering::SeqCst) {
                    client.publish("widgets", &event(1)).await.expect(204);
                    published.fetch_add(1, Ordering::SeqCst);
                }
            })
        };
        assert!(!is_trusted(&new, &web).await);
        new.install_in(bus.directory());
        web.signal(Signal::Hup);
        soon("it says so", web.stderr.line_with("took up the renewed certificate")).await;
        assert!(is_trusted(&new, &web).await);
        assert!(!is_trusted(&old, &web).await);
        let before = published.load(Ordering::SeqCst);
        eventually("the old connection goes on", async || {
            (published.load(Ordering::SeqCst) > before + 10).then_some(())
        })
        .await;
        stop.store(true, Ordering::SeqCst);
        load.await.unwrap();
    });
}

#[test]
fn a_renewed_certificate_is_found_without_a_signal() {
    run(async {
        let (old, new) = (Authority::new(), Authority::new());
        let (bus, web) = start(&old).await;
        new.install_in(bus.directory());
        soon("it says so", web.stderr.line_with("took up the renewed certificate")).await;
        assert!(is_trusted(&new, &web).await);
    });
}

#[test]
fn a_bad_new_certificate_is_reported_and_the_old_one_stays() {
    run(async {
        let (old, new) = (Authority::new(), Authority::new());
        let (bus, web) = start(&old).await;
        std::fs::write(bus.directory().join("cert.pem"), "no certificate").unwrap();
        web.signal(Signal::Hup);
        soon("it says so", web.stderr.line_with("the one in use stays")).await;
        assert!(is_trusted(&old, &web).await);
        new.install_in(bus.directory());
        web.signal(Signal::Hup);
        soon("a good one is taken up", web.stderr.line_with("took up the renewed")).await;
        assert!(is_trusted(&new, &web).await);
    });
}

#[test]
fn sighup_ends_no_role() {
    run(async {
        let bus = Bus::new(&Store::sqlite());
        let (web, mut worker) = (bus.web().await, bus.worker().await);
        for process in [&web, &worker] {
            process.signal(Signal::Hup);
        }
        web.client("demo").claims("widgets").await;
        worker.signal(Signal::Term);
        assert_eq!(worker.exit().await.0, Some(0), "a graceful end, not the signal's");
    });
}
