//! The sets of ipset that blocks are in: their names, how they are made and destroyed, the times that their elements are given,
//! and how many elements one should have by now.

use std::collections::BTreeMap;
use std::path::Path;
use std::thread;
use std::time::Duration;

use psentry_linux::{Error as Below, IpSets, SetElement};
use psentry_records::{Prefix, Timestamp};

use super::NAME;
use crate::backends::{failed, installed, set_elements};
use crate::block::{Block, Entry};
use crate::error::Error;

/// How many entries a set holds.
pub(super) const SIZE: u32 = 262_144;

/// The longest timeout of ipset, in seconds.
const LONGEST: u64 = 2_147_483;

/// How long a set may still be in use after the last rule that matched it is gone.
const TRIES: u32 = 20;
const PAUSE: Duration = Duration::from_millis(100);

/// How far off an expiry may be: the kernel is given whole seconds.
const SLACK: Duration = Duration::from_secs(2);

/// All sets of a family: for whole scopes and for single ports, of what is proven; and of what is not.
pub(super) fn sets(ipv4: bool) -> [&'static str; 4] {
    if ipv4 {
        ["psentry4", "psentry4_ports", "psentry4_unproven", "psentry4_unproven_ports"]
    } else {
        ["psentry6", "psentry6_ports", "psentry6_unproven", "psentry6_unproven_ports"]
    }
}

/// The set of a family for whole scopes, or for single ports; of what is proven, or not.
pub(super) fn set(ipv4: bool, ports: bool, unproven: bool) -> &'static str {
    let [whole, some, unproven_whole, unproven_some] = sets(ipv4);
    match (ports, unproven) {
        (false, false) => whole,
        (true, false) => some,
        (false, true) => unproven_whole,
        (true, true) => unproven_some,
    }
}

/// Whether a set is one for single ports.
pub(super) fn is_of_ports(set: &str) -> bool {
    set.ends_with("_ports")
}

/// Whether a set is one of what is not proven.
pub(super) fn is_unproven(set: &str) -> bool {
    set.contains("_unproven")
}

/// The set that a block is in.
pub(super) fn set_of(scope: Prefix, block: &Block) -> &'static str {
    set(scope.is_ipv4(), !block.ports.is_empty(), block.unproven)
}

/// The seconds that ipset is given. To it 0 means: for ever; so what ends right now gets one.
pub(super) fn seconds(block: &Block, now: Timestamp) -> u32 {
    let left = block.seconds_left(now).map_or(0, |left| left.clamp(1, LONGEST));
    u32::try_from(left).unwrap_or(u32::MAX)
}

/// What an element of a set means; `None`: it is of a transport that is none of ours.
pub(super) fn entry(set: &str, element: &SetElement, now: Timestamp) -> Option<Entry> {
    let seconds = u64::from(element.seconds);
    let expires = (seconds > 0).then(|| now.plus(Duration::from_secs(seconds)));
    let (comment, longest) = (element.comment.as_deref(), Duration::from_secs(LONGEST));
    let mut entry = set_elements::entry(element.key, expires, comment, now, longest)?;
    // The set decides what it does, whatever its note says.
    entry.unproven = is_unproven(set);
    entry.damaged |= element.exception;
    Some(entry)
}

/// Makes a set.
pub(super) fn make(name: &str, ipv4: bool) -> Result<(), Error> {
    let command = creation(name, ipv4);
    run(&command.split(' ').collect::<Vec<_>>())
}

/// Destroys a set, if it is there, once no packet is on its way any more through a rule that is gone.
pub(super) fn destroy(sets: &mut IpSets, name: &str) -> Result<(), Error> {
    let mut tries = 0;
    while sets.header(name).map_err(failed(NAME))?.is_some() {
        match run(&["destroy", name]) {
            Err(_) if tries < TRIES => {
                tries += 1;
                thread::sleep(PAUSE);
            }
            result => return result,
        }
    }
    Ok(())
}

fn run(args: &[&str]) -> Result<(), Error> {
    installed(NAME, NAME)?.run_checked(args, b"").map(drop).map_err(|error| match error {
        Below::Program { stderr, .. } if stderr.contains("Operation not permitted") => {
            Error::NotPermitted { backend: NAME }
        }
        error => error.into(),
    })
}

/// The arguments with which ipset makes a set. units/psentry-ipset-sets.service makes the same ones.
fn creation(name: &str, ipv4: bool) -> String {
    let kind = if is_of_ports(name) { "hash:net,port" } else { "hash:net" };
    let family = if ipv4 { "inet" } else { "inet6" };
    format!("-exist create {name} {kind} family {family} timeout 0 maxelem {SIZE} comment")
}

/// The number of entries of one set. Should it be wrong, because the clock was set or because an entry was not there that was
/// thought to be, the set is only listed once more.
#[derive(Debug, Default)]
pub(super) struct Expected {
    entries: i64,
    /// How many of them end in which second.
    ends: BTreeMap<u64, i64>,
}

impl Expected {
    /// So many entries more (or less, if negative) that end then.
    pub(super) fn add(&mut self, count: i64, until: Option<Timestamp>) {
        self.entries += count;
        if let Some(until) = until {
            *self.ends.entry(until.secs_ceil()).or_default() += count;
        }
    }

    /// Whether a set that has so many entries now was changed by nobody else.
    pub(super) fn explains(&mut self, entries: u32, now: Timestamp) -> bool {
        let (over, soon) = (now.minus(SLACK).secs_ceil(), now.plus(SLACK).secs_ceil());
        let later = self.ends.split_off(&over);
        self.entries -= std::mem::replace(&mut self.ends, later).values().sum::<i64>();
        let maybe: i64 = self.ends.range(..=soon).map(|(_, count)| count).sum();
        (self.entries - maybe..=self.entries).contains(&entries.into())
    }
}

/// Where netfilter-persistent and the like keep rules. Only root may read most of them, so that it counts that they are there.
const SAVED: [&str; 5] = [
    "etc/iptables/rules.v4",
    "etc/iptables/rules.v6",
    "etc/iptables/iptables.rules",
    "etc/sysconfig/iptables",
    "etc/sysconfig/ip6tables",
];

/// What has the unit started at boot: enabled, or by psentry-generator.
const WANTED: [&str; 3] = ["etc/systemd/system", "run/systemd/generator", "usr/lib/systemd/system"];

/// Whether rules that somebody saves now would not be loaded at boot, because they match sets that are not there by then: what to
/// do about it, as a sentence.
pub(super) fn saved_rules_warning(root: &Path) -> Option<String> {
    let saved = SAVED.into_iter().find(|file| root.join(file).exists())?;
    let link = "sysinit.target.wants/psentry-ipset-sets.service";
    let made_before = WANTED.into_iter().any(|directory| root.join(directory).join(link).is_symlink());
    (!made_before).then(|| {
        format!(
            "/{saved} is there: if rules are saved while psentry runs, they match its sets, and no rule is loaded at boot without \
             these; enable psentry-ipset-sets.service, or delete psentry's lines from what is saved"
        )
    })
}

#[cfg(test)]
mod tests;
