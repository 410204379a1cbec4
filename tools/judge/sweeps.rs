//! Sweeps: when many sources of one prefix are convicted and behave alike, the prefix is blocked as a whole, for a
//! short time, after which each of its sources is only blocked for what it did itself. Only what handshakes prove counts: anybody
//! can forge packets from a whole network.
//!
//! There are several sizes of prefixes, one within another, such as /56 and /48. A prefix is blocked when its sources are in
//! many of its parts, which are the prefixes of the next narrower size: so the sources of one customer's /56 have that
//! blocked, and only those of many customers the /48 of their provider.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use psentry_records::{Prefix, Timestamp};
use serde::{Deserialize, Serialize};

use crate::policy::SweepPolicy;

/// How many prefixes are watched; the one in which nobody was convicted for longest is forgotten first.
const MAX_PREFIXES: usize = 4096;

/// How many convicted sources of one prefix are remembered.
const MAX_MEMBERS: usize = 256;

/// One convicted source of a prefix.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Member {
    /// The source.
    pub scope: Prefix,
    /// When its conviction ends.
    pub until: Timestamp,
    /// Which ports it touched, each a bit of 64.
    pub ports: u64,
}

/// What is known of one prefix.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Sweep {
    members: Vec<Member>,
    last: Timestamp,
    /// Until when it is blocked as a whole.
    until: Option<Timestamp>,
}

/// All prefixes in which sources were convicted.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct SweepTable {
    entries: BTreeMap<Prefix, Sweep>,
    /// Those that changed since the journal was last written.
    changed: BTreeSet<Prefix>,
}

/// A prefix that is to be blocked as a whole.
#[derive(Clone, Debug, PartialEq)]
pub struct DuePrefix {
    /// The widest that is due.
    pub prefix: Prefix,
    /// How many of its sources were convicted and behaved alike.
    pub sources: usize,
    /// In how many of its parts they are, and how long the prefix of a part is; of the narrowest size a part is a source.
    pub parts: (usize, u8),
}

/// A set of ports in 64 bits, a bit for each by a hash: good enough to see whether two sets are alike.
pub(crate) fn port_bitmap(ports: impl Iterator<Item = u16>) -> u64 {
    ports.fold(0, |bits, port| bits | 1 << (u32::from(port).wrapping_mul(0x9e37_79b1) >> 26))
}

/// Whether most of what one of them did the other did too.
fn similar(one: u64, other: u64) -> bool {
    (one & other).count_ones() * 2 >= one.count_ones().min(other.count_ones()).max(1)
}

/// The prefixes around that scope that may be blocked as a whole, the narrowest first, each with the length of its parts.
fn parents(policy: &SweepPolicy, scope: Prefix) -> impl Iterator<Item = (Prefix, u8)> {
    let lens = if scope.is_ipv4() { &policy.ipv4 } else { &policy.ipv6 };
    let wider = lens.iter().copied().filter(move |&len| len < scope.len());
    wider.scan(scope.len(), move |part, len| {
        let parent = (Prefix::around(scope.addr(), len), *part);
        *part = len;
        Some(parent)
    })
}

/// How many different prefixes of that length hold these sources.
fn parts<'a>(sources: impl Iterator<Item = &'a Member>, len: u8) -> usize {
    let mut parts: Vec<Prefix> = sources.map(|member| Prefix::around(member.scope.addr(), len)).collect();
    parts.sort_unstable();
    parts.dedup();
    parts.len()
}

impl SweepTable {
    /// Releases the blocked prefixes around that scope, and returns them.
    pub(crate) fn release(&mut self, policy: &SweepPolicy, scope: Prefix, now: Timestamp) -> Vec<Prefix> {
        let mut released = Vec::new();
        for (prefix, _) in parents(policy, scope) {
            if let Some(sweep) = self.entries.get_mut(&prefix)
                && sweep.until.take().is_some_and(|until| until > now)
            {
                released.push(prefix);
                self.changed.insert(prefix);
            }
        }
        released
    }

    /// Forgets a prefix, if it is blocked as a whole; says whether it was.
    pub(crate) fn forget(&mut self, prefix: Prefix) -> bool {
        let blocked = self.entries.get(&prefix).is_some_and(|sweep| sweep.until.is_some());
        if blocked {
            self.entries.remove(&prefix);
            self.changed.insert(prefix);
        }
        blocked
    }

    /// The clock was set back by `step`: what it dated in what is the future now happened so much earlier. A prefix that is
    /// blocked from then is released here, for its end cannot be told, and may be blocked again.
    pub(crate) fn clock_set_back(&mut self, now: Timestamp, step: Duration) {
        for (&prefix, sweep) in &mut self.entries {
            if sweep.last > now {
                sweep.until = None;
                sweep.last = sweep.last.minus(step);
                for member in &mut sweep.members {
                    member.until = member.until.minus(step);
                }
                self.changed.insert(prefix);
            }
        }
    }

