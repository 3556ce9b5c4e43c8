//! What a process serves over HTTPS, and where: put together from the settings.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use axum::Router;
use tokio::runtime::Handle;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::Records;
use crate::api::bus::{PublishWay, is_health};
use crate::api::{self, Api, SignInLinks, openapi_document};
use crate::bus::clock::Clock;
use crate::commit::{AcceptGroups, MessageGroups, PublishGroups};
use crate::config::{MetricService, Role, SettingError, Settings};
use crate::http::authentication::{Authentication, Tokens};
use crate::http::body::BodyLimits;
use crate::http::in_flight::BytesInFlight;
use crate::http::limits::Limits;
use crate::http::places::{PlaceLimits, Places};
use crate::http::{
    Fronts, Server, ServerOptions, ShortWay, Site, TransportRules, UnusableCertificate,
};
use crate::store::Store;
use crate::telemetry::metrics::Exposition;
use crate::tls::CertificateFiles;
use crate::tls::development::DevelopmentCa;
use crate::worker::Attempts;

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

    /// What serves it, bound to its addresses; the first one on the port.
    ///
    /// # Errors
    /// If one cannot be had; the error says what to change.
    pub async fn bind(
        self,
        api: Arc<Api>,
        links: &Arc<SignInLinks>,
        max_connections: usize,
        reload: Arc<Notify>,
        fronts: &Arc<Fronts>,
        short_ways: Vec<Arc<dyn ShortWay>>,
    ) -> anyhow::Result<Vec<Server>> {
        let settings = api.settings.clone();
        let places = places(&settings, max_connections);
        let (port, advice, site) = match self {
            Self::Api => (
                settings.port,
                "choose another PORT or ROUTEMASTER_BIND",
                Site { short_ways, ..api_site(&api, links) },
            ),
            Self::Metrics => (
                settings.metrics_port.unwrap_or_default(),
                "choose another ROUTEMASTER_METRICS_PORT or ROUTEMASTER_BIND",
                site(&settings, api::metrics_router(api.clone()), Arc::default()),
            ),
        };
        let address = SocketAddr::new(settings.bind, port);
        let options = server_options(&settings, address, advice, &places, fronts)?;
        let first = Server::bind(options, site, reload.clone()).await.map_err(|error| {
            match error.downcast::<UnusableCertificate>() {
                Ok(unusable) => {
                    let what = "ROUTEMASTER_TLS_CERT with ROUTEMASTER_TLS_KEY is not allowed";
                    SettingError::Conflict(format!("{what}: {unusable}")).into()
                }
                Err(error) => error,
            }
        })?;
        let tls_port = first.local_address()?.port();
        let mut servers = vec![first];
        if self == Self::Api {
            for plain in plain_sites(&api, tls_port) {
                let (address, advice) = (plain.address, plain.advice);
                let mut options = server_options(&settings, address, advice, &places, fronts)?;
                options.certificate = None;
                servers.push(Server::bind(options, plain.site, reload.clone()).await?);
            }
        }
        Ok(servers)
    }
}

/// What is served without TLS at an address.
struct PlainSite {
    address: SocketAddr,
    advice: &'static str,
    site: Site,
}

fn api_site(api: &Arc<Api>, links: &Arc<SignInLinks>) -> Site {
    let links = api.settings.console.then(|| links.clone());
    let router = api::router(api.clone(), links);
    site(&api.settings, router, api.bodies.in_flight.clone())
}

/// The short way of publishes on each front, where they are committed in groups of their own.
///
/// # Errors
/// If the store cannot be used from there.
pub fn publish_ways(
    fronts: &Fronts,
    api: &Arc<Api>,
    full: &Arc<Notify>,
    tasks: &TaskTracker,
) -> anyhow::Result<Vec<Arc<dyn ShortWay>>> {
    fronts.each(|| {
        let publisher = api.store.clone().publisher()?;
        let publishes = PublishGroups::start(publisher, full, tasks);
        Ok(Arc::new(PublishWay { api: api.clone(), publishes }) as Arc<dyn ShortWay>)
    })
}

