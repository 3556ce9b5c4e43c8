//! What a process serves over HTTPS, and where: put together from the settings.

use std::net::SocketAddr;
use std::sync::Arc;

use axum::Router;
use tokio::sync::Notify;
use tokio_util::task::TaskTracker;

use crate::api::bus::{Api, PublishWay, is_health, metrics_router, router};
use crate::api::openapi_document;
use crate::bus::clock::Clock;
use crate::commit::PublishGroups;
use crate::config::{MetricService, Role, SettingError, Settings};
use crate::http::authentication::{Authentication, Tokens};
use crate::http::body::BodyLimits;
use crate::http::in_flight::BytesInFlight;
use crate::http::limits::Limits;
use crate::http::places::PlaceLimits;
use crate::http::{Server, ServerOptions, ShortWay, Site, TransportRules, UnusableCertificate};
use crate::store::Store;
use crate::telemetry::metrics::Exposition;
use crate::tls::CertificateFiles;
use crate::tls::development::DevelopmentCa;

/// What a process serves.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Serving {
    /// The whole API, on `PORT`.
    Api,
    /// `GET /metrics` alone, on `ROUTEMASTER_METRICS_PORT`, for a process without the API.
    Metrics,
}

impl Serving {
    /// What a role serves; nothing if nobody would ask it.
    pub fn of(role: Role, settings: &Settings) -> Option<Self> {
        match role {
            Role::Serve | Role::Web => Some(Self::Api),
            Role::Worker if settings.metrics != MetricService::Prometheus => None,
            Role::Worker => settings.metrics_port.map(|_| Self::Metrics),
        }
    }

    /// A server that is bound to its address.
    ///
    /// # Errors
    /// If it cannot be had; the error says what to change.
    pub async fn bind(
        self,
        api: Arc<Api>,
        max_connections: usize,
        reload: Arc<Notify>,
    ) -> anyhow::Result<Server> {
        let settings = api.settings.clone();
        let (port, port_setting) = match self {
            Self::Api => (settings.port, "PORT"),
            Self::Metrics => {
                (settings.metrics_port.unwrap_or_default(), "ROUTEMASTER_METRICS_PORT")
            }
        };
        let site = match self {
            Self::Api => {
                let way: Arc<dyn ShortWay> = Arc::new(PublishWay(api.clone()));
                let in_flight = api.bodies.in_flight.clone();
                site(&settings, router(api), Some(way), in_flight)
            }
            Self::Metrics => site(&settings, metrics_router(api), None, Arc::default()),
        };
        let address = SocketAddr::new(settings.bind, port);
        let options = server_options(&settings, address, port_setting, max_connections)?;
        Server::bind(options, site, reload).await.map_err(|error| {
            match error.downcast::<UnusableCertificate>() {
                Ok(unusable) => {
                    let what = "ROUTEMASTER_TLS_CERT with ROUTEMASTER_TLS_KEY is not allowed";
                    SettingError::Conflict(format!("{what}: {unusable}")).into()
                }
                Err(error) => error,
            }
        })
    }
}

/// How the settings want a server at this address, which serves at most so many connections.
///
/// # Errors
/// If there is to be a development certificate, and none can be made.
pub fn server_options(
    settings: &Settings,
    address: SocketAddr,
    port_setting: &'static str,
    max_connections: usize,
) -> anyhow::Result<ServerOptions> {
    Ok(ServerOptions {
        address,
        port_setting,
        certificate: if settings.tls { Some(certificate_files(settings)?) } else { None },
        places: places(settings, max_connections),
        first_request_timeout: settings.first_request_timeout,
        idle_timeout: settings.idle_timeout,
        shutdown_timeout: settings.shutdown_timeout,
    })
}

/// How many connections are served, of at most so many.
fn places(settings: &Settings, at_most: usize) -> PlaceLimits {
    let total = settings.max_connections.min(at_most);
    // Behind a proxy all come from one address.
    let half = (!settings.trust_proxy).then_some(total.div_ceil(2));
    PlaceLimits {
        total,
        per_address: settings.max_connections_per_address.or(half),
        trusted: settings.trusted_networks.clone(),
    }
}

/// The certificate that is set, else the development certificate.
///
/// # Errors
/// If that cannot be made.
pub fn certificate_files(settings: &Settings) -> anyhow::Result<CertificateFiles> {
    if let Some(files) = settings.certificate_files() {
        return Ok(files);
    }
    let (certificate, key) = DevelopmentCa::open_or_create(&settings.data_dir)?.bus_identity();
    Ok(CertificateFiles { certificate, key })
}

fn site(
    settings: &Settings,
    router: Router,
    short_way: Option<Arc<dyn ShortWay>>,
    in_flight: Arc<BytesInFlight>,
) -> Site {
    let transport = TransportRules {
        trust_proxy: settings.trust_proxy,
        binds_browsers: !settings.uses_development_certificate(),
        is_answered_plain: is_health,
    };
    Site { router, short_way, transport, in_flight }
}

/// What the API works with.
///
/// # Errors
/// If its description cannot be written.
pub fn api(
    settings: &Arc<Settings>,
    store: &Arc<dyn Store>,
    full: &Arc<Notify>,
    tasks: &TaskTracker,
    exposition: Option<Exposition>,
) -> anyhow::Result<Arc<Api>> {
    let (root, clients) = (settings.root_key.clone(), settings.clients.clone());
    let authentication = Authentication {
        tokens: Tokens::new(root, clients, store.clone()),
        limits: Limits::new(settings.publish_rate, settings.publish_burst),
        trust_proxy: settings.trust_proxy,
    };
    Ok(Arc::new(Api {
        settings: settings.clone(),
        store: store.clone(),
        publishes: PublishGroups::start(store.clone(), full, tasks),
        authentication: Arc::new(authentication),
        bodies: BodyLimits {
            max: settings.max_body,
            timeout: settings.body_timeout,
            in_flight: Arc::default(),
        },
        egress_rules: settings.egress_rules(),
        clock: Clock::system(),
        exposition,
        openapi: openapi_document()?.into(),
    }))
}
