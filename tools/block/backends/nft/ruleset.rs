//! The ruleset of the nft backend, as text for `nft -f -`: it is made rarely, and so it may be readable. Only
//! hash sets: nft and the kernel read a whole set of intervals for each change (measured: seconds). A prefix
//! matches by its masked address in the set of its length, so that no two sets ever overlap. `layout.rs` decides which
//! chains and rules there are.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use psentry_records::Prefix;

use super::layout::{Does, Hook, Rule, Work};

/// The table, in the family `inet`; all of it is psentry-block's.
pub(super) const TABLE: &str = "psentry";

/// What the table says of itself.
const ADVICE: &str = "kept by psentry-block(8), which mends it; 'psentry-block unblock CIDR' ends one block, 'psentry-block flush' all";

/// What the rule says that lets connections go on; it is known by that.
pub(super) const SPARED: &str = "connections that stand go on";

/// How many elements a set holds: some 50 MB of kernel memory. The ledger's bound is reached long before.
pub(super) const SIZE: u32 = 262_144;

/// Which set a prefix stands in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct SetId {
    ipv4: bool,
    len: u8,
    /// Whether it holds ports of the prefix, and not the whole of it.
    ports: bool,
}

/// What an element names: a prefix, or a port of it with the number of its transport.
pub(super) type Key = (Prefix, Option<(u8, u16)>);

impl SetId {
    /// The ones that stand from the start: single IPv4 hosts, and the /64 that one IPv6 host commands.
    pub(super) const FIRST: [SetId; 2] =
        [SetId { ipv4: true, len: 32, ports: false }, SetId { ipv4: false, len: 64, ports: false }];

    /// Where the whole of a prefix stands.
    pub(super) fn of(scope: Prefix) -> Self {
        SetId { ipv4: scope.is_ipv4(), len: scope.len(), ports: false }
    }

    /// Where its ports stand.
    pub(super) fn of_ports(scope: Prefix) -> Self {
        SetId { ports: true, ..SetId::of(scope) }
    }

    pub(super) fn name(self) -> String {
        let family = if self.ipv4 { "v4" } else { "v6" };
        format!("{family}_{}{}", self.len, if self.ports { "_ports" } else { "" })
    }

    /// From the name of a set; `None`: it is not ours.
    pub(super) fn from_name(name: &str) -> Option<Self> {
        let (prefix, ports) = name.strip_suffix("_ports").map_or((name, false), |prefix| (prefix, true));
        let (ipv4, len) = match prefix.split_once('_')? {
            ("v4", len) => (true, len.parse().ok().filter(|len| *len <= 32)?),
            ("v6", len) => (false, len.parse().ok().filter(|len| *len <= 128)?),
            _ => return None,
        };
        let set = SetId { ipv4, len, ports };
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
        // A mapped address is in no set of ours: it would be one of IPv4.
        (SetId::of(scope) == SetId { ports: false, ..self }).then_some((scope, port))
    }

    /// The set. `create` fails if it is there, and with it the rule that another process has made, too.
    fn set(self) -> String {
        let addr = if self.ipv4 { "ipv4_addr" } else { "ipv6_addr" };
        let kind = if self.ports { format!("{addr} . inet_proto . inet_service") } else { addr.to_owned() };
        format!("create set inet {TABLE} {} {{ type {kind}; flags timeout; size {SIZE}; }}\n", self.name())
    }

