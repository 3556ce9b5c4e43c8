//! Looks up the hosts of callbacks, and gives away only the addresses that deliveries may go to.
//!
//! The connection is made to one of the addresses that were checked here: a name that answers
//! differently the next time it is looked up is checked anew.

use std::sync::Arc;

use reqwest::dns::{Addrs, Name, Resolve, Resolving};

use crate::bus::callback_rules::CallbackRules;

/// The system's resolver behind the rules for callbacks. The time to connect bounds a look-up.
pub struct CallbackResolver {
    pub rules: Arc<CallbackRules>,
}

impl Resolve for CallbackResolver {
    fn resolve(&self, name: Name) -> Resolving {
        let rules = self.rules.clone();
        Box::pin(async move {
            let name = name.as_str();
            let (mut allowed, mut denied) = (Vec::new(), None);
            // The port comes from the URL.
            for address in tokio::net::lookup_host((name, 0)).await? {
                match rules.check_address(address.ip()) {
                    Ok(()) => allowed.push(address),
                    Err(reason) => denied = denied.or(Some(reason)),
                }
            }
            match denied {
                // One of possibly many: it names the rule.
                Some(denied) if allowed.is_empty() => {
                    Err(format!("no address of {name} is allowed: {denied}").into())
                }
                _ => Ok(Box::new(allowed.into_iter()) as Addrs),
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bus::host_pattern::HostPattern;

    async fn resolve(deny: &[&str]) -> Result<Vec<String>, String> {
        let deny: Vec<_> = deny.iter().filter_map(|text| HostPattern::parse(text)).collect();
        let rules = Arc::new(CallbackRules::new(&deny, &[]));
        let found = CallbackResolver { rules }.resolve("localhost".parse().unwrap()).await;
        let found = found.map_err(|error| error.to_string())?;
        Ok(found.map(|address| address.ip().to_string()).collect())
    }

    #[tokio::test]
    async fn only_allowed_addresses_are_given_away() {
        let all = resolve(&[]).await.unwrap();
        assert!(all.contains(&"127.0.0.1".to_owned()), "{all:?}");
        let without: Vec<_> = all.iter().filter(|address| *address != "127.0.0.1").collect();
        match resolve(&["127.0.0.1"]).await {
            Ok(left) => assert_eq!(left.iter().collect::<Vec<_>>(), without),
            // A machine without IPv6.
            Err(_) => assert!(without.is_empty(), "{without:?}"),
        }
    }

    #[tokio::test]
    async fn a_name_without_an_allowed_address_is_an_error_that_names_the_rule() {
        let error = resolve(&["127.0.0.0/8", "::/0"]).await.unwrap_err();
        let setting = "in ROUTEMASTER_CALLBACK_DENY";
        assert!(error.starts_with("no address of localhost is allowed: "), "{error}");
        assert!(error.ends_with(setting), "{error}");
    }
}
