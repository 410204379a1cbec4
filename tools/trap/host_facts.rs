//! What the rules must know of this host: gateways and resolvers, the networks near it, the ports that it gives its own
//! clients, where something listens, and what the administrator's files say. Which networks are near is in `machine.rs`.

use std::collections::{BTreeSet, HashMap};
use std::fs;
use std::net::{IpAddr, Ipv6Addr};
use std::time::{Duration, Instant};

use psentry_ports::{PortTable, Service};
use psentry_records::{Prefix, canonical};

use crate::config_files::ConfigFiles;
use crate::machine::machine;
use crate::ports::Ranges;
use crate::rtnetlink;
use crate::sockets::Listening;
use crate::source_file::Sources;

/// The ports of clients where the kernel does not say, which is also what it has unless somebody changed it.
const DEFAULT_CLIENT_PORTS: (u16, u16) = (32768, 60999);

/// Where the kernel says it (ip-sysctl.rst); a sandbox may hide it.
const CLIENT_PORTS_FILE: &str = "/proc/sys/net/ipv4/ip_local_port_range";

/// Addresses that hold on one interface only (RFC 4291, 2.5.6): fe80::/10.
const LINK_LOCAL: Ipv6Addr = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 0);

/// How many networks near and inside the rules have at most, the widest: a router may have a route for every network of the
/// Internet, and what finds no room is only spared less.
const MOST_NETWORKS: usize = 1024;

/// The facts of this host, as the sets of the rules have them.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct HostFacts {
    /// The addresses of this machine.
    pub(crate) own: BTreeSet<IpAddr>,
    /// The addresses of gateways and resolvers.
    pub(crate) infrastructure: BTreeSet<IpAddr>,
    /// The networks in which this machine has an address, and those behind it.
    pub(crate) near: BTreeSet<Prefix>,
    /// The networks behind it alone.
    pub(crate) inside: BTreeSet<Prefix>,
    /// The first and the last port that the kernel gives to clients.
    pub(crate) client_ports: (u16, u16),
    /// The ports on which something listens for other machines, or did lately.
    pub(crate) listening: Listening,
    /// The ports at which a socket or a container took a packet lately, as the rules have seen it.
    pub(crate) served: Listening,
    /// The ports that are hidden from strangers, to whom nothing here may say that they are served.
    pub(crate) hidden: Ranges,
    /// Who is vouched for, and until when.
    pub(crate) vouched: Sources,
    /// What `/etc/psentry/ports` says.
    pub(crate) ports: PortTable,
    /// What the files of `--allow` say.
    pub(crate) allow: Vec<Prefix>,
}

impl HostFacts {
    /// Reads what the kernel says. `listening` is what [`RecentPorts`] has, `served` what the rules have.
    ///
    /// # Errors
    /// The kernel does not answer.
    pub(crate) fn read(
        listening: Listening,
        served: Listening,
        hidden: &Ranges,
        vouched: &Sources,
        files: &ConfigFiles,
    ) -> Result<Self, psentry_linux::Error> {
        let addresses = psentry_linux::host_addresses()?;
        let infrastructure = addresses.gateways.iter().chain(&addresses.resolvers);
        let infrastructure = infrastructure.copied().map(canonical).collect();
        let own = addresses.own.iter().copied().collect();
        let client_ports = client_ports();
        // Without a list no network is near: that spares less. The `stats` record says what is wrong.
        let machine = machine(&rtnetlink::read().unwrap_or_default(), client_ports);
        let inside: BTreeSet<Prefix> = machine.inside_networks.into_iter().take(MOST_NETWORKS).collect();
        let own_networks = machine.own_networks.into_iter().take(MOST_NETWORKS);
        let near = own_networks.chain(inside.iter().copied()).collect();
        let (ports, allow) = (files.ports().clone(), files.allow().to_vec());
        let (hidden, vouched) = (hidden.clone(), vouched.clone());
        Ok(HostFacts {
            own,
            infrastructure,
            near,
            inside,
            client_ports,
            listening,
            served,
            hidden,
            vouched,
            ports,
            allow,
        })
    }

