//! Which addresses are public. What is not is refused unless the policy grants its network.
//!
//! Sources: the IANA IPv4 and IPv6 special-purpose address registries (RFC 6890 and updates), and
//! what cloud providers document as the addresses of their metadata services.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use pinfold_policy::Network;

/// Whether a connection to `address` is permitted: it is public, or in one of `granted`, and it is
/// an address of one host at all.
pub(crate) fn is_permitted(address: IpAddr, granted: &[Network]) -> bool {
    // `::ffff:10.0.0.1` reaches 10.0.0.1: it is judged, and granted, as that.
    let address = address.to_canonical();
    is_one_host(address)
        && (is_public(address) || granted.iter().any(|network| network.contains(address)))
}

/// Neither unspecified (which reaches this very host) nor multicast nor broadcast: never granted.
fn is_one_host(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => {
            let [first, ..] = v4.octets();
            first != 0 && !v4.is_multicast() && !v4.is_broadcast()
        }
        IpAddr::V6(v6) => !v6.is_unspecified() && !v6.is_multicast(),
    }
}

fn is_public(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => is_public_v4(v4),
        IpAddr::V6(v6) => is_public_v6(v6),
    }
}

fn is_public_v4(address: Ipv4Addr) -> bool {
    /// Azure's platform service, which hands out credentials from a public range.
    const AZURE: Ipv4Addr = Ipv4Addr::new(168, 63, 129, 16);
    let special = match address.octets() {
        // This network, private, shared by carriers, loopback, link-local (metadata), private.
        [0 | 10 | 127, ..] | [100, 64..=127, ..] | [169, 254, ..] | [172, 16..=31, ..] => true,
        // Protocol assignments, documentation, relays of 6to4, private.
        [192, 0, 0 | 2, _] | [192, 88, 99, _] | [192, 168, ..] => true,
        // Benchmarking, documentation.
        [198, 18 | 19, ..] | [198, 51, 100, _] | [203, 0, 113, _] => true,
        // Multicast, reserved, broadcast.
        [224..=255, ..] => true,
        _ => false,
    };
    !special && address != AZURE
}

fn is_public_v6(address: Ipv6Addr) -> bool {
    let [a, b, c, d, e, f, g, h] = address.segments();
    let embedded = |high: u16, low: u16| {
        is_public_v4(Ipv4Addr::from_bits(u32::from(high) << 16 | u32::from(low)))
    };
    match [a, b, c, d, e, f] {
        // NAT64 (RFC 6052) and 6to4 (RFC 3056) reach the IPv4 address that they hold.
        [0x64, 0xff9b, 0, 0, 0, 0] => embedded(g, h),
        [0x2002, high, low, ..] => embedded(high, low),
        // Protocol assignments, Teredo and benchmarking among them; documentation.
        [0x2001, 0..=0x1ff, ..] | [0x2001, 0xdb8, ..] | [0x3fff, 0..=0xfff, ..] => false,
        // The only block that addresses of hosts in the Internet are given out from. Outside lie
        // loopback, IPv4-compatible, NAT64 of a network's own, private, link-local, site-local.
        [0x2000..=0x3fff, ..] => true,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn permitted(address: &str, granted: &[&str]) -> bool {
        let granted: Vec<Network> = granted.iter().map(|text| text.parse().unwrap()).collect();
        is_permitted(address.parse().unwrap(), &granted)
    }

    #[test]
    fn only_public_addresses_are_reached_without_a_grant() {
        for address in [
            "1.1.1.1",
            "8.8.8.8",
            "100.63.255.255",
            "100.128.0.0",
            "172.15.0.1",
            "172.32.0.1",
            "169.253.0.1",
            "192.0.1.1",
            "198.17.0.1",
            "198.20.0.1",
            "223.255.255.255",
            "2606:4700::1111",
            "2a00:1450::1",
            "::ffff:1.1.1.1",
            "64:ff9b::808:808",
            "2002:808:808::1",
            "2001:200::1",
        ] {
            assert!(permitted(address, &[]), "{address}");
        }
        for address in [
            "0.0.0.0",
            "0.1.2.3",
            "10.0.0.1",
            "10.255.255.255",
            "100.64.0.1",
            "100.100.100.200",
            "100.127.255.255",
            "127.0.0.1",
            "127.255.255.254",
            "169.254.0.1",
            "169.254.169.254",
            "172.16.0.1",
            "172.31.255.255",
            "192.0.0.192",
            "192.0.2.1",
            "192.88.99.1",
            "192.168.0.1",
            "198.18.0.1",
            "198.19.255.255",
            "198.51.100.1",
            "203.0.113.1",
            "224.0.0.1",
            "239.255.255.255",
            "240.0.0.1",
            "255.255.255.255",
            "168.63.129.16",
            "::",
            "::1",
            "::127.0.0.1",
            "::1.1.1.1",
            "::ffff:127.0.0.1",
            "::ffff:10.0.0.1",
            "::ffff:0.0.0.0",
            "::ffff:169.254.169.254",
            "64:ff9b::7f00:1",
            "64:ff9b::a00:1",
            "64:ff9b:1::1",
            "100::1",
            "2001::1",
            "2001:2::1",
            "2001:10::1",
            "2001:db8::1",
            "2002:7f00:1::",
            "2002:a00:1::1",
            "2002:a9fe:a9fe::",
            "3fff::1",
            "5f00::1",
            "fc00::1",
            "fd00:ec2::254",
            "fe80::1",
            "febf::1",
            "fec0::1",
            "ff02::1",
            "ffff::1",
        ] {
            assert!(!permitted(address, &[]), "{address}");
        }
    }

    #[test]
    fn a_granted_network_is_reached_and_no_other() {
        assert!(permitted("10.1.2.3", &["10.0.0.0/8"]));
        assert!(permitted("::ffff:10.1.2.3", &["10.0.0.0/8"]));
        assert!(!permitted("10.1.2.3", &["127.0.0.0/8", "10.2.0.0/16"]));
        assert!(permitted("127.0.0.1", &["127.0.0.1"]));
        assert!(!permitted("127.0.0.2", &["127.0.0.1"]));
        assert!(permitted("::1", &["::1"]));
        // A form that holds a private address is not its network.
        assert!(!permitted("64:ff9b::a00:1", &["10.0.0.0/8"]));
        for never in ["0.0.0.0", "255.255.255.255", "224.0.0.1"] {
            assert!(!permitted(never, &["0.0.0.0/0"]), "{never}");
        }
        for never in ["::", "ff02::1"] {
            assert!(!permitted(never, &["::/0"]), "{never}");
        }
    }
}
