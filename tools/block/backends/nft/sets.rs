//! The sets that blocks stand in, by their names, and what an element of theirs names. Each length of prefix has a set of
//! its own, and another one for single ports, so that no two sets ever overlap; and both of these once more for blocks that
//! are not proven, whose rules spare what is established. Pure.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use psentry_records::Prefix;

use crate::backend::Block;

/// How many elements a set holds: some 50 MB of kernel memory. The ledger's bound is reached long before.
pub(super) const SIZE: u32 = 262_144;

/// How the names of the sets end that hold single ports, and those of what is not proven.
const PORTS: &str = "_ports";
const UNPROVEN: &str = "_unproven";

/// Which set a prefix stands in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct SetId {
    pub(super) ipv4: bool,
    pub(super) len: u8,
    /// Whether it holds ports of the prefix, and not the whole of it.
    pub(super) ports: bool,
    /// Whether it holds blocks that no handshake proves.
    pub(super) unproven: bool,
}

/// What an element names: a prefix, or a port of it with the number of its transport.
pub(super) type Key = (Prefix, Option<(u8, u16)>);

impl SetId {
    /// The ones that stand from the start: single IPv4 hosts, and the /64 that one IPv6 host commands.
    pub(super) const FIRST: [SetId; 2] = [SetId::proven(true, 32), SetId::proven(false, 64)];

    const fn proven(ipv4: bool, len: u8) -> Self {
        SetId { ipv4, len, ports: false, unproven: false }
    }

    /// Where a block stands.
    pub(super) fn of(scope: Prefix, block: &Block) -> Self {
        let (ports, unproven) = (!block.ports.is_empty(), block.unproven);
        SetId { ports, unproven, ..SetId::proven(scope.is_ipv4(), scope.len()) }
    }

    /// Where a block of this scope may stand.
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

    /// From the name of a set; `None`: it is not ours.
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

    /// What an element of this set names.
    pub(super) fn key(self, bytes: &[u8]) -> Option<Key> {
        let (addr, rest): (IpAddr, _) = if self.ipv4 {
            let (addr, rest) = bytes.split_first_chunk::<4>()?;
            (Ipv4Addr::from(*addr).into(), rest)
        } else {
            let (addr, rest) = bytes.split_first_chunk::<16>()?;
            (Ipv6Addr::from(*addr).into(), rest)
        };
        let scope = Prefix::around(addr, self.len);
        // Each part of a key begins at a multiple of four bytes.
        let port = match (self.ports, rest) {
            (false, _) => None,
            (true, [transport, _, _, _, high, low, ..]) => {
                Some((*transport, u16::from_be_bytes([*high, *low])))
            }
            (true, _) => return None,
        };
        // What is not masked matches no packet; and a mapped address would be one of IPv4.
        (scope.addr() == addr).then_some((scope, port))
    }

    /// The bits of an address that count.
    pub(super) fn mask(self) -> IpAddr {
        if self.ipv4 {
            Ipv4Addr::from(u32::MAX.checked_shl(32 - u32::from(self.len)).unwrap_or(0)).into()
        } else {
            Ipv6Addr::from(u128::MAX.checked_shl(128 - u32::from(self.len)).unwrap_or(0)).into()
        }
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
                let mut key = match scope.addr() {
                    IpAddr::V4(v4) => v4.octets().to_vec(),
                    IpAddr::V6(v6) => v6.octets().to_vec(),
                };
                assert_eq!(set.key(&key).is_some(), port.is_none());
                key.extend([17, 0, 0, 0, 0, 53, 0, 0]);
                assert_eq!(set.key(&key), Some((scope, port)));
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
        assert_eq!(SetId::FIRST[0].key(&[1, 2]), None);
    }

    /// Others may put in what no packet is ever like.
    #[test]
    fn what_is_not_masked_is_no_block() {
        let network: Prefix = "192.0.2.0/24".parse().unwrap();
        assert_eq!(SetId::proven(true, 24).key(&[192, 0, 2, 0]), Some((network, None)));
        assert_eq!(SetId::proven(true, 24).key(&[192, 0, 2, 7]), None);
        let mapped = Ipv4Addr::new(192, 0, 2, 7).to_ipv6_mapped().octets();
        for len in [64, 96, 120, 128] {
            assert_eq!(SetId::proven(false, len).key(&mapped), None, "{len}");
        }
    }
}