    /// Adds a source that handshakes convicted. Which prefix around it is due, if one is that may be blocked: `needed`
    /// sources that behave alike make it so, in as many of its parts, or in all of them where it has fewer.
    pub fn add(
        &mut self,
        policy: &SweepPolicy,
        needed: usize,
        source: Member,
        now: Timestamp,
        may_be_blocked: impl Fn(Prefix) -> bool,
    ) -> Option<DuePrefix> {
        let Member { scope, ports, .. } = source;
        if policy.sources == 0 {
            return None;
        }
        let mut due = None;
        for (prefix, part) in parents(policy, scope) {
            self.make_room(prefix);
            let sweep =
                self.entries.entry(prefix).or_insert(Sweep { members: Vec::new(), last: now, until: None });
            sweep.members.retain(|member| member.until > now && member.scope != scope);
            if sweep.members.len() >= MAX_MEMBERS {
                sweep.members.remove(0);
            }
            sweep.members.push(source);
            sweep.last = sweep.last.max(now);
            self.changed.insert(prefix);
            let alike = || sweep.members.iter().filter(|member| similar(member.ports, ports));
            let sources = alike().count();
            if sources < needed || sweep.until.is_some_and(|until| until > now) {
                continue;
            }
            let parts = parts(alike(), part);
            let all_parts = 1usize << (part - prefix.len()).min(20);
            let blocked =
                || self.entries.values().filter(|sweep| sweep.until.is_some_and(|until| until > now));
            if parts >= needed.min(all_parts) && blocked().count() < policy.most && may_be_blocked(prefix) {
                // The widest that is due holds the others.
                due = Some(DuePrefix { prefix, sources, parts: (parts, part) });
            }
        }
        due
    }

    /// A prefix is blocked as a whole from now on.
    pub fn set_blocked(&mut self, prefix: Prefix, until: Timestamp) {
        if let Some(sweep) = self.entries.get_mut(&prefix) {
            sweep.until = Some(until);
            self.changed.insert(prefix);
        }
    }

    fn make_room(&mut self, prefix: Prefix) {
        if self.entries.len() >= MAX_PREFIXES && !self.entries.contains_key(&prefix) {
            let oldest = self.entries.iter().min_by_key(|(_, sweep)| sweep.last).map(|(&prefix, _)| prefix);
            if let Some(oldest) = oldest {
                self.entries.remove(&oldest);
                self.changed.insert(oldest);
            }
        }
    }

    /// All prefixes in which sources were convicted, in order.
    pub fn iter(&self) -> impl Iterator<Item = (&Prefix, &Sweep)> {
        self.entries.iter()
    }

    /// What changed since the last call; `None`: it was forgotten.
    pub(crate) fn drain_changes(&mut self) -> Vec<(Prefix, Option<Sweep>)> {
        let changed = std::mem::take(&mut self.changed);
        changed.into_iter().map(|prefix| (prefix, self.entries.get(&prefix).cloned())).collect()
    }

