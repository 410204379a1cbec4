//! The statements about ports, and the questions that trap and judge ask about them. Pure.

use std::collections::BTreeSet;

use psentry_records::{Prefix, Proto};

use crate::{Service, Services};

/// Ports that one command touches: `smbclient -L` asks for 445 and 139.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Family {
    /// As reasons of verdicts call it.
    pub name: String,
    /// Its ports.
    pub ports: Vec<Services>,
}

/// What is said about ports, in the order of the file.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct PortTable {
    /// What machines send regularly to these ports, on their own network.
    pub chatter: Vec<Services>,
    /// The same from the first port to the second, from anywhere. Both are of one protocol.
    pub chatter_between: Vec<(Service, Service)>,
    /// Answers from these ports may come late: strays.
    pub stray_from: Vec<Services>,
    /// The first port is tried by clients of the second, where that is served: a stray.
    pub siblings: Vec<(Service, Services)>,
    /// Ports that are one contact.
    pub families: Vec<Family>,
    /// Ports that nobody asks for by mistake: always probes.
    pub worms: Vec<Services>,
    /// Networks of 96 bits in which each address stands for one of IPv4 (RFC 6052).
    pub translators: Vec<Prefix>,
}

impl PortTable {
    /// The siblings of what is served, but for what is served itself: ports at which a closed door is no trap.
    #[must_use]
    pub fn siblings_of(&self, served: &BTreeSet<Service>) -> BTreeSet<Service> {
        let is_served = |of: &Services| served.iter().any(|service| of.contain(*service));
        let siblings = self.siblings.iter().filter(|(_, of)| is_served(of)).map(|(sibling, _)| *sibling);
        siblings.filter(|sibling| !served.contains(sibling)).collect()
    }

    /// The family of a port; its number is its place among [`families`](Self::families).
    #[must_use]
    pub fn family_of(&self, proto: Proto, port: u16) -> Option<(usize, &Family)> {
        let service = Service { proto, port };
        let of_it = |family: &&Family| family.ports.iter().any(|ports| ports.contain(service));
        self.families.iter().enumerate().find(|(_, family)| of_it(family))
    }

    /// Whether that address stands for one of IPv4.
    #[must_use]
    pub fn is_translated(&self, addr: std::net::IpAddr) -> bool {
        self.translators.iter().any(|prefix| prefix.contains(addr))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn services(list: &[(Proto, u16)]) -> BTreeSet<Service> {
        list.iter().map(|&(proto, port)| Service { proto, port }).collect()
    }

    #[test]
    fn a_closed_neighbour_of_what_is_served_is_a_sibling() {
        use Proto::{Tcp, Udp};
        let table = PortTable::builtin();
        let of = |served: &[(Proto, u16)]| table.siblings_of(&services(served));
        assert_eq!(of(&[(Tcp, 80)]), services(&[(Tcp, 443), (Udp, 443)]));
        assert_eq!(of(&[(Tcp, 80), (Tcp, 443), (Udp, 443)]), services(&[]), "all of them are served");
        for (served, sibling) in [
            ((Udp, 53), (Tcp, 853)),
            ((Tcp, 443), (Udp, 443)),
            ((Tcp, 143), (Tcp, 993)),
            ((Tcp, 5060), (Tcp, 5061)),
            ((Udp, 5060), (Tcp, 5061)),
            ((Tcp, 8080), (Tcp, 8443)),
            ((Tcp, 25), (Tcp, 587)),
            ((Tcp, 25), (Tcp, 465)),
        ] {
            let found = of(&[served]);
            assert!(found.contains(&Service { proto: sibling.0, port: sibling.1 }), "{served:?}: {found:?}");
        }
        assert_eq!(of(&[(Tcp, 22), (Tcp, 3306)]), services(&[]), "nothing is near these");
    }

    #[test]
    fn ports_of_one_command_are_a_family() {
        let table = PortTable::builtin();
        let name = |proto, port| table.family_of(proto, port).map(|(_, family)| family.name.as_str());
        assert_eq!(name(Proto::Tcp, 445), Some("smb"));
        assert_eq!(name(Proto::Tcp, 139), Some("smb"));
        assert_eq!(name(Proto::Udp, 111), Some("nfs"));
        assert_eq!(name(Proto::Tcp, 22), None);
    }

    #[test]
    fn an_address_of_nat64_is_translated() {
        let table = PortTable::builtin();
        assert!(table.is_translated("64:ff9b::11.1.1.1".parse().unwrap()));
        assert!(!table.is_translated("64:ff9b:1::11.1.1.1".parse().unwrap()));
    }
}
