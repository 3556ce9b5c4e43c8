//! What an IP address may stand for: itself, and every IPv4 address that is written into it.
//!
//! Mapping, translation and tunnels each have a notation of their own for an IPv4 address inside
//! an IPv6 one. Whether a machine follows one is a matter of its network, which the bus does not
//! know, so a rule about an address has to hold for all of them.

use std::iter::once;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// The address itself first, then the IPv4 addresses in it.
///
/// An IPv4-mapped address (`::ffff:a.b.c.d`) is its IPv4 address and nothing else: a connection
/// to it goes out over IPv4 on every machine.
pub fn forms(address: IpAddr) -> Vec<IpAddr> {
    match address.to_canonical() {
        IpAddr::V4(_) => vec![address.to_canonical()],
        IpAddr::V6(v6) => {
            once(IpAddr::V6(v6)).chain(embedded(v6).into_iter().map(IpAddr::V4)).collect()
        }
    }
}

fn embedded(address: Ipv6Addr) -> Vec<Ipv4Addr> {
    const NAT64: u128 = 0x0064_ff9b_0000_0000_0000_0000;
    let bits = address.to_bits();
    let ipv4 = |bits: u128| Ipv4Addr::from_bits(bits as u32);
    let mut found = Vec::new();
    // IPv4-compatible (`::a.b.c.d`), of which `::` and `::1` are none; IPv4-translated
    // (`::ffff:0:a.b.c.d`, RFC 2765); NAT64 (`64:ff9b::a.b.c.d`, RFC 6052).
    if (bits >> 32 == 0 && bits > 1) || bits >> 32 == 0xffff_0000 || bits >> 32 == NAT64 {
        found.push(ipv4(bits));
    }
    // NAT64 on a network's own prefix.
    if bits >> 80 == 0x0064_ff9b_0001 {
        found.extend(local_nat64(bits));
    }
    // 6to4 (RFC 3056).
    if bits >> 112 == 0x2002 {
        found.push(ipv4(bits >> 80));
    }
    // Teredo (RFC 4380): a server, and a client whose bits are turned over.
    if bits >> 96 == 0x2001_0000 {
        found.extend([ipv4(bits >> 64), ipv4(!bits)]);
    }
    // ISATAP (RFC 5214), on any prefix; one bit says whether the IPv4 address is a public one.
    if (bits >> 32) as u32 & !0x0200_0000 == 0x0000_5efe {
        found.push(ipv4(bits));
    }
    found
}

/// RFC 8215 sets `64:ff9b:1::/48` aside and leaves the prefix's length to the network, so that the
/// IPv4 address may stand in each of the places that RFC 6052 has for lengths from 48 to 96. Of
/// most addresses only one reading makes sense; the others are zeros of the prefix or the suffix,
/// and `0.x.x.x` is no address that a translator would send to.
fn local_nat64(bits: u128) -> impl Iterator<Item = Ipv4Addr> {
    // Bits 64 to 71 are left out by all but the longest prefix.
    let readings = [
        (bits >> 48) as u32 & 0xffff_0000 | (bits >> 40) as u32 & 0xffff,
        (bits >> 40) as u32 & 0xff00_0000 | (bits >> 32) as u32 & 0x00ff_ffff,
        (bits >> 24) as u32,
        bits as u32,
    ];
    readings.into_iter().map(Ipv4Addr::from_bits).filter(|address| address.octets()[0] != 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn forms_of(address: &str) -> Vec<String> {
        forms(address.parse().unwrap()).iter().map(ToString::to_string).collect()
    }

    #[test]
    fn an_address_without_another_one_in_it_is_itself() {
        for address in ["10.1.2.3", "::", "::1", "fe80::1", "2001:db8::1", "fd00:ec2::254"] {
            assert_eq!(forms_of(address), [address]);
        }
    }

    #[test]
    fn a_mapped_address_is_its_ipv4_address() {
        assert_eq!(forms_of("::ffff:10.1.2.3"), ["10.1.2.3"]);
    }

    #[test]
    fn every_notation_of_an_ipv4_address_is_read() {
        for address in [
            "::10.1.2.3",
            "::ffff:0:10.1.2.3",
            "64:ff9b::10.1.2.3",
            "2002:0a01:0203::1",
            "2002:0a01:0203:ffff:ffff:ffff:ffff:ffff",
            "fe80::5efe:10.1.2.3",
            "2001:db8::200:5efe:10.1.2.3",
            // Prefixes of 48, 56, 64 and 96 bits.
            "64:ff9b:1:0a01:2:300::",
            "64:ff9b:1:aa0a:1:203::",
            "64:ff9b:1:aa:a:102:300:0",
            "64:ff9b:1::10.1.2.3",
            "64:ff9b:1:aa::10.1.2.3",
        ] {
            let forms = forms_of(address);
            assert!(forms[1..].contains(&"10.1.2.3".to_owned()), "{address}: {forms:?}");
        }
    }

    #[test]
    fn of_teredo_the_server_and_the_client_count() {
        // The example of RFC 4380, section 4.
        let forms = forms_of("2001:0:4136:e378:8000:63bf:3fff:fdd2");
        assert_eq!(forms[1..], ["65.54.227.120", "192.0.2.45"]);
    }

    #[test]
    fn zeros_around_a_local_nat64_address_are_no_address() {
        assert_eq!(forms_of("64:ff9b:1::10.1.2.3")[1..], ["10.1.2.3"]);
        assert_eq!(forms_of("64:ff9b:1::8.0.0.8")[1..], ["8.0.0.8"]);
    }
}