    pub(crate) fn restore(&mut self, prefix: Prefix, sweep: Option<Sweep>) {
        match sweep {
            Some(mut sweep) if self.entries.len() < MAX_PREFIXES || self.entries.contains_key(&prefix) => {
                sweep.members.truncate(MAX_MEMBERS);
                self.entries.insert(prefix, sweep)
            }
            Some(_) => None,
            None => self.entries.remove(&prefix),
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn policy() -> SweepPolicy {
        let duration = std::time::Duration::from_secs(3600);
        SweepPolicy { sources: 3, ipv4: vec![28, 24], ipv6: vec![56, 48], duration, most: 2, inside: false }
    }

    fn at(secs: u64) -> Timestamp {
        Timestamp::from_secs(1_700_000_000 + secs).unwrap()
    }

    fn convict(table: &mut SweepTable, scope: &str, ports: &[u16], secs: u64) -> Option<String> {
        let ports = port_bitmap(ports.iter().copied());
        let scope = scope.parse().unwrap();
        let source = Member { scope, ports, until: at(secs + 3600) };
        let due = table.add(&policy(), 3, source, at(secs), |_| true)?;
        table.set_blocked(due.prefix, at(secs + 3600));
        Some(format!("{} {}", due.prefix, due.sources))
    }

    #[test]
    fn sources_that_behave_alike_widen_to_their_prefix_once() {
        let mut table = SweepTable::default();
        assert_eq!(convict(&mut table, "192.0.2.1", &[23, 2323], 0), None);
        assert_eq!(convict(&mut table, "192.0.2.1", &[23, 2323], 1), None, "one source counts once");
        assert_eq!(convict(&mut table, "192.0.2.2", &[445, 139], 2), None);
        assert_eq!(convict(&mut table, "192.0.2.3", &[23, 2323], 3), None);
        assert_eq!(convict(&mut table, "192.0.3.3", &[23, 2323], 3), None);
        assert_eq!(convict(&mut table, "192.0.2.4", &[23, 2323], 4).as_deref(), Some("192.0.2.0/28 3"));
        assert_eq!(convict(&mut table, "192.0.2.5", &[23, 2323], 5), None);
        let mut release =
            |scope: &str, secs| table.release(&policy(), scope.parse().unwrap(), at(secs)).len();
        assert_eq!(
            (release("192.0.2.200", 10), release("192.0.2.15", 10), release("192.0.2.15", 10)),
            (0, 1, 0)
        );
    }

    #[test]
    fn ipv6_widens_to_the_widest_that_is_due() {
        let mut table = SweepTable::default();
        assert_eq!(convict(&mut table, "2001:db8:0:100::/64", &[23], 0), None);
        assert_eq!(convict(&mut table, "2001:db8:0:200::/64", &[23], 1), None);
        assert_eq!(convict(&mut table, "2001:db8:0:300::/64", &[23], 2).as_deref(), Some("2001:db8::/48 3"));
    }

    /// The prefixes that are due, one after another, for so many sources, each next to the one before by `step`.
    fn due(first: &str, step: u128, sources: u128) -> Vec<String> {
        let mut table = SweepTable::default();
        let scope = |n: u128| match first.parse().unwrap() {
            std::net::IpAddr::V4(addr) => {
                std::net::Ipv4Addr::from(u32::from(addr) + (n * step) as u32).to_string()
            }
            std::net::IpAddr::V6(addr) => {
                format!("{}/64", std::net::Ipv6Addr::from(u128::from(addr) + ((n * step) << 64)))
            }
        };
        (0..sources).filter_map(|n| convict(&mut table, &scope(n), &[23], n as u64)).collect()
    }

    #[test]
    fn many_sources_of_one_part_have_only_that_part_blocked() {
        assert_eq!(due("2001:db8::", 1, 200), ["2001:db8::/56 3"], "one customer's /56");
        assert_eq!(due("2001:db8::", 0x100, 3), ["2001:db8::/48 3"], "one /64 each of three customers");
        // Two full parts are no three.
        assert_eq!(due("2001:db8::", 1, 512), ["2001:db8::/56 3", "2001:db8:0:100::/56 3"]);
        assert_eq!(due("2001:db8::", 128, 4), [""; 0], "three sources of two parts, and one more");
        assert_eq!(due("2001:db8::", 128, 5), ["2001:db8::/48 5"]);
        assert_eq!(due("192.0.2.0", 1, 16), ["192.0.2.0/28 3"]);
        assert_eq!(due("192.0.2.0", 16, 3), ["192.0.2.0/24 3"]);
    }

    fn member(scope: &str) -> Member {
        Member { scope: scope.parse().unwrap(), until: at(3600), ports: 1 }
    }

    #[test]
    fn a_wide_prefix_that_may_not_be_blocked_keeps_no_narrow_one_from_it() {
        let mut table = SweepTable::default();
        let mut add = |scope: &str| {
            let may = |prefix: Prefix| prefix.len() > 48;
            table.add(&policy(), 3, member(scope), at(0), may).map(|due| due.prefix)
        };
        for net in ["100", "200", "300", "301"] {
            assert_eq!(add(&format!("2001:db8:0:{net}::/64")), None);
        }
        assert_eq!(add("2001:db8:0:302::/64"), Some("2001:db8:0:300::/56".parse().unwrap()));
    }

    #[test]
    fn a_prefix_of_few_parts_takes_all_of_them_and_as_many_sources_as_any() {
        let mut table = SweepTable::default();
        let policy = SweepPolicy { ipv4: vec![25, 24], ..policy() };
        let mut add =
            |scope: &str| table.add(&policy, 3, member(scope), at(0), |_| true).map(|due| due.parts);
        assert_eq!((add("192.0.2.1"), add("192.0.2.129")), (None, None));
        assert_eq!(add("192.0.2.2"), Some((2, 25)));
    }

    #[test]
    fn convictions_that_ended_do_not_count_and_prefixes_are_bounded() {
        let mut table = SweepTable::default();
        for (n, secs) in [(1, 0), (2, 1800), (3, 3700)] {
            assert_eq!(convict(&mut table, &format!("192.0.2.{n}"), &[23], secs), None);
        }
        for n in 0..5000u32 {
            let scope = std::net::Ipv4Addr::from(0x0a00_0000 + n * 256);
            convict(&mut table, &scope.to_string(), &[23], 4000 + u64::from(n));
        }
        assert_eq!(table.entries.len(), MAX_PREFIXES);
    }
}
