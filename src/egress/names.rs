//! How a connection finds its host.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::task::{Context, Poll};

use futures_util::future::BoxFuture;
use hyper_util::client::legacy::connect::dns::Name;
use tower::Service;

use super::resolver::CheckedResolver;

pub type ConnectError = Box<dyn std::error::Error + Send + Sync>;

/// The names of hosts.
#[derive(Clone)]
pub struct Names {
    pub resolver: Arc<CheckedResolver>,
    /// Whether they are behind the rules for addresses, as all are but that of a proxy.
    pub is_checked: bool,
}

impl Service<Name> for Names {
    type Response = std::vec::IntoIter<SocketAddr>;
    type Error = io::Error;
    type Future = BoxFuture<'static, io::Result<Self::Response>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, name: Name) -> Self::Future {
        let Self { resolver, is_checked } = self.clone();
        Box::pin(async move {
            let found = match is_checked {
                true => resolver.allowed(name.as_str()).await,
                false => {
                    let all = resolver.addresses(name.as_str()).await;
                    all.map(|all| all.into_iter().map(|ip| SocketAddr::new(ip, 0)).collect())
                }
            };
            found.map(Vec::into_iter).map_err(io::Error::other)
        })
    }
}
