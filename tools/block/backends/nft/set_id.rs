//! The sets in which blocks are kept, by their names, and the keys of their elements. Each length of prefix has a set of
//! its own, since a set of intervals would be read as a whole for each change (measured: seconds), and a further one for
//! single ports; and both once more for unproven blocks, whose rules spare established connections. Pure.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use psentry_nftables as nftables;
use psentry_records::Prefix;

use super::super::set_elements::Key;
use crate::block::Block;

/// How many elements a set holds: some 50 MB of kernel memory. `--max-blocks` is reached long before.
pub(super) const SIZE: u32 = 262_144;

/// How the names of the sets end that hold single ports, and those of unproven blocks.
const PORTS: &str = "_ports";
const UNPROVEN: &str = "_unproven";

/// A set.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct SetId {
    pub(super) ipv4: bool,
    /// The length of its prefixes, in bits.
    pub(super) len: u8,
    /// Whether it holds single ports of prefixes.
    pub(super) ports: bool,
    /// Whether it holds blocks that no handshake proves.
    pub(super) unproven: bool,
}

/// A key as the kernel compares it.
pub(super) fn encode_key((scope, port): Key) -> Vec<u8> {
    let mut bytes = match scope.addr() {
        IpAddr::V4(v4) => v4.octets().to_vec(),
        IpAddr::V6(v6) => v6.octets().to_vec(),
    };
    if let Some((transport, port)) = port {
        let [high, low] = port.to_be_bytes();
        // Each part of a key begins at a multiple of four bytes.
        bytes.extend([transport, 0, 0, 0, high, low, 0, 0]);
    }
    bytes
}

impl SetId {
    /// The sets that are made at the start: for single IPv4 hosts, and for the /64 of a network that one IPv6 host uses.
    pub(super) const FIRST: [SetId; 2] = [SetId::proven(true, 32), SetId::proven(false, 64)];

    const fn proven(ipv4: bool, len: u8) -> Self {
        SetId { ipv4, len, ports: false, unproven: false }
    }

    /// The set of a block.
    pub(super) fn of(scope: Prefix, block: &Block) -> Self {
        let (ports, unproven) = (!block.ports.is_empty(), block.unproven);
        SetId { ports, unproven, ..SetId::proven(scope.is_ipv4(), scope.len()) }
    }

    /// The sets in which a block of this scope may be.
    pub(super) fn all(scope: Prefix) -> [Self; 4] {
        let set = SetId::proven(scope.is_ipv4(), scope.len());
        let unproven = SetId { unproven: true, ..set };
        [set, SetId { ports: true, ..set }, unproven, SetId { ports: true, ..unproven }]
    }

    pub(super) fn name(self) -> String {
        let family = if self.ipv4 { "v4" } else { "v6" };
        let unproven = if self.unproven { UNPROVEN } else { "" };
        format!("{family}_{}{unproven}{}", self.len, if self.ports { PORTS } else { "" })
    }

    /// By its name; `None`: it is none of ours.
    pub(super) fn from_name(name: &str) -> Option<Self> {
        let (rest, ports) = name.strip_suffix(PORTS).map_or((name, false), |rest| (rest, true));
        let (prefix, unproven) = rest.strip_suffix(UNPROVEN).map_or((rest, false), |rest| (rest, true));
        let (ipv4, len) = match prefix.split_once('_')? {
            ("v4", len) => (true, len.parse().ok().filter(|len| *len <= 32)?),
            ("v6", len) => (false, len.parse().ok().filter(|len| *len <= 128)?),
            _ => return None,
        };
        let set = SetId { ipv4, len, ports, unproven };
        // "v4_032" would be another name for the same set.
        (set.name() == name).then_some(set)
    }

    /// That of a set of our table; `None`: it is none of ours, or not as ours are.
    pub(super) fn of_set(set: &nftables::Set) -> Option<Self> {
        let key_length = |id: &SetId| if id.ipv4 { 4 } else { 16 } + if id.ports { 8 } else { 0 };
        let is_ours = |id: &SetId| set.is_timed && set.size == Some(SIZE) && set.key_length == key_length(id);
        SetId::from_name(&set.name).filter(is_ours)
    }

    /// The key of an element of this set, as the kernel compares it; `None`: psentry-block makes no such key.
    pub(super) fn decode_key(self, bytes: &[u8]) -> Option<Key> {
        let (addr, rest): (IpAddr, _) = if self.ipv4 {
            let (addr, rest) = bytes.split_first_chunk::<4>()?;
            (Ipv4Addr::from(*addr).into(), rest)
        } else {
            let (addr, rest) = bytes.split_first_chunk::<16>()?;
            (Ipv6Addr::from(*addr).into(), rest)
        };
        let scope = Prefix::around(addr, self.len);
        let port = match (self.ports, rest) {
            (false, _) => None,
            (true, [transport, _, _, _, high, low, ..]) => {
                Some((*transport, u16::from_be_bytes([*high, *low])))
            }
            (true, _) => return None,
        };
        // A prefix with further bits set matches no packet, and a mapped address would be one of IPv4.
        (scope.addr() == addr).then_some((scope, port))
    }

    /// The bits of an address that count.
    pub(super) fn mask(self) -> IpAddr {
        let any = if self.ipv4 { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
        Prefix::around(any, self.len).mask()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_prefix_and_its_key_name_each_other() {
        for scope in ["192.0.2.7/32", "192.0.2.0/24", "198.51.96.0/20", "2001:db8::/64", "2001:db8::1/128"] {
            let scope: Prefix = scope.parse().unwrap();
            for (set, port) in SetId::all(scope).into_iter().zip([None, Some((17, 53))].into_iter().cycle()) {
                assert_eq!(SetId::from_name(&set.name()), Some(set));
                assert_eq!(set.decode_key(&encode_key((scope, None))).is_some(), port.is_none());
                let key = encode_key((scope, Some((17, 53))));
                assert_eq!(set.decode_key(&key), Some((scope, port)));
            }
        }
        for name in [
            "",
            "v4_33",
            "v4_032",
            "v6_129",
            "v5_1",
            "blocked",
            "v4_+8",
            "v4_",
            "v4_32_port",
            "_ports",
            "v4_32_ports_unproven",
        ] {
            assert_eq!(SetId::from_name(name), None, "{name}");
        }
        assert_eq!(SetId::FIRST[0].decode_key(&[1, 2]), None);
    }

    #[test]
    fn what_no_packet_matches_is_no_block() {
        let network: Prefix = "192.0.2.0/24".parse().unwrap();
        assert_eq!(SetId::proven(true, 24).decode_key(&[192, 0, 2, 0]), Some((network, None)));
        assert_eq!(SetId::proven(true, 24).decode_key(&[192, 0, 2, 7]), None);
        let mapped = Ipv4Addr::new(192, 0, 2, 7).to_ipv6_mapped().octets();
        for len in [64, 96, 120, 128] {
            assert_eq!(SetId::proven(false, len).decode_key(&mapped), None, "{len}");
        }
    }
}
