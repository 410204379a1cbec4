//! What is known of the machine whose probes are judged: its own networks, those behind it, and the ports of its clients.
//! psentry-trap knows them and says them in its `stats` records, of which the last one holds. It decides nothing.

use psentry_records::{Ignore, Machine, Prefix, Stats};

/// The sensor whose `stats` records say what the machine is.
const STAGE: &str = "trap";

/// No network wider than this is accepted, of IPv4 and of IPv6: whoever may write a record must not make the whole world
/// a neighbour.
const WIDEST: (u8, u8) = (8, 32);

/// Of a list that holds more than so many of the widest networks, none is believed: many narrow ones are the whole world,
/// too. All networks for private use of IPv4 are little more than one.
const MOST_OF_WIDEST: u128 = 2;

/// The ports of clients where nobody says them, which is what Linux has unless somebody changed it.
const CLIENT_PORTS: (u16, u16) = (32_768, 60_999);

/// Below this port are services, whatever a record says of clients.
const FIRST_CLIENT_PORT: u16 = 1024;

/// The facts, ready to be asked at every record.
#[derive(Clone, Debug, PartialEq)]
pub struct MachineFacts {
    said: Machine,
    inside: Ignore,
    near: Ignore,
    /// Whether they changed since the journal was last written.
    changed: bool,
}

impl Default for MachineFacts {
    fn default() -> Self {
        let (own_networks, inside_networks) = (Vec::new(), Vec::new());
        Self::of(Machine { own_networks, inside_networks, client_ports: CLIENT_PORTS })
    }
}

impl MachineFacts {
    /// The facts of a record, or of a state file, as far as they are to be believed.
    pub(crate) fn of(mut said: Machine) -> Self {
        for list in [&mut said.own_networks, &mut said.inside_networks] {
            list.retain(|network| network.len() >= widest(network.is_ipv4()));
            for ipv4 in [true, false] {
                if hold_too_much(list.iter().filter(|network| network.is_ipv4() == ipv4)) {
                    list.retain(|network| network.is_ipv4() != ipv4);
                }
            }
        }
        let (first, last) = said.client_ports;
        let first = first.max(FIRST_CLIENT_PORT);
        said.client_ports = if first < last { (first, last) } else { CLIENT_PORTS };
        let inside: Ignore = said.inside_networks.iter().copied().collect();
        let near = said.own_networks.iter().chain(&said.inside_networks).copied().collect();
        MachineFacts { said, inside, near, changed: false }
    }

    /// Takes what a `stats` record says, if psentry-trap wrote it on the machine `host`, or on one that it does not name.
    /// What has changed by it, as a sentence.
    pub(crate) fn take(&mut self, stats: &Stats, host: Option<&str>) -> Option<String> {
        let named = stats.common.host.as_deref();
        if stats.body.stage != STAGE || named.is_some() && named != host {
            return None;
        }
        let facts = Self::of(stats.body.machine.clone()?);
        if facts.said == self.said {
            return None;
        }
        *self = MachineFacts { changed: true, ..facts };
        let list = |networks: &[Prefix]| match networks {
            [] => "none".to_owned(),
            networks => networks.iter().map(ToString::to_string).collect::<Vec<_>>().join(", "),
        };
        let (own, inside) = (list(&self.said.own_networks), list(&self.said.inside_networks));
        let (first, last) = self.said.client_ports;
        Some(format!(
            "psentry-trap says that this machine's own networks are {own}; those inside {inside}; and the ports of its \
             clients {first} to {last}"
        ))
    }

    /// What was believed of the last record.
    pub(crate) fn said(&self) -> &Machine {
        &self.said
    }

    /// Whether that source is behind this machine: a container, a guest, a network for which it is the gateway.
    pub(crate) fn is_inside(&self, addr: std::net::IpAddr) -> bool {
        self.inside.holds(addr)
    }

    /// Whether somebody in that prefix is a neighbour, or behind this machine.
    pub(crate) fn is_near(&self, prefix: Prefix) -> bool {
        self.near.touches(prefix)
    }

    /// Whether the kernel gives that port to this machine's own clients.
    pub(crate) fn is_client_port(&self, port: u16) -> bool {
        let (first, last) = self.said.client_ports;
        (first..=last).contains(&port)
    }

    /// Whether they changed since the last call.
    pub(crate) fn take_change(&mut self) -> bool {
        std::mem::take(&mut self.changed)
    }
}

