//! Who is in quarantine: the sets that the rules fill, read from the kernel, and the sources that are deleted from them because
//! `--allow` names them from now on, or a command asks for that. Over netlink, which asks for one element of thousands.
//!
//! The sets `brief4` to `brief_hosts6` are left out. Who is there is out of them within two seconds, before anybody reads that he
//! was there; and they are filled in a flood alone, when to list half a million takes the kernel longer than anybody waits.
//!
//! Whom the rules would put there again at once is not forgotten: which closed ports he touched stays known, and so the same
//! port again is none that puts him there.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Duration;

use nix::errno::Errno;
use psentry_linux::Error;
use psentry_nftables::{Element, Table, Transaction};
use psentry_records::Prefix;

use crate::ruleset::TABLE;

/// A set of those who are in quarantine.
struct Set {
    name: &'static str,
    /// Of how many bits of an address an element stands for.
    len: u8,
    is_ipv4: bool,
    /// Whether an element also names the interface.
    by_interface: bool,
    /// Whether an element stands for many sources, most of which did nothing.
    is_wide: bool,
}

const SETS: [Set; 5] = [
    Set { name: "quarantine4", len: 32, is_ipv4: true, by_interface: false, is_wide: false },
    Set { name: "quarantine6", len: 64, is_ipv4: false, by_interface: false, is_wide: false },
    Set { name: "quarantine_hosts6", len: 128, is_ipv4: false, by_interface: true, is_wide: false },
    Set { name: "quarantine56", len: 56, is_ipv4: false, by_interface: false, is_wide: true },
    Set { name: "quarantine48", len: 48, is_ipv4: false, by_interface: false, is_wide: true },
];

/// How many elements are deleted in one transaction.
const TOGETHER: usize = 1000;

/// What was asked of the kernel, where it refuses.
const DOING: &str = "release sources from quarantine";

/// Who is in quarantine, as addresses of IPv4 and networks of IPv6, and for how long yet; [`Duration::MAX`]: without end.
pub(crate) type Quarantined = BTreeMap<Prefix, Duration>;

/// A connection to the kernel's sets.
pub(crate) struct Quarantine(Table);

/// An element of one of the sets: the address, and the index of the interface where the set has that, too.
pub(crate) type Key = (IpAddr, Option<u32>);

impl Quarantine {
    /// Connects; whether there are such sets is not asked.
    ///
    /// # Errors
    /// When the kernel has no netlink.
    pub(crate) fn open() -> Result<Self, Error> {
        Ok(Quarantine(Table::open(TABLE)?))
    }

    /// Who is in quarantine, or with `around` whose quarantine overlaps that; nobody is where the rules are gone.
    ///
    /// # Errors
    /// When the kernel does not say it.
    pub(crate) fn list(&mut self, around: Option<Prefix>) -> Result<Quarantined, Error> {
        let mut all = Quarantined::new();
        for set in &SETS {
            for ((addr, _), left) in self.elements(set, around)? {
                // Somebody may be there on two interfaces.
                let longest = all.entry(Prefix::around(addr, set.len)).or_default();
                *longest = left.max(*longest);
            }
        }
        Ok(all)
    }

    /// Releases whom one of these prefixes names; who that was. An address names the /64 that is shut out because of it; a /56
    /// and a /48 are named by what holds all of them.
    ///
    /// # Errors
    /// When the kernel does not say who is in quarantine, or releases nobody.
    pub(crate) fn release(&mut self, named: &[Prefix]) -> Result<Vec<Prefix>, Error> {
        let around = match named {
            [] => return Ok(Vec::new()),
            [one] => Some(*one),
            _ => None,
        };
        let mut released = BTreeSet::new();
        for set in &SETS {
            let mut keys = Vec::new();
            for (key, _) in self.elements(set, around)? {
                let scope = Prefix::around(key.0, set.len);
                if named.iter().any(|prefix| names(*prefix, scope, set.is_wide)) {
                    released.insert(scope);
                    keys.push(write(key));
                }
            }
            keys.chunks(TOGETHER).try_for_each(|keys| self.delete(set.name, keys))?;
        }
        Ok(released.into_iter().collect())
    }

    /// The elements of a set, or with `around` those that overlap it. Of one address only its own element is read: to list a full
    /// set takes the kernel a second, and most who ask in a flood ask about themselves.
    fn elements(&mut self, set: &Set, around: Option<Prefix>) -> Result<Vec<(Key, Duration)>, Error> {
        let all = match around {
            Some(around) if around.is_ipv4() != set.is_ipv4 => return Ok(Vec::new()),
            Some(around) if around.len() >= set.len && !set.by_interface => {
                let key = write((Prefix::around(around.addr(), set.len).addr(), None));
                self.0.element(set.name, &key, read)?.into_iter().collect()
            }
            _ => self.0.elements(set.name, read)?,
        };
        let overlaps = |(key, _): &(Key, Duration)| {
            around.is_none_or(|around| around.overlaps(Prefix::around(key.0, set.len)))
        };
        Ok(all.into_iter().filter(overlaps).collect())
    }

