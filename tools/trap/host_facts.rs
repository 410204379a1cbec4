//! What the rules must know of this host: gateways and resolvers, its own IPv6 networks, the ports that it gives its own
//! clients, and where something listens. What a `stats` record says of its networks is in `machine.rs`.

use std::collections::{BTreeSet, HashMap};
use std::fs;
use std::net::{IpAddr, Ipv6Addr};
use std::time::{Duration, Instant};

use psentry_linux::HostAddresses;
use psentry_records::{Prefix, canonical};

use crate::sockets::Listening;

/// The ports of clients where the kernel does not say, which is also what it has unless somebody changed it.
const DEFAULT_CLIENT_PORTS: (u16, u16) = (32768, 60999);

/// Where the kernel says it (ip-sysctl.rst); a sandbox may hide it.
const CLIENT_PORTS_FILE: &str = "/proc/sys/net/ipv4/ip_local_port_range";

/// Addresses that hold on one interface only (RFC 4291, 2.5.6): fe80::/10.
const LINK_LOCAL: Ipv6Addr = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 0);

/// The facts of this host, as the sets of the rules have them.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct HostFacts {
    /// The addresses of gateways and resolvers.
    pub(crate) infrastructure: BTreeSet<IpAddr>,
    /// Networks of IPv6 in which a source is one address, not a whole /64: those of our own addresses, and link-local.
    pub(crate) by_address6: BTreeSet<Prefix>,
    /// The first and the last port that the kernel gives to clients.
    pub(crate) client_ports: (u16, u16),
    /// The ports on which something listens, or did lately.
    pub(crate) listening: Listening,
}

impl HostFacts {
    /// Reads them from the kernel. `listening` is what [`RecentPorts`] has.
    ///
    /// # Errors
    /// The kernel does not answer.
    pub(crate) fn read(listening: Listening) -> Result<Self, psentry_linux::Error> {
        let range = fs::read_to_string(CLIENT_PORTS_FILE).ok().and_then(|text| parse_port_range(&text));
        Ok(Self::new(&psentry_linux::host_addresses()?, range.unwrap_or(DEFAULT_CLIENT_PORTS), listening))
    }

    fn new(addresses: &HostAddresses, client_ports: (u16, u16), listening: Listening) -> Self {
        let own = addresses.own.iter().filter(|addr| addr.is_ipv6() && !addr.is_loopback());
        let by_address6 = own
            .map(|addr| Prefix::around(*addr, 64))
            .chain([Prefix::around(LINK_LOCAL.into(), 10)])
            .collect();
        let infrastructure = addresses.gateways.iter().chain(&addresses.resolvers);
        let infrastructure = infrastructure.copied().map(canonical).collect();
        HostFacts { infrastructure, by_address6, client_ports, listening }
    }
}

fn parse_port_range(text: &str) -> Option<(u16, u16)> {
    let mut numbers = text.split_whitespace().map(str::parse);
    match (numbers.next(), numbers.next()) {
        (Some(Ok(first)), Some(Ok(last))) if first <= last => Some((first, last)),
        _ => None,
    }
}

/// When something last listened on each port: a service that stops for a moment keeps its port.
pub(crate) struct RecentPorts {
    keep: Duration,
    tcp: HashMap<u16, Instant>,
    udp: HashMap<u16, Instant>,
}

impl RecentPorts {
    /// A port is kept for `keep` after something listened there.
    pub(crate) fn new(keep: Duration) -> Self {
        RecentPorts { keep, tcp: HashMap::new(), udp: HashMap::new() }
    }

    /// Takes the ports on which something listens now; returns them with those of the last `keep`.
    pub(crate) fn update(&mut self, now: Instant, listening: &Listening) -> Listening {
        let keep = self.keep;
        let update = |known: &mut HashMap<u16, Instant>, listening: &BTreeSet<u16>| {
            known.extend(listening.iter().map(|port| (*port, now)));
            known.retain(|_, last| now.saturating_duration_since(*last) < keep);
            known.keys().copied().collect()
        };
        Listening { tcp: update(&mut self.tcp, &listening.tcp), udp: update(&mut self.udp, &listening.udp) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_range_of_ports_is_read_or_not_at_all() {
        assert_eq!(parse_port_range("32768\t60999\n"), Some((32768, 60999)));
        for text in ["", "1", "a b", "60999 32768", "1 70000"] {
            assert_eq!(parse_port_range(text), None, "{text}");
        }
    }

    #[test]
    fn own_networks_are_64s_and_loopback_is_none() {
        let own = ["2001:db8:1::7", "::1", "192.0.2.7"].iter().map(|addr| addr.parse().unwrap()).collect();
        let addresses = HostAddresses { own, ..HostAddresses::default() };
        let facts = HostFacts::new(&addresses, DEFAULT_CLIENT_PORTS, Listening::default());
        assert_eq!(
            facts.by_address6,
            ["2001:db8:1::/64", "fe80::/10"].map(|net| net.parse().unwrap()).into()
        );
    }

    #[test]
    fn a_port_is_remembered_for_a_while() {
        let mut ports = RecentPorts::new(Duration::from_secs(60));
        let start = Instant::now();
        let one = Listening { tcp: [80].into(), udp: BTreeSet::new() };
        assert_eq!(ports.update(start, &one), one);
        assert_eq!(ports.update(start + Duration::from_secs(59), &Listening::default()), one);
        assert_eq!(
            ports.update(start + Duration::from_secs(61), &Listening::default()),
            Listening::default()
        );
    }
}