/// What the originals' clients find where they spoke plain HTTP, and the way from there to HTTPS.
fn plain_sites(api: &Arc<Api>, tls_port: u16) -> Vec<PlainSite> {
    let in_flight = &api.bodies.in_flight;
    let plain = |address: &SocketAddr, advice, router| {
        let mut site = site(&api.settings, router, in_flight.clone());
        site.transport.is_answered_plain = |_| true;
        // It takes what it is sent, and shows nothing.
        site.is_quick = true;
        PlainSite { address: *address, advice, site }
    };
    let taking = api.settings.plain_bind.iter().map(|address| {
        plain(address, "choose another ROUTEMASTER_PLAIN_BIND", api::plain_router(api.clone()))
    });
    let redirecting = api.settings.redirect_bind.iter().map(|address| {
        let router = api::redirecting_router(api.clone(), tls_port);
        plain(address, "choose another ROUTEMASTER_REDIRECT_BIND", router)
    });
    taking.chain(redirecting).collect()
}

/// How the settings want a server at this address.
///
/// # Errors
/// If there is to be a development certificate, and none can be made.
fn server_options(
    settings: &Settings,
    address: SocketAddr,
    advice: &'static str,
    places: &Arc<Places>,
    fronts: &Arc<Fronts>,
) -> anyhow::Result<ServerOptions> {
    Ok(ServerOptions {
        address,
        advice,
        certificate: if settings.tls { Some(certificate_files(settings)?) } else { None },
        places: places.clone(),
        fronts: fronts.clone(),
        first_request_timeout: settings.first_request_timeout,
        idle_timeout: settings.idle_timeout,
        shutdown_timeout: settings.shutdown_timeout,
    })
}

/// How many connections are served, of at most so many.
fn places(settings: &Settings, at_most: usize) -> Arc<Places> {
    let total = settings.max_connections.min(at_most);
    // Behind a proxy all come from one address.
    let half = (!settings.trust_proxy).then_some(total.div_ceil(2));
    Places::new(PlaceLimits {
        total,
        per_address: settings.max_connections_per_address.or(half),
        trusted: settings.trusted_networks.clone(),
    })
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

fn site(settings: &Settings, router: Router, in_flight: Arc<BytesInFlight>) -> Site {
    let transport = TransportRules {
        trust_proxy: settings.trust_proxy,
        binds_browsers: !settings.uses_development_certificate(),
        is_answered_plain: is_health,
        ignores_slash: api::ignores_slash,
    };
    Site {
        router,
        runtime: Handle::current(),
        is_quick: false,
        short_ways: vec![],
        transport,
        in_flight,
    }
}

/// What the API works with.
///
/// # Errors
/// If its description cannot be written.
pub fn api(
    settings: &Arc<Settings>,
    store: &Arc<dyn Store>,
    records: &Records,
    attempts: &Attempts,
    full: &Arc<Notify>,
    exposition: Option<Exposition>,
    (tasks, stop): (&TaskTracker, &CancellationToken),
) -> anyhow::Result<Arc<Api>> {
    let (root, clients) = (settings.root_key.clone(), settings.clients.clone());
    let authentication = Authentication {
        tokens: Tokens::new(root, clients, store.clone())
            .with_monitor(settings.monitor_key.clone()),
        limits: Limits::new(settings.publish_rate, settings.publish_burst),
        trust_proxy: settings.trust_proxy,
    };
    Ok(Arc::new(Api {
        settings: settings.clone(),
        store: store.clone(),
        journal: records.journal.clone(),
        history: records.history.clone(),
        publishes: PublishGroups::start(store.clone(), full, tasks),
        calls: AcceptGroups::start(store.clone(), settings.calls_room(), tasks),
        messages: MessageGroups::start(store.clone(), settings.messages_room(), tasks),
        postbacks_coming: AtomicU64::new(0),
        authentication: Arc::new(authentication),
        bodies: BodyLimits {
            max: settings.max_body,
            timeout: settings.body_timeout,
            in_flight: Arc::default(),
        },
        egress_rules: settings.egress_rules(),
        clock: Clock::system(),
        attempts: attempts.clone(),
        stop: stop.clone(),
        exposition,
        openapi: openapi_document()?.into(),
    }))
}
