//! Which hosts the bus may deliver to, so that a subscriber cannot use it to reach what only the
//! bus can reach. `docs/callback-safety.md` says what operators need to know of it.
//!
//! A callback's host is checked twice: as its URL says it, when somebody subscribes and before
//! each delivery; and as each address that its name has, whenever a connection is made.

use std::fmt;
use std::net::IpAddr;

use url::{Host, Url};

use super::address_forms::forms;
use super::host_pattern::HostPattern;

/// What is denied unless it is allowed. Private networks and loopback are not: subscribers live
/// there.
const BUILT_IN: &[(&str, &str)] = &[
    ("169.254.0.0/16", LINK_LOCAL),
    ("fe80::/10", LINK_LOCAL),
    // Where clouds hand out credentials, beside the link-local 169.254.169.254.
    ("fd00:ec2::254", METADATA),      // Amazon
    ("fd00:ec2::23", METADATA),       // Amazon, for pods
    ("fd20:ce::254", METADATA),       // Google
    ("168.63.129.16", METADATA),      // Azure
    ("fd00:c1::a9fe:a9fe", METADATA), // Oracle
    ("192.0.0.192", METADATA),        // Oracle, before
    ("100.100.100.200", METADATA),    // Alibaba
    ("fd00:100::100:200", METADATA),  // Alibaba
    ("fd00:42::42", METADATA),        // Scaleway
    ("fd00:a9fe:a9fe::1", METADATA),  // Akamai
    ("metadata.google.internal", METADATA),
    ("metadata.goog", METADATA),
    // Linux takes 0.0.0.0 and :: for loopback, past a rule that denies 127.0.0.0/8.
    ("0.0.0.0/8", NO_HOST),
    ("::", NO_HOST),
    ("224.0.0.0/4", NO_HOST),
    ("ff00::/8", NO_HOST),
    ("255.255.255.255", NO_HOST),
];

const LINK_LOCAL: &str = "link-local";
const METADATA: &str = "cloud metadata";
const NO_HOST: &str = "the address of no host";

/// What the settings `ROUTEMASTER_CALLBACK_DENY` and `ROUTEMASTER_CALLBACK_ALLOW` come to.
pub struct EgressRules {
    denials: Vec<Denial>,
    allowances: Vec<HostPattern>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Denial {
    pattern: HostPattern,
    /// What it is about; nothing for a rule of the operator's.
    built_in: Option<&'static str>,
}

impl EgressRules {
    /// `deny` comes on top of what is built in; `allow` wins over both.
    pub fn new(deny: &[HostPattern], allow: &[HostPattern]) -> Self {
        let built_in = BUILT_IN.iter().filter_map(|(pattern, what)| {
            Some(Denial { pattern: HostPattern::parse(pattern)?, built_in: Some(*what) })
        });
        let set = deny.iter().map(|pattern| Denial { pattern: pattern.clone(), built_in: None });
        Self { denials: built_in.chain(set).collect(), allowances: allow.to_vec() }
    }

    /// Checks what a URL says of its host: a name, or an address.
    pub fn check(&self, url: &Url) -> Result<(), Denied> {
        match url.host() {
            Some(Host::Domain(name)) => self.check_name(name),
            Some(Host::Ipv4(address)) => self.check_address(address.into()),
            Some(Host::Ipv6(address)) => self.check_address(address.into()),
            // Nothing can be sent there.
            None => Ok(()),
        }
    }

    fn check_name(&self, name: &str) -> Result<(), Denied> {
        match self.denial(|pattern| pattern.matches_name(name)) {
            Some(denial) => Err(Denied { host: name.to_owned(), within: None, denial }),
            None => Ok(()),
        }
    }

    /// Checks an address in all its forms: each must be allowed, or not be denied.
    pub fn check_address(&self, address: IpAddr) -> Result<(), Denied> {
        for form in forms(address) {
            if let Some(denial) = self.denial(|pattern| pattern.matches_address(form)) {
                let within = (form != address).then_some(address);
                return Err(Denied { host: form.to_string(), within, denial });
            }
        }
        Ok(())
    }

