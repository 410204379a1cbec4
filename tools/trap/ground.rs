//! What the rules must know of this machine: gateways, resolvers, its own networks, the ports that it gives its own
//! clients, and where something listens.

use std::collections::{BTreeSet, HashMap};
use std::fs;
use std::net::{IpAddr, Ipv6Addr};
use std::time::{Duration, Instant};

use psentry_linux::Surroundings;
use psentry_records::canonical;

use crate::sockets::Listening;

/// The ports of clients where the kernel does not say, which is also what it has unless told otherwise.
const EPHEMERAL: (u16, u16) = (32768, 60999);

/// Where the kernel says it; a sandbox may hide that.
const PORT_RANGE: &str = "/proc/sys/net/ipv4/ip_local_port_range";

/// What stands around this machine, as the rules have it.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Ground {
    /// Gateways and resolvers.
    pub(crate) around: BTreeSet<IpAddr>,
    /// The /64s of our own addresses: a neighbour there is one address, not a whole network.
    pub(crate) own_nets6: BTreeSet<Ipv6Addr>,
    /// The first and the last port of our own clients.
    pub(crate) ephemeral: (u16, u16),
    /// Where something listens.
    pub(crate) listening: Listening,
}

impl Ground {
    /// Looks around. `listening` is what [`Memory`] holds.
    pub(crate) fn look(listening: Listening) -> Result<Self, psentry_linux::Error> {
        let range = fs::read_to_string(PORT_RANGE).ok().and_then(|text| port_range(&text));
        Ok(Self::of(&psentry_linux::look()?, range.unwrap_or(EPHEMERAL), listening))
    }

    fn of(around: &Surroundings, ephemeral: (u16, u16), listening: Listening) -> Self {
        let own_nets6 = around
            .own
            .iter()
            .filter_map(|addr| match addr {
                IpAddr::V6(v6) if !v6.is_loopback() => Some(network(*v6)),
                _ => None,
            })
            .collect();
        let around = around.gateways.iter().chain(&around.resolvers).copied().map(canonical).collect();
        Ground { around, own_nets6, ephemeral, listening }
    }
}

/// The first address of its /64.
fn network(addr: Ipv6Addr) -> Ipv6Addr {
    Ipv6Addr::from(u128::from(addr) & !u128::from(u64::MAX))
}

fn port_range(text: &str) -> Option<(u16, u16)> {
    let mut numbers = text.split_whitespace().map(str::parse);
    match (numbers.next(), numbers.next()) {
        (Some(Ok(first)), Some(Ok(last))) if first <= last => Some((first, last)),
        _ => None,
    }
}

/// Ports on which something listened a while ago: a service that stops for a moment keeps its port.
pub(crate) struct Memory {
    keep: Duration,
    tcp: HashMap<u16, Instant>,
    udp: HashMap<u16, Instant>,
}

impl Memory {
    /// Of ports that were listened on within `keep`.
    pub(crate) fn new(keep: Duration) -> Self {
        Memory { keep, tcp: HashMap::new(), udp: HashMap::new() }
    }

    /// Takes note of what listens now; gives what listens, or did lately.
    pub(crate) fn note(&mut self, now: Instant, listening: &Listening) -> Listening {
        let keep = self.keep;
        let update = |held: &mut HashMap<u16, Instant>, seen: &BTreeSet<u16>| {
            held.extend(seen.iter().map(|port| (*port, now)));
            held.retain(|_, last| now.saturating_duration_since(*last) < keep);
            held.keys().copied().collect()
        };
        Listening { tcp: update(&mut self.tcp, &listening.tcp), udp: update(&mut self.udp, &listening.udp) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_range_of_ports_is_read_or_not_at_all() {
        assert_eq!(port_range("32768\t60999\n"), Some((32768, 60999)));
        for text in ["", "1", "a b", "60999 32768", "1 70000"] {
            assert_eq!(port_range(text), None, "{text}");
        }
    }

    #[test]
    fn own_networks_are_64s_and_loopback_is_none() {
        let own = ["2001:db8:1::7", "::1", "192.0.2.7"].iter().map(|addr| addr.parse().unwrap()).collect();
        let around = Surroundings { own, ..Surroundings::default() };
        let ground = Ground::of(&around, EPHEMERAL, Listening::default());
        assert_eq!(ground.own_nets6, [Ipv6Addr::new(0x2001, 0xdb8, 1, 0, 0, 0, 0, 0)].into());
    }

    #[test]
    fn a_port_is_remembered_for_a_while() {
        let mut memory = Memory::new(Duration::from_secs(60));
        let start = Instant::now();
        let one = Listening { tcp: [80].into(), udp: BTreeSet::new() };
        assert_eq!(memory.note(start, &one), one);
        assert_eq!(memory.note(start + Duration::from_secs(59), &Listening::default()), one);
        assert_eq!(memory.note(start + Duration::from_secs(61), &Listening::default()), Listening::default());
    }
}