    /// What of a packet is looked up in the set: where it comes from, or where it goes.
    fn lookup(self, hook: Hook) -> String {
        let family = if self.ipv4 { "ip" } else { "ip6" };
        let whole = self.len == if self.ipv4 { 32 } else { 128 };
        let mask = if whole { String::new() } else { format!(" & {}", self.mask()) };
        let (addr, port) = if hook.is_egress() { ("daddr", "sport") } else { ("saddr", "dport") };
        let ports = if self.ports { format!(" . meta l4proto . th {port}") } else { String::new() };
        format!("{family} {addr}{mask}{ports} @{}", self.name())
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

impl Rule {
    fn text(self) -> String {
        let chain = format!("rule inet {TABLE} {}", self.hook.name());
        let lookup = |set: SetId| set.lookup(self.hook);
        match self.does {
            Does::Spare => {
                format!("insert {chain} ct state established,related accept comment \"{SPARED}\"\n")
            }
            Does::Drop(set) => format!("add {chain} {} counter drop\n", lookup(set)),
            Does::Reset(set) => {
                format!("add {chain} meta l4proto tcp {} counter reject with tcp reset\n", lookup(set))
            }
            Does::Refuse(set) => {
                format!("add {chain} {} counter reject with icmpx admin-prohibited\n", lookup(set))
            }
        }
    }
}

/// What has to be done, in one transaction: the table, which `add` leaves alone when it is there; then what goes, and
/// what comes. `comments`: whether nft knows comments of tables.
pub(super) fn text(work: &Work, comments: bool) -> String {
    let advice = if comments { format!(" {{ comment \"{ADVICE}\"; }}") } else { String::new() };
    let mut text = format!("add table inet {TABLE}{advice}\n");
    for (hook, handle) in &work.wrong_rules {
        text.push_str(&format!("delete rule inet {TABLE} {} handle {handle}\n", hook.name()));
    }
    for hook in &work.wrong_chains {
        let name = hook.name();
        text.push_str(&format!("flush chain inet {TABLE} {name}\ndelete chain inet {TABLE} {name}\n"));
    }
    for (hook, priority) in &work.chains {
        let name = hook.name();
        text.push_str(&format!(
            "add chain inet {TABLE} {name} {{ type filter hook {name} priority {priority}; policy accept; }}\n"
        ));
    }
    text.extend(work.sets.iter().map(|set| set.set()));
    text.extend(work.rules.iter().map(|rule| rule.text()));
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::extent::{Answer, Extent, Standing};
    use std::collections::BTreeSet;

    #[test]
    fn a_prefix_and_its_key_name_each_other() {
        for scope in ["192.0.2.7/32", "192.0.2.0/24", "198.51.96.0/20", "2001:db8::/64", "2001:db8::1/128"] {
            let scope: Prefix = scope.parse().unwrap();
            for (set, port) in [(SetId::of(scope), None), (SetId::of_ports(scope), Some((17, 53)))] {
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
        for name in
            ["", "v4_33", "v4_032", "v6_129", "v5_1", "blocked", "v4_+8", "v4_", "v4_32_port", "_ports"]
        {
            assert_eq!(SetId::from_name(name), None, "{name}");
        }
        assert_eq!(SetId::FIRST[0].key(&[1, 2]), None);
    }

    /// The chains and rules for these scopes, and for ports of the last.
    fn lines(extent: Extent, scopes: &[&str]) -> Vec<String> {
        let scopes: Vec<Prefix> = scopes.iter().map(|scope| scope.parse().unwrap()).collect();
        let mut sets: BTreeSet<SetId> = scopes.iter().map(|scope| SetId::of(*scope)).collect();
        sets.extend(scopes.last().map(|scope| SetId::of_ports(*scope)));
        let work = Work::new(extent, &sets, &sets, &Default::default());
        let text = text(&work, false);
        let of = |line: &&str| line.contains(" rule ") || line.contains(" chain ");
        text.lines().filter(of).map(|line| line.replace("inet psentry ", "")).collect()
    }

    #[test]
    fn the_ruleset_reads_like_one_written_by_hand() {
        let scopes = ["198.51.96.0/20", "2001:db8::/64", "2001:db8::1/128", "192.0.2.7/32"];
        assert_eq!(
            lines(Extent::default(), &scopes),
            [
                "add chain prerouting { type filter hook prerouting priority -300; policy accept; }",
                "add rule prerouting ip6 saddr & ffff:ffff:ffff:ffff:: @v6_64 counter drop",
                "add rule prerouting ip6 saddr @v6_128 counter drop",
                "add rule prerouting ip saddr & 255.255.240.0 @v4_20 counter drop",
                "add rule prerouting ip saddr @v4_32 counter drop",
                "add rule prerouting ip saddr . meta l4proto . th dport @v4_32_ports counter drop",
            ]
        );
    }

    #[test]
    fn each_flag_has_its_rules() {
        let extent = Extent { answer: Answer::Reject, forward: false, ..Extent::default() };
        assert_eq!(
            lines(extent, &["192.0.2.0/24"]),
            [
                "add chain input { type filter hook input priority -300; policy accept; }",
                "add rule input meta l4proto tcp ip saddr & 255.255.255.0 @v4_24 counter reject with tcp reset",
                "add rule input meta l4proto tcp ip saddr & 255.255.255.0 . meta l4proto . th dport @v4_24_ports \
                 counter reject with tcp reset",
                "add rule input ip saddr & 255.255.255.0 @v4_24 counter reject with icmpx admin-prohibited",
                "add rule input ip saddr & 255.255.255.0 . meta l4proto . th dport @v4_24_ports counter reject with \
                 icmpx admin-prohibited",
            ]
        );
        let extent = Extent { egress: true, standing: Standing::Spared, ..Extent::default() };
        assert_eq!(
            lines(extent, &["192.0.2.7"]),
            [
                "add chain prerouting { type filter hook prerouting priority -190; policy accept; }",
                "add chain postrouting { type filter hook postrouting priority -300; policy accept; }",
                "insert rule prerouting ct state established,related accept comment \"connections that stand go on\"",
                "add rule prerouting ip saddr @v4_32 counter drop",
                "add rule prerouting ip saddr . meta l4proto . th dport @v4_32_ports counter drop",
                "insert rule postrouting ct state established,related accept comment \"connections that stand go on\"",
                "add rule postrouting ip daddr @v4_32 counter drop",
                "add rule postrouting ip daddr . meta l4proto . th sport @v4_32_ports counter drop",
            ]
        );
        let extent = Extent { egress: true, forward: false, ..extent };
        assert_eq!(
            lines(extent, &["192.0.2.7"])[1],
            "add chain output { type filter hook output priority -190; policy accept; }"
        );
    }

    #[test]
    fn the_table_says_whose_it_is_within_what_nft_takes() {
        assert!(ADVICE.len() <= 127 && SPARED.len() <= 127);
        assert!(text(&Work::default(), true).contains("{ comment \"kept by psentry-block(8)"));
        assert_eq!(text(&Work::default(), false), "add table inet psentry\n");
    }
}