    /// Deletes elements. The time of one may be over meanwhile, and then the kernel refuses all of them and does not say which
    /// it was: so they are halved until it is alone.
    fn delete(&mut self, set: &str, keys: &[Vec<u8>]) -> Result<(), Error> {
        let mut transaction = Transaction::new(TABLE);
        transaction.delete(set, keys.iter().cloned());
        match self.0.commit(DOING, transaction)? {
            Ok(()) => Ok(()),
            Err(Errno::ENOENT) if keys.len() < 2 => Ok(()),
            Err(Errno::ENOENT) => {
                let (first, second) = keys.split_at(keys.len() / 2);
                self.delete(set, first)?;
                self.delete(set, second)
            }
            Err(errno) => Err(Error::Refused { doing: DOING, errno }),
        }
    }
}

/// Whether `prefix` names what is in quarantine as `scope`; one of many sources only if it holds all of it.
fn names(prefix: Prefix, scope: Prefix, is_wide: bool) -> bool {
    prefix.overlaps(scope) && (!is_wide || prefix.len() <= scope.len())
}

/// The key of an element, and how long it stays.
pub(crate) fn read(element: Element<'_>) -> Option<(Key, Duration)> {
    let left = element.left.unwrap_or(Duration::MAX);
    let v6 = |addr: &[u8; 16]| IpAddr::V6(Ipv6Addr::from(*addr));
    let key = match element.key.len() {
        4 => (IpAddr::V4(Ipv4Addr::from(*element.key.first_chunk::<4>()?)), None),
        16 => (v6(element.key.first_chunk()?), None),
        _ => (v6(element.key.first_chunk()?), Some(u32::from_ne_bytes(*element.key.last_chunk()?))),
    };
    Some((key, left))
}

/// A key, as the kernel compares it.
pub(crate) fn write((addr, interface): Key) -> Vec<u8> {
    let mut key = match addr {
        IpAddr::V4(v4) => v4.octets().to_vec(),
        IpAddr::V6(v6) => v6.octets().to_vec(),
    };
    key.extend(interface.into_iter().flat_map(u32::to_ne_bytes));
    key
}

/// The prefixes of `after` that are not in `before`.
pub(crate) fn newly_allowed(before: &[Prefix], after: &[Prefix]) -> Vec<Prefix> {
    after.iter().filter(|prefix| !before.contains(prefix)).copied().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn prefix(text: &str) -> Prefix {
        text.parse().unwrap()
    }

    #[test]
    fn a_key_is_read_and_written() {
        let index = 7u32.to_ne_bytes();
        let link_local = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 1).octets();
        for (key, want) in [
            (vec![192, 0, 2, 7], ("192.0.2.7", None)),
            (link_local.to_vec(), ("fe80::1", None)),
            ([&link_local[..], &index].concat(), ("fe80::1", Some(7))),
        ] {
            let element = |left| Element { key: &key, left, comment: None };
            let want = (want.0.parse().unwrap(), want.1);
            assert_eq!(read(element(Some(Duration::from_secs(21)))), Some((want, Duration::from_secs(21))));
            assert_eq!(read(element(None)), Some((want, Duration::MAX)));
            assert_eq!(write(want), key);
        }
        assert_eq!(read(Element { key: &[1, 2], left: None, comment: None }), None);
    }

    #[test]
    fn whom_a_prefix_names_is_released_and_nobody_else() {
        for (named, scope, is_wide, is) in [
            ("192.0.2.7", "192.0.2.7", false, true),
            ("192.0.2.0/24", "192.0.2.7", false, true),
            ("192.0.2.8", "192.0.2.7", false, false),
            ("::/0", "192.0.2.7", false, false),
            ("2001:db8:7::9", "2001:db8:7::/64", false, true),
            ("2001:db8:7::/48", "2001:db8:7::/64", false, true),
            ("2001:db8:7::9", "2001:db8:7::8", false, false),
            // Others are shut out by these as well.
            ("2001:db8:7::9", "2001:db8:7::/56", true, false),
            ("2001:db8:7::/64", "2001:db8:7::/48", true, false),
            ("2001:db8:7::/56", "2001:db8:7::/56", true, true),
            ("2001:db8::/32", "2001:db8:7::/48", true, true),
        ] {
            assert_eq!(names(prefix(named), prefix(scope), is_wide), is, "{named} {scope}");
        }
    }

    #[test]
    fn only_what_was_not_named_before_is_new() {
        let (before, after) = ([prefix("192.0.2.7"), prefix("::1")], [prefix("::1"), prefix("192.0.2.8")]);
        assert_eq!(newly_allowed(&before, &after), [prefix("192.0.2.8")]);
    }

    /// Whoever adds a set to the rules adds it here, too.
    #[test]
    fn every_set_by_which_the_rules_refuse_is_here() {
        let asked = crate::ruleset::IN_QUARANTINE.iter().filter_map(|question| question.split_once('@'));
        let mut asked: Vec<&str> = asked.map(|(_, set)| set).collect();
        asked.retain(|set| !set.starts_with("brief"));
        let mut here = SETS.map(|set| set.name);
        asked.sort_unstable();
        here.sort_unstable();
        assert_eq!(asked, here);
    }
}
