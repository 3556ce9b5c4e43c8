//! Picks up a renewed certificate without a restart and without dropping a connection.
//!
//! The files are looked at every few seconds, and at once on SIGHUP. What cannot be used is
//! reported, and the certificate in use stays.

use std::sync::Arc;
use std::time::Duration;

use rustls::ServerConfig;
use tokio::sync::{Notify, watch};

use super::CertificateFiles;

/// How often the files are looked at.
const INTERVAL: Duration = Duration::from_secs(5);

/// A certificate that follows its files.
pub struct FreshCertificate {
    files: CertificateFiles,
    /// What the files held when they were last looked at; nothing while one is being replaced.
    seen: [Option<Vec<u8>>; 2],
    config: watch::Sender<Arc<ServerConfig>>,
}

impl FreshCertificate {
    /// # Errors
    /// If the files cannot be used.
    pub fn load(files: CertificateFiles) -> anyhow::Result<Self> {
        // Read before, so that what is replaced meanwhile is noticed.
        let seen = contents(&files);
        let config = watch::Sender::new(files.load()?);
        Ok(Self { files, seen, config })
    }

    /// What a server shows; it changes with the files.
    pub fn config(&self) -> watch::Receiver<Arc<ServerConfig>> {
        self.config.subscribe()
    }

    /// Follows the files, without end. `now` asks for a look at once.
    pub async fn keep_fresh(mut self, now: &Notify) {
        loop {
            tokio::select! {
                () = tokio::time::sleep(INTERVAL) => {}
                () = now.notified() => {}
            }
            let files = self.files.clone();
            // A file system that hangs must not hold up the server.
            let read = tokio::task::spawn_blocking(move || contents(&files));
            let Ok(current) = read.await else { continue };
            if current != self.seen {
                self.seen = current;
                self.take_up();
            }
        }
    }

    fn take_up(&self) {
        let file = self.files.certificate.display();
        match self.files.load() {
            Ok(renewed) => {
                self.config.send_replace(renewed);
                tracing::info!(%file, "took up the renewed certificate");
            }
            Err(error) => tracing::error!(
                error = format!("{error:#}"),
                "failed to take up the renewed certificate; the one in use stays"
            ),
        }
    }
}

fn contents(files: &CertificateFiles) -> [Option<Vec<u8>>; 2] {
    [&files.certificate, &files.key].map(|path| std::fs::read(path).ok())
}
