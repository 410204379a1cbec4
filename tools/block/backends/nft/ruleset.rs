//! The ruleset of the nft backend, as text for `nft -f -`: it is made rarely, and so it may be readable. Only
//! hash sets: nft and the kernel read a whole set of intervals for each change (measured: seconds). A prefix
//! matches by its masked address in the set of its length, so that no two sets ever overlap.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use psentry_records::Prefix;

/// The table, in the family `inet`; all of it is psentry-block's.
pub(super) const TABLE: &str = "psentry";

/// Its chain.
pub(super) const CHAIN: &str = "prerouting";

/// How many elements a set holds: some 50 MB of kernel memory. The ledger's bound is reached long before.
pub(super) const SIZE: u32 = 262_144;

/// Which set a prefix stands in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct SetId {
    ipv4: bool,
    len: u8,
}

impl SetId {
    /// The ones that stand from the start: single IPv4 hosts, and the /64 that one IPv6 host commands.
    pub(super) const FIRST: [SetId; 2] = [SetId { ipv4: true, len: 32 }, SetId { ipv4: false, len: 64 }];

    pub(super) fn of(scope: Prefix) -> Self {
        SetId { ipv4: scope.is_ipv4(), len: scope.len() }
    }

    pub(super) fn name(self) -> String {
        format!("{}_{}", if self.ipv4 { "v4" } else { "v6" }, self.len)
    }

    /// From the name of a set; `None`: it is not ours.
    pub(super) fn from_name(name: &str) -> Option<Self> {
        let (ipv4, len) = match name.split_once('_')? {
            ("v4", len) => (true, len.parse().ok().filter(|len| *len <= 32)?),
            ("v6", len) => (false, len.parse().ok().filter(|len| *len <= 128)?),
            _ => return None,
        };
        let set = SetId { ipv4, len };
        // "v4_032" would be another name for the same set.
        (set.name() == name).then_some(set)
    }

    /// The prefix that an element of this set stands for.
    pub(super) fn scope(self, key: &[u8]) -> Option<Prefix> {
        let addr: IpAddr = if self.ipv4 {
            Ipv4Addr::from(*key.first_chunk::<4>()?).into()
        } else {
            Ipv6Addr::from(*key.first_chunk::<16>()?).into()
        };
        // A mapped address is in no set of ours: it would be one of IPv4.
        let scope = Prefix::around(addr, self.len);
        (SetId::of(scope) == self).then_some(scope)
    }

    /// The set. `create` fails if it is there, and with it the rule that another process has made, too.
    fn set(self) -> String {
        let kind = if self.ipv4 { "ipv4_addr" } else { "ipv6_addr" };
        format!("create set inet {TABLE} {} {{ type {kind}; flags timeout; size {SIZE}; }}\n", self.name())
    }

    /// The rule that drops what is in the set.
    fn rule(self) -> String {
        let name = self.name();
        let family = if self.ipv4 { "ip" } else { "ip6" };
        let whole = self.len == if self.ipv4 { 32 } else { 128 };
        let mask = if whole { String::new() } else { format!(" & {}", self.mask()) };
        format!("add rule inet {TABLE} {CHAIN} {family} saddr{mask} @{name} counter drop\n")
    }

    fn mask(self) -> IpAddr {
        if self.ipv4 {
            Ipv4Addr::from(u32::MAX.checked_shl(32 - u32::from(self.len)).unwrap_or(0)).into()
        } else {
            Ipv6Addr::from(u128::MAX.checked_shl(128 - u32::from(self.len)).unwrap_or(0)).into()
        }
    }
}

/// What wakes a table that sleeps: `add` without the flag.
pub(super) fn awake() -> String {
    format!("add table inet {TABLE}\n")
}

/// Everything that is not there yet: table and chain, which `add` leaves alone when they are there, sets and rules.
pub(super) fn text(sets: &BTreeSet<SetId>, rules: &BTreeSet<SetId>) -> String {
    let mut text = format!(
        "{}\
         add chain inet {TABLE} {CHAIN} {{ type filter hook prerouting priority raw; policy accept; }}\n",
        awake()
    );
    text.extend(sets.iter().map(|set| set.set()));
    text.extend(rules.iter().map(|set| set.rule()));
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_prefix_and_its_key_name_each_other() {
        for scope in ["192.0.2.7/32", "192.0.2.0/24", "198.51.96.0/20", "2001:db8::/64", "2001:db8::1/128"] {
            let scope: Prefix = scope.parse().unwrap();
            let set = SetId::of(scope);
            assert_eq!(SetId::from_name(&set.name()), Some(set));
            let key = match scope.addr() {
                IpAddr::V4(v4) => v4.octets().to_vec(),
                IpAddr::V6(v6) => v6.octets().to_vec(),
            };
            assert_eq!(set.scope(&key), Some(scope));
        }
        for name in ["", "v4_33", "v4_032", "v6_129", "v5_1", "blocked", "v4_+8", "v4_"] {
            assert_eq!(SetId::from_name(name), None, "{name}");
        }
        assert_eq!(SetId { ipv4: true, len: 32 }.scope(&[1, 2]), None);
    }

    #[test]
    fn the_ruleset_reads_like_one_written_by_hand() {
        let lengths = [(true, 32), (true, 20), (false, 64), (false, 128)];
        let sets = lengths.map(|(ipv4, len)| SetId { ipv4, len }).into();
        let rules: Vec<String> =
            text(&sets, &sets).lines().filter(|l| l.starts_with("add rule")).map(str::to_owned).collect();
        assert_eq!(
            rules,
            [
                "add rule inet psentry prerouting ip6 saddr & ffff:ffff:ffff:ffff:: @v6_64 counter drop",
                "add rule inet psentry prerouting ip6 saddr @v6_128 counter drop",
                "add rule inet psentry prerouting ip saddr & 255.255.240.0 @v4_20 counter drop",
                "add rule inet psentry prerouting ip saddr @v4_32 counter drop",
            ]
        );
    }
}
