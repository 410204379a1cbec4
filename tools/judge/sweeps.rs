//! Sweeps: when many sources of one prefix are convicted and behave alike, the prefix is blocked as a whole, for a
//! short time, after which each of its sources is only blocked for what it did itself. Only what handshakes prove counts: anybody
//! can forge packets from a whole network.

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
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Member {
    scope: Prefix,
    until: Timestamp,
    /// Which ports it touched, each a bit of 64.
    ports: u64,
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
}

/// A set of ports in 64 bits, a bit for each by a hash: good enough to see whether two sets are alike.
pub(crate) fn port_bitmap(ports: impl Iterator<Item = u16>) -> u64 {
    ports.fold(0, |bits, port| bits | 1 << (u32::from(port).wrapping_mul(0x9e37_79b1) >> 26))
}

/// Whether most of what one of them did the other did too.
fn similar(one: u64, other: u64) -> bool {
    (one & other).count_ones() * 2 >= one.count_ones().min(other.count_ones()).max(1)
}

/// The prefixes around that scope that may be blocked as a whole.
pub(crate) fn parents(policy: &SweepPolicy, scope: Prefix) -> impl Iterator<Item = Prefix> {
    let lens: Vec<u8> = if scope.is_ipv4() { vec![policy.ipv4] } else { policy.ipv6.clone() };
    lens.into_iter().filter(move |&len| len < scope.len()).map(move |len| Prefix::around(scope.addr(), len))
}

impl SweepTable {
    /// Releases the blocked prefixes around that scope, and returns them.
    pub(crate) fn release(&mut self, policy: &SweepPolicy, scope: Prefix, now: Timestamp) -> Vec<Prefix> {
        let mut released = Vec::new();
        for prefix in parents(policy, scope) {
            if let Some(sweep) = self.entries.get_mut(&prefix)
                && sweep.until.take().is_some_and(|until| until > now)
            {
                released.push(prefix);
                self.changed.insert(prefix);
            }
        }
        released
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

    /// Adds a source that handshakes convicted. Which prefix around it is due, if one is: `needed` sources that behave
    /// alike make it so.
    pub fn add(
        &mut self,
        policy: &SweepPolicy,
        needed: usize,
        scope: Prefix,
        ports: u64,
        until: Timestamp,
        now: Timestamp,
    ) -> Option<DuePrefix> {
        if policy.sources == 0 {
            return None;
        }
        let mut due = None;
        for prefix in parents(policy, scope) {
            self.make_room(prefix);
            let sweep =
                self.entries.entry(prefix).or_insert(Sweep { members: Vec::new(), last: now, until: None });
            sweep.members.retain(|member| member.until > now && member.scope != scope);
            if sweep.members.len() >= MAX_MEMBERS {
                sweep.members.remove(0);
            }
            sweep.members.push(Member { scope, until, ports });
            sweep.last = sweep.last.max(now);
            self.changed.insert(prefix);
            let sources = sweep.members.iter().filter(|member| similar(member.ports, ports)).count();
            let blocked_already = sweep.until.is_some_and(|until| until > now);
            let blocked =
                || self.entries.values().filter(|sweep| sweep.until.is_some_and(|until| until > now));
            if sources >= needed && !blocked_already && blocked().count() < policy.most {
                // The widest that is due holds the others.
                due = Some(DuePrefix { prefix, sources });
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
        SweepPolicy { sources: 3, ipv4: 24, ipv6: vec![56, 48], duration, most: 2, inside: false }
    }

    fn at(secs: u64) -> Timestamp {
        Timestamp::from_secs(1_700_000_000 + secs).unwrap()
    }

    fn convict(table: &mut SweepTable, scope: &str, ports: &[u16], secs: u64) -> Option<String> {
        let ports = port_bitmap(ports.iter().copied());
        let scope = scope.parse().unwrap();
        let due = table.add(&policy(), 3, scope, ports, at(secs + 3600), at(secs))?;
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
        assert_eq!(convict(&mut table, "192.0.2.4", &[23, 2323], 4).as_deref(), Some("192.0.2.0/24 3"));
        assert_eq!(convict(&mut table, "192.0.2.5", &[23, 2323], 5), None);
        let mut release =
            |scope: &str, secs| table.release(&policy(), scope.parse().unwrap(), at(secs)).len();
        assert_eq!(
            (release("192.0.3.200", 10), release("192.0.2.200", 10), release("192.0.2.200", 10)),
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