    /// The first denial that matches, unless an allowance does.
    fn denial(&self, matches: impl Fn(&HostPattern) -> bool) -> Option<Denial> {
        let denial = self.denials.iter().find(|denial| matches(&denial.pattern))?;
        (!self.allowances.iter().any(matches)).then(|| denial.clone())
    }
}

/// Where the bus may not deliver to, and which rule says so.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub struct Denied {
    host: String,
    /// The address that the denied one is written into.
    within: Option<IpAddr>,
    denial: Denial,
}

impl fmt::Display for Denied {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { host, within, denial: Denial { pattern, built_in } } = self;
        write!(f, "{host}")?;
        if let Some(within) = within {
            write!(f, ", written as {within},")?;
        }
        match built_in {
            Some(what) => write!(
                f,
                " is denied by the rule {pattern} ({what}) unless ROUTEMASTER_CALLBACK_ALLOW \
                 allows it"
            ),
            None => write!(f, " is denied by {pattern} in ROUTEMASTER_CALLBACK_DENY"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn patterns(texts: &[&str]) -> Vec<HostPattern> {
        texts.iter().map(|text| HostPattern::parse(text).unwrap()).collect()
    }

    fn rules(deny: &[&str], allow: &[&str]) -> EgressRules {
        EgressRules::new(&patterns(deny), &patterns(allow))
    }

    /// What the rules say of `https://<host>/`.
    fn check(rules: &EgressRules, host: &str) -> Result<(), String> {
        let url = Url::parse(&format!("https://{host}/")).expect(host);
        rules.check(&url).map_err(|denied| denied.to_string())
    }

    #[test]
    fn every_built_in_rule_is_understood() {
        assert_eq!(rules(&[], &[]).denials.len(), BUILT_IN.len());
    }

    #[test]
    fn metadata_and_link_local_are_denied_in_every_spelling() {
        let rules = rules(&[], &[]);
        for host in [
            "169.254.169.254",
            "169.254.169.254.",
            "169.254.0.1",
            "2852039166",
            "0xa9fea9fe",
            "0XA9.0376.0xa9.254",
            "025177524776",
            "0251.0376.0251.0376",
            "169.254.43518",
            "169.16689662",
            "%31%36%39.254.169.254",
            "①⑥⑨.254.169.254",
            "169。254。169。254",
            "[::ffff:169.254.169.254]",
            "[::ffff:a9fe:a9fe]",
            "[0:0:0:0:0:ffff:a9fe:a9fe]",
            "[::169.254.169.254]",
            "[::ffff:0:169.254.169.254]",
            "[64:ff9b::169.254.169.254]",
            "[64:ff9b:1::169.254.169.254]",
            "[64:ff9b:1:a9fe:a9:fe00::]",
            "[64:ff9b:1:a9:fe:a9fe::]",
            "[64:ff9b:1:77:a9:fea9:fe00:0]",
            "[2002:a9fe:a9fe::1]",
            "[2001:0:808:808:0:0:5601:5601]",
            "[2001:0:a9fe:a9fe::]",
            "[2001:db8::5efe:169.254.169.254]",
            "[2001:db8::200:5efe:a9fe:a9fe]",
            "[fe80::1]",
            "[febf::1]",
            "[fd00:ec2::254]",
            "[fd00:0ec2:0:0::254]",
            "[fd20:ce::254]",
            "100.100.100.200",
            "[::ffff:100.100.100.200]",
            "192.0.0.192",
            "168.63.129.16",
            "metadata.google.internal",
            "metadata.google.internal.",
            "METADATA.google.Internal",
            "metadata.goog",
        ] {
            let reason = check(&rules, host).expect_err(host);
            assert!(reason.contains("ROUTEMASTER_CALLBACK_ALLOW"), "{reason}");
        }
    }

    #[test]
    fn addresses_of_no_host_are_denied() {
        let rules = rules(&[], &[]);
        for host in [
            "0.0.0.0",
            "0",
            "0.1.2.3",
            "[::]",
            "[::ffff:0.0.0.0]",
            "[64:ff9b::]",
            "224.0.0.1",
            "[ff02::1]",
            "255.255.255.255",
        ] {
            assert!(check(&rules, host).is_err(), "{host}");
        }
    }

    #[test]
    fn where_subscribers_live_is_allowed() {
        let rules = rules(&[], &[]);
        for host in [
            "localhost",
            "127.0.0.1",
            "[::1]",
            "10.1.2.3",
            "172.16.0.1",
            "192.168.1.1",
            "100.64.0.1",
            "8.8.8.8",
            "[fd12:3456::1]",
            "[2001:db8::1]",
            "[64:ff9b::8.8.8.8]",
            "[64:ff9b:1::8.8.8.8]",
            "[2002:808:808::1]",
            "[::ffff:10.1.2.3]",
            "events.example.com",
            "google.internal",
            "a.metadata.google.internal",
        ] {
            assert_eq!(check(&rules, host), Ok(()), "{host}");
        }
    }

    #[test]
    fn a_denial_of_the_operators_holds_in_every_spelling_and_is_named() {
        let rules = rules(&["127.0.0.0/8", "::1", "10.1.2.3", "*.internal"], &[]);
        for (host, rule) in [
            ("127.0.0.1", "127.0.0.0/8"),
            ("127.1", "127.0.0.0/8"),
            ("2130706433", "127.0.0.0/8"),
            ("[::ffff:7f00:1]", "127.0.0.0/8"),
            ("[::127.0.0.1]", "127.0.0.0/8"),
            ("[64:ff9b::127.0.0.1]", "127.0.0.0/8"),
            ("[::1]", "::1"),
            ("[0::0:1]", "::1"),
            ("10.1.2.3", "10.1.2.3"),
            ("a.b.internal.", "*.internal"),
        ] {
            let reason = check(&rules, host).expect_err(host);
            let named = format!("denied by {rule} in ROUTEMASTER_CALLBACK_DENY");
            assert!(reason.contains(&named), "{host}: {reason}");
        }
        assert_eq!(check(&rules, "10.1.2.4"), Ok(()));
        assert_eq!(check(&rules, "internal"), Ok(()));
        // Its addresses are another matter, for when they are known.
        assert_eq!(check(&rules, "localhost"), Ok(()));
    }

    #[test]
    fn one_network_alone_can_be_allowed() {
        let rules = rules(&["0.0.0.0/0", "::/0"], &["10.1.0.0/16"]);
        for allowed in ["10.1.0.0", "10.1.255.255", "[::ffff:10.1.2.3]", "a.example"] {
            assert_eq!(check(&rules, allowed), Ok(()), "{allowed}");
        }
        // An address that holds an allowed one is itself not in that network.
        for denied in ["10.2.0.0", "8.8.8.8", "127.0.0.1", "[::1]", "[64:ff9b::10.1.2.3]"] {
            assert!(check(&rules, denied).is_err(), "{denied}");
        }
    }

    #[test]
    fn an_allowance_excuses_what_it_names_and_nothing_within_it() {
        let rules = rules(&["10.0.0.0/8"], &["64:ff9b::/96", "169.254.7.0/24", "::/0"]);
        assert_eq!(check(&rules, "169.254.7.8"), Ok(()));
        assert_eq!(check(&rules, "[64:ff9b::169.254.7.8]"), Ok(()));
        assert_eq!(check(&rules, "[fe80::1]"), Ok(()));
        assert!(check(&rules, "169.254.8.8").is_err());
        assert!(check(&rules, "[64:ff9b::169.254.169.254]").is_err());
        assert!(check(&rules, "[64:ff9b::10.1.2.3]").is_err());
    }

    #[test]
    fn names_are_held_against_names_and_addresses_against_addresses() {
        let rules = rules(&["*", "10.0.0.0/8"], &["*.example.com"]);
        assert_eq!(check(&rules, "a.example.com"), Ok(()));
        assert!(check(&rules, "example.com").is_err());
        assert!(check(&rules, "example.org").is_err());
        assert_eq!(check(&rules, "8.8.8.8"), Ok(()));
        assert!(rules.check_address([10, 0, 0, 1].into()).is_err());
    }

    #[test]
    fn a_denial_says_which_address_was_meant() {
        let rules = rules(&[], &[]);
        let reason = check(&rules, "[64:ff9b::a9fe:a9fe]").unwrap_err();
        let expected = "169.254.169.254, written as 64:ff9b::a9fe:a9fe, is denied by the rule \
                        169.254.0.0/16 (link-local) unless ROUTEMASTER_CALLBACK_ALLOW allows it";
        assert_eq!(reason, expected);
    }
}