    /// Networks of IPv6 in which a source is one address, not a whole /64.
    pub(crate) fn by_address6(&self) -> BTreeSet<Prefix> {
        let near = self.near.iter().filter(|network| !network.is_ipv4());
        near.chain(&self.ports.translators).copied().chain([Prefix::around(LINK_LOCAL.into(), 10)]).collect()
    }

    /// Whether this address is vouched for; by the vouch for another of its /64, unless its network is near.
    pub(crate) fn is_vouched(&self, addr: IpAddr) -> bool {
        let by_address = addr.is_ipv4() || self.by_address6().iter().any(|network| network.contains(addr));
        let scope = Prefix::around(addr, if by_address { 128 } else { 64 });
        self.vouched.keys().any(|source| scope.contains(source.addr()))
    }

    /// The ports that are served here, or were lately.
    pub(crate) fn all_served(&self) -> Listening {
        self.listening.and(&self.served)
    }

    /// Those of them that strangers may notice.
    pub(crate) fn shown(&self) -> Listening {
        let mut shown = self.all_served();
        for ports in [&mut shown.tcp, &mut shown.udp] {
            ports.retain(|port| !self.hidden.holds(*port));
        }
        shown
    }

    /// The ports that clients of what is shown to them try as well.
    pub(crate) fn siblings(&self) -> BTreeSet<Service> {
        self.ports.siblings_of(&self.shown().services())
    }
}

/// The first and the last port that the kernel gives to clients.
fn client_ports() -> (u16, u16) {
    let text = fs::read_to_string(CLIENT_PORTS_FILE).ok();
    text.and_then(|text| parse_port_range(&text)).unwrap_or(DEFAULT_CLIENT_PORTS)
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
    pub(crate) fn update(&mut self, now: Instant, seen: &Listening) -> Listening {
        let keep = self.keep;
        let update = |known: &mut HashMap<u16, Instant>, seen: &BTreeSet<u16>| {
            known.extend(seen.iter().map(|port| (*port, now)));
            known.retain(|_, last| now.saturating_duration_since(*last) < keep);
            known.keys().copied().collect()
        };
        Listening { tcp: update(&mut self.tcp, &seen.tcp), udp: update(&mut self.udp, &seen.udp) }
    }
}

#[cfg(test)]
mod tests {
    use psentry_records::Proto;

    use super::*;

    #[test]
    fn a_range_of_ports_is_read_or_not_at_all() {
        assert_eq!(parse_port_range("32768\t60999\n"), Some((32768, 60999)));
        for text in ["", "1", "a b", "60999 32768", "1 70000"] {
            assert_eq!(parse_port_range(text), None, "{text}");
        }
    }

    fn facts(near: &[&str]) -> HostFacts {
        HostFacts {
            own: BTreeSet::new(),
            infrastructure: BTreeSet::new(),
            near: near.iter().map(|network| network.parse().unwrap()).collect(),
            inside: BTreeSet::new(),
            client_ports: DEFAULT_CLIENT_PORTS,
            listening: Listening::default(),
            served: Listening::default(),
            hidden: Ranges::default(),
            vouched: Sources::new(),
            ports: PortTable::builtin(),
            allow: Vec::new(),
        }
    }

    #[test]
    fn neighbours_and_translated_addresses_count_one_by_one() {
        let networks = facts(&["192.0.2.0/24", "2001:db8:1::/64"]).by_address6();
        let want = ["2001:db8:1::/64", "fe80::/10", "64:ff9b::/96"].map(|network| network.parse().unwrap());
        assert_eq!(networks, want.into());
    }

    #[test]
    fn siblings_are_those_of_sockets_and_of_what_the_rules_saw() {
        let mut facts = facts(&[]);
        facts.listening.tcp.insert(80);
        facts.served.tcp.insert(143);
        let ports = |proto| {
            let siblings = facts.siblings().into_iter().filter(move |service| service.proto == proto);
            siblings.map(|service| service.port).collect::<Vec<_>>()
        };
        assert_eq!((ports(Proto::Tcp), ports(Proto::Udp)), (vec![443, 993], vec![443]));
        // To whom 80 is hidden, 443 is no sibling of anything.
        facts.hidden = Ranges::of(vec![(80, 80)]);
        let siblings: Vec<u16> = facts.siblings().into_iter().map(|service| service.port).collect();
        assert_eq!(siblings, [993]);
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
