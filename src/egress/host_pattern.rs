//! One entry of a list of hosts: a network, an address, a name, or all names below one.

use std::fmt;
use std::net::IpAddr;

use ipnet::IpNet;
use url::Host;

/// Which hosts are meant. Networks are about addresses only, the others about names only.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HostPattern {
    /// `10.0.0.0/8`, or one address.
    Network(IpNet),
    /// `events.example.com`.
    Name(String),
    /// `*.example.com`: names below it at any depth, not itself.
    Below(String),
    /// `*`.
    AnyName,
}

impl HostPattern {
    /// Parses one entry. A name is brought into the form that the host of a URL has.
    pub fn parse(text: &str) -> Option<Self> {
        if text == "*" {
            return Some(Self::AnyName);
        }
        if let Some(network) = network(text) {
            // Mapped addresses are looked at as IPv4 (`address_forms`): this would match nothing.
            let mapped = matches!(network, IpNet::V6(v6) if v6.addr().to_ipv4_mapped().is_some());
            return (network == network.trunc() && !mapped).then_some(Self::Network(network));
        }
        match text.strip_prefix("*.") {
            Some(name) => domain(name).map(Self::Below),
            None => domain(text).map(Self::Name),
        }
    }

    /// Whether an address is meant. Of one family only: no network of IPv6 has IPv4 addresses.
    pub fn matches_address(&self, address: IpAddr) -> bool {
        matches!(self, Self::Network(network) if network.contains(&address))
    }

    /// Whether a name is meant, given as the host of a URL.
    pub fn matches_name(&self, name: &str) -> bool {
        let name = without_root(name);
        match self {
            Self::Network(_) => false,
            Self::Name(meant) => name == meant,
            Self::Below(parent) => {
                let rest = name.strip_suffix(parent.as_str());
                rest.is_some_and(|rest| rest.len() > 1 && rest.ends_with('.'))
            }
            Self::AnyName => true,
        }
    }
}

/// A network or an address in its common notation; none of the shorthands and bases that URLs
/// have for IPv4, of which one cannot tell what was meant.
pub fn network(text: &str) -> Option<IpNet> {
    match text.split_once('/') {
        Some((address, prefix)) => IpNet::new(address.parse().ok()?, prefix.parse().ok()?).ok(),
        None => text.parse::<IpAddr>().ok().map(IpNet::from),
    }
}

/// A name as the host of a URL has it: in lower case, international ones in ASCII.
fn domain(text: &str) -> Option<String> {
    let Ok(Host::Domain(name)) = Host::parse(without_root(text)) else { return None };
    let complete = name.split('.').all(|label| !label.is_empty() && !label.contains('*'));
    complete.then_some(name)
}

/// `a.example.` and `a.example` are one host.
fn without_root(name: &str) -> &str {
    name.strip_suffix('.').unwrap_or(name)
}

impl fmt::Display for HostPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Network(network) if network.prefix_len() == network.max_prefix_len() => {
                write!(f, "{}", network.addr())
            }
            Self::Network(network) => write!(f, "{network}"),
            Self::Name(name) => f.write_str(name),
            Self::Below(parent) => write!(f, "*.{parent}"),
            Self::AnyName => f.write_str("*"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pattern(text: &str) -> HostPattern {
        HostPattern::parse(text).unwrap_or_else(|| panic!("`{text}` was refused"))
    }

    #[test]
    fn an_entry_is_shown_as_it_is_understood() {
        for (text, shown) in [
            ("10.0.0.0/8", "10.0.0.0/8"),
            ("10.1.2.3", "10.1.2.3"),
            ("10.1.2.3/32", "10.1.2.3"),
            ("0.0.0.0/0", "0.0.0.0/0"),
            ("FD00:0::/8", "fd00::/8"),
            ("::1", "::1"),
            ("Events.Example.COM.", "events.example.com"),
            ("*.Example.com", "*.example.com"),
            ("bücher.example", "xn--bcher-kva.example"),
            ("my_service", "my_service"),
            ("*", "*"),
        ] {
            assert_eq!(pattern(text).to_string(), shown, "{text}");
        }
    }

    #[test]
    fn what_could_mean_two_things_or_none_is_refused() {
        for bad in [
            "",
            "10.0.0.0/33",
            "10.0.0.0/8/8",
            "10.0.0.0/255.0.0.0",
            "10.0.0.0/",
            "10.1.2.3/8",
            "010.0.0.0/8",
            "10.1",
            "10.1.2.256",
            "0x7f000001",
            "2130706433",
            "fe80::1%eth0",
            "[::1]",
            "::ffff:10.1.2.3",
            "::ffff:10.0.0.0/104",
            "https://a.example",
            "a.example:443",
            "a.example/x",
            "a b.example",
            "a..example",
            ".example",
            "*.",
            "**.example",
            "a.*.example",
            "*example",
            "a\u{fffd}.example",
        ] {
            assert_eq!(HostPattern::parse(bad), None, "{bad}");
        }
    }

    #[test]
    fn a_network_has_addresses_of_its_family_only() {
        let matches =
            |text: &str, address: &str| pattern(text).matches_address(address.parse().unwrap());
        assert!(matches("10.0.0.0/8", "10.255.255.255"));
        assert!(!matches("10.0.0.0/8", "11.0.0.0"));
        assert!(matches("0.0.0.0/0", "255.255.255.255"));
        assert!(!matches("0.0.0.0/0", "::"));
        assert!(matches("::/0", "::1"));
        assert!(!matches("::/0", "10.0.0.1"));
        assert!(!matches("*", "10.0.0.1"));
    }

    #[test]
    fn a_name_is_matched_whole_and_a_parent_below_itself() {
        let matches = |text: &str, name: &str| pattern(text).matches_name(name);
        assert!(matches("a.example", "a.example"));
        assert!(matches("a.example", "a.example."));
        assert!(!matches("a.example", "b.a.example"));
        assert!(!matches("a.example", "aa.example"));
        for below in ["a.example", "b.a.example", "a.example."] {
            assert!(matches("*.example", below), "{below}");
        }
        for other in ["example", "example.", ".example", "anexample", "a.example.org"] {
            assert!(!matches("*.example", other), "{other}");
        }
        assert!(matches("*", "a.example"));
        assert!(!matches("10.0.0.0/8", "a.example"));
    }
}
