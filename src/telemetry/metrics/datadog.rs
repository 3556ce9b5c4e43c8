//! Sends metrics to Datadog: as DogStatsD over UDP to its agent, or to its HTTP API. Without tags, a
//! StatsD server takes the same.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, ToSocketAddrs, UdpSocket};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context, bail};
use cadence::prelude::*;
use cadence::{BufferedUdpMetricSink, Metric, MetricBuilder, MetricResult, StatsdClient};
use serde::Serialize;
use url::Url;

use super::aggregate::{Sample, Tag, Value};
use crate::egress::client::{self, ClientOptions};
use crate::telemetry::host_name;

/// How much of DogStatsD one datagram carries: what passes any Ethernet unbroken.
const DATAGRAM_MAX: usize = 1432;
/// How many metrics one request to the API carries.
const SERIES_MAX: usize = 1_000;
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);
const TIMEOUT: Duration = Duration::from_secs(5);

/// Datadog's agent.
#[derive(Clone)]
pub struct Agent {
    pub host: String,
    pub port: u16,
    /// Whether it knows tags; else they become part of the name.
    pub knows_tags: bool,
}

impl Agent {
    /// Sends samples. An agent that is not there cannot be told from one that is.
    pub async fn send(&self, samples: Vec<Sample>) -> anyhow::Result<()> {
        let agent = self.clone();
        tokio::task::spawn_blocking(move || agent.send_now(&samples)).await?
    }

    fn send_now(&self, samples: &[Sample]) -> anyhow::Result<()> {
        let resolved = (self.host.as_str(), self.port).to_socket_addrs();
        let addresses = resolved.with_context(|| format!("failed to resolve {}", self.host))?;
        let address = addresses.into_iter().next().context("the agent's name has no address")?;
        let any: IpAddr = match address {
            SocketAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
            SocketAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
        };
        let socket = UdpSocket::bind((any, 0)).context("failed to open a UDP socket")?;
        let sink = BufferedUdpMetricSink::with_capacity(address, socket, DATAGRAM_MAX)?;
        let client = StatsdClient::from_sink("", sink);
        for Sample { name, tags, value } in samples {
            let (joined, none) = (joined(name, tags), Vec::new());
            let (name, tags) = if self.knows_tags { (name, tags) } else { (&joined, &none) };
            match value {
                Value::Count(count) => send(client.count_with_tags(name, *count), tags)?,
                Value::Gauge(gauge) => send(client.gauge_with_tags(name, *gauge), tags)?,
            }
        }
        client.flush()?;
        Ok(())
    }
}

/// A name with the values of its tags behind it: `routemaster.events.published.widgets`.
fn joined(name: &str, tags: &[Tag]) -> String {
    let plain = |c: char| if c.is_ascii_alphanumeric() || c == '-' { c } else { '_' };
    tags.iter().fold(name.to_owned(), |name, (_, value)| {
        name + "." + &value.chars().map(plain).collect::<String>()
    })
}

fn send<'a, T>(mut metric: MetricBuilder<'a, '_, T>, tags: &'a [Tag]) -> MetricResult<()>
where
    T: Metric + From<String>,
{
    for (name, value) in tags {
        metric = metric.with_tag(name, value);
    }
    metric.try_send().map(drop)
}

/// Datadog's HTTP API.
pub struct Api {
    http: reqwest::Client,
    url: Url,
    key: String,
    host: String,
}

/// The body of `POST /api/v2/series`.
#[derive(Serialize)]
struct Series<'a> {
    series: Vec<Row<'a>>,
}

#[derive(Serialize)]
struct Row<'a> {
    metric: &'a str,
    /// 1 is a count within the interval, 3 a gauge.
    r#type: u8,
    /// Seconds.
    interval: u64,
    points: [Point; 1],
    resources: [Resource<'a>; 1],
    tags: Vec<String>,
}

#[derive(Serialize)]
struct Point {
    /// Seconds since the epoch.
    timestamp: u64,
    value: f64,
}

#[derive(Serialize)]
struct Resource<'a> {
    r#type: &'static str,
    name: &'a str,
}

const COUNT: u8 = 1;
const GAUGE: u8 = 3;

impl Api {
    /// # Errors
    /// If the system's certificate authorities cannot be read.
    pub fn new(host: &Url, key: &str) -> anyhow::Result<Self> {
        let http = client::build(&ClientOptions {
            ca_files: vec![],
            connect_timeout: CONNECT_TIMEOUT,
            timeout: TIMEOUT,
            plain: false,
        })?;
        let url = host.join("/api/v2/series")?;
        Ok(Self { http, url, key: key.to_owned(), host: host_name() })
    }

    pub async fn send(&self, samples: &[Sample], interval: Duration) -> anyhow::Result<()> {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        let row = |sample| self.row(sample, now, interval);
        for some in samples.chunks(SERIES_MAX) {
            let body = serde_json::to_vec(&Series { series: some.iter().map(row).collect() })?;
            let request = self.http.post(self.url.clone()).header("dd-api-key", &self.key);
            let request = request.header("content-type", "application/json").body(body);
            let answer = request.send().await.map_err(reqwest::Error::without_url)?;
            if !answer.status().is_success() {
                bail!("Datadog answered {}", answer.status());
            }
        }
        Ok(())
    }

    fn row<'a>(&'a self, sample: &'a Sample, now: u64, interval: Duration) -> Row<'a> {
        let (kind, value) = match sample.value {
            Value::Count(count) => (COUNT, count as f64),
            Value::Gauge(gauge) => (GAUGE, gauge),
        };
        Row {
            metric: &sample.name,
            r#type: kind,
            interval: interval.as_secs(),
            points: [Point { timestamp: now, value }],
            resources: [Resource { r#type: "host", name: &self.host }],
            tags: sample.tags.iter().map(|(name, value)| format!("{name}:{value}")).collect(),
        }
    }
}
