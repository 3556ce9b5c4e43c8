//! Metrics (contract §7): what happens is recorded where it happens ([`record`]), the store is
//! measured by one process for all ([`meter`]), and a sink takes both to where the operator looks.
//!
//! Every metric stands in [`names`] once.

mod aggregate;
mod datadog;
mod labels;
mod meter;
mod names;
mod print;
mod prometheus;
pub mod record;

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use metrics::gauge;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::bus::clock::Clock;
use crate::config::{MetricService, Settings};
use crate::store::{Duty, HeldDuty, Store};
use aggregate::Aggregate;
use meter::Meter;
use names::PROCESS_START_TIME;
use print::Printer;
use prometheus::KindHandle;

/// How often the store is measured and metrics are sent (contract §7).
const INTERVAL: Duration = Duration::from_secs(10);
/// How long the last metrics may take at the end of a process.
const LAST_TIMEOUT: Duration = Duration::from_secs(2);

/// What Prometheus reads.
#[derive(Clone)]
pub struct Exposition(KindHandle);

impl Exposition {
    /// In Prometheus's text format, version 0.0.4.
    pub fn render(&self) -> String {
        self.0.render()
    }
}

/// Where metrics go.
enum Sink {
    Print { recorded: Aggregate, printer: Printer },
    Agent { recorded: Aggregate, agent: datadog::Agent },
    Api { recorded: Aggregate, api: datadog::Api },
    Prometheus(KindHandle),
    None,
}

/// Takes metrics to their sink until it is finished.
pub struct Metrics {
    exposition: Option<Exposition>,
    stop: CancellationToken,
    task: JoinHandle<()>,
}

/// What the task does again and again.
struct Exporter {
    sink: Sink,
    /// `None` where nobody would see what is measured.
    meter: Option<(HeldDuty, Meter)>,
    /// When this process started, in seconds since the epoch.
    started: f64,
    /// How many reports in a row did not get through.
    lost: u64,
}

impl Metrics {
    /// Installs the sink of the settings and starts to report. `measures` says whether this
    /// process may measure the store.
    ///
    /// # Errors
    /// If the sink cannot be made, or another one was installed before.
    pub fn start(
        settings: &Settings,
        store: &Arc<dyn Store>,
        measures: bool,
    ) -> anyhow::Result<Self> {
        let sink = Sink::install(settings)?;
        let exposition = match &sink {
            Sink::Prometheus(handle) => Some(Exposition(handle.clone())),
            _ => None,
        };
        let meter = || {
            let duty = HeldDuty::new(store.clone(), Duty::Gauges);
            (duty, Meter::new(settings, store.clone(), Clock::system()))
        };
        let measures = measures && settings.metrics != MetricService::None;
        let started = Clock::system().now_ms() as f64 / 1000.0;
        let meter = measures.then(meter);
        let exporter = Exporter { sink, meter, started, lost: 0 };
        let stop = CancellationToken::new();
        let task = tokio::spawn(exporter.run(stop.clone()));
        Ok(Self { exposition, stop, task })
    }

    /// What `GET /metrics` answers with, if metrics are for Prometheus.
    pub fn exposition(&self) -> Option<Exposition> {
        self.exposition.clone()
    }

    /// Reports what was recorded last, within a bounded time.
    pub async fn finish(self) {
        self.stop.cancel();
        match tokio::time::timeout(LAST_TIMEOUT, self.task).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::warn!(%error, "metrics ended before their process"),
            Err(_) => tracing::warn!("the last metrics were not reported in time"),
        }
    }
}

impl Sink {
    fn install(settings: &Settings) -> anyhow::Result<Self> {
        let recorded = Aggregate::new();
        let sink = match settings.metrics {
            MetricService::None => return Ok(Self::None),
            MetricService::Prometheus => {
                let (recorder, handle) = prometheus::recorder()?;
                metrics::set_global_recorder(recorder).context("metrics were started before")?;
                prometheus::describe();
                return Ok(Self::Prometheus(handle));
            }
            MetricService::Print => {
                Self::Print { recorded: recorded.clone(), printer: Printer::new() }
            }
            MetricService::Statsd => {
                Self::Agent { recorded: recorded.clone(), agent: agent(settings, false) }
            }
            MetricService::Datadog => match &settings.datadog_api_key {
                Some(key) => Self::Api {
                    recorded: recorded.clone(),
                    api: datadog::Api::new(&settings.datadog_host, key)?,
                },
                None => Self::Agent { recorded: recorded.clone(), agent: agent(settings, true) },
            },
        };
        metrics::set_global_recorder(recorded).context("metrics were started before")?;
        Ok(sink)
    }

    async fn report(&mut self) -> anyhow::Result<()> {
        match self {
            Self::Print { recorded, printer } => printer.print(&recorded.take()),
            Self::Agent { recorded, agent } => agent.send(recorded.take()).await?,
            Self::Api { recorded, api } => api.send(&recorded.take(), INTERVAL).await?,
            // Rendering empties the buffers of the histograms, and forgets what does not move any more:
            // that must not wait until somebody asks.
            Self::Prometheus(handle) => drop(handle.render()),
            Self::None => {}
        }
        Ok(())
    }
}

fn agent(settings: &Settings, knows_tags: bool) -> datadog::Agent {
    let (host, port) = (settings.dd_agent_host.clone(), settings.dd_dogstatsd_port);
    datadog::Agent { host, port, knows_tags }
}

impl Exporter {
    async fn run(mut self, stop: CancellationToken) {
        let mut interval = tokio::time::interval(INTERVAL);
        interval.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            let last = tokio::select! {
                _ = interval.tick() => false,
                () = stop.cancelled() => true,
            };
            // At the end, what was recorded is worth more than one more look at the store.
            let limit = if last { LAST_TIMEOUT / 2 } else { INTERVAL };
            if tokio::time::timeout(limit, self.measure()).await.is_err() {
                tracing::debug!("failed to measure the store in time");
            }
            self.report().await;
            if last {
                break;
            }
        }
        if let Some((duty, _)) = self.meter {
            duty.give_back().await;
        }
    }

    async fn measure(&mut self) {
        gauge!(PROCESS_START_TIME).set(self.started);
        let Some((duty, meter)) = &mut self.meter else { return };
        if !duty.is_mine().await {
            meter.forget();
        } else if let Err(error) = meter.measure().await {
            tracing::debug!(%error, "failed to measure the store");
        }
    }

    async fn report(&mut self) {
        let late = |_| Err(anyhow::anyhow!("it took too long"));
        let sent = tokio::time::timeout(INTERVAL, self.sink.report()).await.unwrap_or_else(late);
        match sent {
            Ok(()) => {
                let lost = std::mem::take(&mut self.lost);
                if lost > 0 {
                    let lost_s = lost * INTERVAL.as_secs();
                    tracing::warn!(lost_s, "metrics are sent again; those of this time are lost");
                }
            }
            Err(error) => {
                if self.lost == 0 {
                    let error = format!("{error:#}");
                    tracing::warn!(error, "failed to send metrics; trying on");
                }
                self.lost += 1;
            }
        }
    }
}
