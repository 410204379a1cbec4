//! The sets of ipset that blocks are in: their names, how they are made, and the times that their elements are given.

use std::path::Path;
use std::time::Duration;

use psentry_linux::SetElement;
use psentry_records::{Prefix, Timestamp};

use crate::backends::set_elements;
use crate::block::{Block, Entry};

/// How many entries a set holds.
pub(super) const SIZE: u32 = 262_144;

/// The longest timeout of ipset, in seconds.
const LONGEST: u64 = 2_147_483;

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

/// The arguments with which ipset makes a set. units/psentry-ipset-sets.service makes the same ones.
pub(super) fn creation(name: &str, ipv4: bool) -> String {
    let kind = if is_of_ports(name) { "hash:net,port" } else { "hash:net" };
    let family = if ipv4 { "inet" } else { "inet6" };
    format!("-exist create {name} {kind} family {family} timeout 0 maxelem {SIZE} comment")
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
