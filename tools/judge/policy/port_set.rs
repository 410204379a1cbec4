//! A set of ports of TCP and UDP that is asked at every contact: a bit for each.

use psentry_ports::Services;
use psentry_records::Proto;

/// The ports, of TCP and of UDP.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct PortSet {
    tcp: Vec<u64>,
    udp: Vec<u64>,
}

impl PortSet {
    /// The set of these ports.
    pub(crate) fn new(services: &[Services]) -> Self {
        let mut set = PortSet::default();
        for ports in services {
            let words = match ports.proto {
                Proto::Tcp => &mut set.tcp,
                _ => &mut set.udp,
            };
            words.resize(1 << 10, 0);
            for port in ports.first..=ports.last {
                if let Some(word) = words.get_mut(usize::from(port >> 6)) {
                    *word |= 1 << (port & 63);
                }
            }
        }
        set
    }

    /// Whether that port is one of them.
    pub(crate) fn holds(&self, proto: Proto, port: u16) -> bool {
        let words = match proto {
            Proto::Tcp => &self.tcp,
            Proto::Udp => &self.udp,
            _ => return false,
        };
        words.get(usize::from(port >> 6)).is_some_and(|word| word >> (port & 63) & 1 == 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_holds_what_it_was_made_of() {
        let set = PortSet::new(&["tcp/23".parse().unwrap(), "tcp/65530-65535".parse().unwrap()]);
        assert!(set.holds(Proto::Tcp, 23) && set.holds(Proto::Tcp, 65_535));
        assert!(!set.holds(Proto::Udp, 23) && !set.holds(Proto::Sctp, 23) && !set.holds(Proto::Tcp, 24));
    }
}