fn widest(ipv4: bool) -> u8 {
    if ipv4 { WIDEST.0 } else { WIDEST.1 }
}

/// Whether networks of one version of IP hold more addresses together than are believed.
fn hold_too_much<'a>(networks: impl Iterator<Item = &'a Prefix>) -> bool {
    let size = |bits: u8, len: u8| 1u128 << bits.saturating_sub(len);
    let (mut sum, mut most) = (0u128, u128::MAX);
    for network in networks {
        let bits = if network.is_ipv4() { 32 } else { 128 };
        sum = sum.saturating_add(size(bits, network.len()));
        most = MOST_OF_WIDEST * size(bits, widest(network.is_ipv4()));
    }
    sum > most
}

#[cfg(test)]
mod tests {
    use psentry_records::{Common, StatsBody, Timestamp};

    use super::*;

    fn stats(stage: &str, host: Option<&str>, machine: Option<Machine>) -> Stats {
        let common = Common { host: host.map(str::to_owned), ..Common::at(Timestamp::from_secs(1).unwrap()) };
        Stats { common, body: StatsBody { machine, ..StatsBody::new(stage, []) } }
    }

    fn machine(own: &[&str], inside: &[&str], client_ports: (u16, u16)) -> Machine {
        let of = |list: &[&str]| list.iter().map(|network| network.parse().unwrap()).collect();
        Machine { own_networks: of(own), inside_networks: of(inside), client_ports }
    }

    #[test]
    fn the_last_record_of_the_own_trap_holds_and_a_change_is_said_once() {
        let mut facts = MachineFacts::default();
        let first = machine(&["192.0.2.0/24"], &["10.88.0.0/16"], (20_000, 30_000));
        let mut take = |stage, host, machine| facts.take(&stats(stage, host, machine), Some("gate"));
        assert_eq!(take("judge", Some("gate"), Some(first.clone())), None);
        assert_eq!(take("trap", Some("other"), Some(first.clone())), None);
        assert_eq!(take("trap", Some("gate"), None), None);
        let said = take("trap", Some("gate"), Some(first.clone())).unwrap();
        let want = "psentry-trap says that this machine's own networks are 192.0.2.0/24; those inside 10.88.0.0/16; and the \
                    ports of its clients 20000 to 30000";
        assert_eq!(said, want);
        assert_eq!(take("trap", None, Some(first.clone())), None, "nothing has changed");
        assert!(take("trap", None, Some(machine(&[], &[], (20_000, 30_000)))).is_some());
        assert!(!facts.is_near("192.0.2.7".parse().unwrap()) && facts.is_client_port(20_000));
    }

    #[test]
    fn many_narrow_networks_are_the_world_as_well() {
        let inside = |networks: &[String]| {
            let networks: Vec<&str> = networks.iter().map(String::as_str).collect();
            MachineFacts::of(machine(&[], &networks, CLIENT_PORTS)).said().inside_networks.len()
        };
        let eights: Vec<String> = (1..224).map(|n| format!("{n}.0.0.0/8")).collect();
        assert_eq!((inside(&eights[..2]), inside(&eights[..3]), inside(&eights)), (2, 0, 0));
        let wide: Vec<String> = (0..256).map(|n| format!("2001:{n:x}::/32")).collect();
        assert_eq!((inside(&wide[..2]), inside(&wide)), (2, 0));
        // Those for private use (RFC 1918, RFC 6598) are few; and too many of one version say nothing of the other.
        let private = ["10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "100.64.0.0/10"].map(str::to_owned);
        assert_eq!((inside(&private), inside(&[&private, &wide[..]].concat())), (4, 4));
    }

    #[test]
    fn no_record_makes_the_world_a_neighbour_or_services_clients() {
        let wide = ["0.0.0.0/0", "0.0.0.0/7", "10.0.0.0/8", "::/0", "2000::/3", "2001::/31", "2001:db8::/32"];
        let facts = MachineFacts::of(machine(&wide, &wide, (1, 65_535)));
        assert_eq!(
            facts.said().own_networks,
            ["10.0.0.0/8", "2001:db8::/32"].map(|net| net.parse().unwrap())
        );
        assert!(
            facts.is_inside("10.1.2.3".parse().unwrap()) && !facts.is_inside("192.0.2.7".parse().unwrap())
        );
        assert!(!facts.is_client_port(1023) && facts.is_client_port(1024));
        assert_eq!(MachineFacts::of(machine(&[], &[], (9, 8))).said().client_ports, CLIENT_PORTS);
    }
}
