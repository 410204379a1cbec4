//! Which of two blocks shuts more, by their ports and whether they spare what is established, and what they are together. Pure.

use std::collections::BTreeSet;

use psentry_records::Proto;

use crate::block::{Block, Entry, TCP, UDP};

/// How many ports are shut one by one: eight rules of iptables. Beyond that the source is shut out as a whole.
pub const MOST_PORTS: usize = 120;

impl Block {
    /// Whether all that `other` shuts is shut, for at least as long.
    #[must_use]
    pub fn covers(&self, other: &Block) -> bool {
        self.outlasts(other.until) && self.shuts(other)
    }

    /// Whether all that `other` shuts is shut, however long.
    #[must_use]
    pub fn shuts(&self, other: &Block) -> bool {
        let ports = || {
            !other.ports.is_empty()
                && other.ports.iter().all(|port| self.ports.contains(port))
                && other.transports().iter().all(|transport| self.transports().contains(transport))
        };
        (self.ports.is_empty() || ports()) && (other.unproven || !self.unproven)
    }

    /// What shuts all that this one and `other` shut, until both are over.
    #[must_use]
    pub fn joined(&self, other: &Block) -> Block {
        let longer = if self.outlasts(other.until) { self } else { other };
        // What was proven once stays so to the end of both.
        let unproven = self.unproven && other.unproven;
        let mut joined = Block { ports: Vec::new(), unproven, ..longer.clone() };
        if !self.ports.is_empty() && !other.ports.is_empty() {
            joined.ports = probed(self.ports.iter().chain(&other.ports).copied());
        }
        if !joined.ports.is_empty() && self.transports() != other.transports() {
            joined.proto = None;
        }
        joined
    }
}

impl Entry {
    /// Both as one.
    #[must_use]
    pub fn joined(&self, other: &Entry) -> Entry {
        let joined = Block::from(self).joined(&Block::from(other)).entry(self.scope);
        Entry { damaged: self.damaged || other.damaged, ..joined }
    }
}

/// The ports that alone are to be shut, of those that were probed: each once, or none if they are too many.
#[must_use]
pub fn probed(ports: impl Iterator<Item = u16>) -> Vec<u16> {
    let ports: BTreeSet<u16> = ports.collect();
    if ports.len() > MOST_PORTS { Vec::new() } else { ports.into_iter().collect() }
}

/// The transport with this number; `None`: it has no ports.
#[must_use]
pub fn transport(number: u8) -> Option<Proto> {
    match number {
        TCP => Some(Proto::Tcp),
        UDP => Some(Proto::Udp),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use psentry_records::Timestamp;

    fn block(ports: &[u16], proto: Option<Proto>, seconds: u64) -> Block {
        Block { ports: ports.to_vec(), proto, until: Timestamp::from_secs(seconds), ..Block::default() }
    }

    #[test]
    fn a_block_covers_what_it_shuts_for_as_long_as_it_does() {
        let tcp = Some(Proto::Tcp);
        let ssh = block(&[22], tcp, 60);
        for (other, covers) in [
            (block(&[22], tcp, 60), true),
            (block(&[22], tcp, 61), false),
            (block(&[22, 23], tcp, 60), false),
            (block(&[22], Some(Proto::Udp), 60), false),
            (block(&[22], None, 60), false),
            (block(&[], tcp, 60), false),
        ] {
            assert_eq!(ssh.covers(&other), covers, "{other:?}");
            assert_eq!(
                block(&[], Some(Proto::Icmp), 60).covers(&other),
                other.until == ssh.until,
                "{other:?}"
            );
        }
        assert!(block(&[22, 53], None, 60).covers(&block(&[53], Some(Proto::Udp), 60)));
    }

    #[test]
    fn two_blocks_are_one_that_covers_both() {
        let (tcp, udp) = (Some(Proto::Tcp), Some(Proto::Udp));
        let ssh = block(&[22], tcp, 60);
        assert_eq!(ssh.joined(&block(&[21, 22], tcp, 30)), block(&[21, 22], tcp, 60));
        assert_eq!(ssh.joined(&block(&[53], udp, 90)), block(&[22, 53], None, 90));
        assert_eq!(ssh.joined(&block(&[], udp, 30)), block(&[], tcp, 60));
        let many = block(&(100..100 + MOST_PORTS as u16).collect::<Vec<_>>(), tcp, 60);
        assert_eq!(many.joined(&many).ports.len(), MOST_PORTS);
        assert!(many.joined(&ssh).ports.is_empty(), "too many to shut one by one");
    }

    #[test]
    fn what_spares_what_is_established_shuts_less() {
        let proven = block(&[], None, 60);
        let unproven = Block { unproven: true, ..proven.clone() };
        assert!(proven.covers(&unproven) && !unproven.covers(&proven) && unproven.covers(&unproven));
        let longer = Block { unproven: true, ..block(&[], None, 90) };
        // Never back while it lasts.
        assert_eq!(proven.joined(&longer), block(&[], None, 90));
        assert_eq!(unproven.joined(&longer), longer);
    }

    #[test]
    fn entries_of_one_scope_are_one() {
        let entry = |scope: &str, ports: &[u16], proto| Entry {
            ports: ports.to_vec(),
            proto,
            ..Entry::new(scope.parse().unwrap(), None, None)
        };
        let (tcp, udp) = (Some(Proto::Tcp), Some(Proto::Udp));
        let (one, other) = (entry("192.0.2.7", &[22], tcp), entry("192.0.2.7", &[53], udp));
        assert_eq!(one.joined(&other), entry("192.0.2.7", &[22, 53], None));
        let whole = entry("192.0.2.7", &[], None);
        assert_eq!(one.joined(&whole), entry("192.0.2.7", &[], tcp));
    }
}
