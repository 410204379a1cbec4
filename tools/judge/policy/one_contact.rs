//! Which ports are one contact: the same number over TCP and UDP, and the ports of a family, which one command touches
//! together. What the families are is said by `/etc/psentry/ports`, which the crate psentry-ports reads.

use psentry_ports::PortTable;
use psentry_records::Proto;

/// What a contact is counted as: two of the same identity are one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Identity {
    /// A port that is in no family, whatever the transport.
    Port(u16),
    /// A family, by its place in [`Families`].
    Family(usize),
    /// Of what has no port, the protocol.
    Proto(Proto),
}

/// The families of ports, ready to be asked at every record.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Families {
    /// A bit for each port, so that of most ports one look tells that they are in no family; empty where there is none.
    any: Vec<u64>,
    /// First and last port, and which family.
    ranges: Vec<(u16, u16, usize)>,
    names: Vec<String>,
}

impl Families {
    /// The families of a table. A port that is in two of them is of the first.
    pub(crate) fn new(table: &PortTable) -> Self {
        let mut families = Families { any: vec![0; 1 << 10], ..Families::default() };
        for (n, family) in table.families.iter().enumerate() {
            families.names.push(family.name.clone());
            for ports in &family.ports {
                families.ranges.push((ports.first, ports.last, n));
                for port in ports.first..=ports.last {
                    if let Some(word) = families.any.get_mut(usize::from(port >> 6)) {
                        *word |= 1 << (port & 63);
                    }
                }
            }
        }
        families
    }

    /// What a contact with that port is counted as.
    pub(crate) fn identity(&self, port: Option<u16>, proto: Proto) -> Identity {
        let Some(port) = port else { return Identity::Proto(proto) };
        if self.any.get(usize::from(port >> 6)).is_none_or(|word| word >> (port & 63) & 1 == 0) {
            return Identity::Port(port);
        }
        let holds = |&&(first, last, _): &&(u16, u16, usize)| (first..=last).contains(&port);
        match self.ranges.iter().find(holds) {
            Some(&(_, _, family)) => Identity::Family(family),
            None => Identity::Port(port),
        }
    }

    /// The name of a family.
    pub(crate) fn name(&self, identity: Identity) -> Option<&str> {
        match identity {
            Identity::Family(n) => self.names.get(n).map(String::as_str),
            Identity::Port(_) | Identity::Proto(_) => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_of_a_family_and_one_port_over_tcp_and_udp_are_one() {
        let families = Families::new(&PortTable::builtin());
        let of = |port, proto| families.identity(Some(port), proto);
        assert_eq!(of(445, Proto::Tcp), of(139, Proto::Tcp));
        assert_eq!(of(445, Proto::Tcp), of(138, Proto::Udp), "the second port of a range");
        assert_eq!(of(161, Proto::Tcp), of(161, Proto::Udp));
        assert_eq!(families.name(of(111, Proto::Udp)), Some("nfs"));
        assert_ne!(of(445, Proto::Tcp), of(2049, Proto::Tcp));
        assert_ne!(of(22, Proto::Tcp), of(23, Proto::Tcp));
        assert_ne!(families.identity(None, Proto::Icmp), families.identity(None, Proto::Igmp));
        assert_eq!(Families::default().identity(Some(445), Proto::Tcp), Identity::Port(445));
    }
}
