//! Entries of a set as lines of `ipset save` and `ipset restore`. Reads and writes text, runs nothing.

use std::time::Duration;

use psentry_records::{Prefix, Timestamp};

use super::listed::{named, transport_name};
use crate::backend::{Block, Entry};
use crate::note;

/// The longest timeout of ipset, in seconds.
pub(super) const LONGEST: u64 = 2_147_483;

/// The set of a family.
pub(super) fn set(ipv4: bool) -> &'static str {
    if ipv4 { "psentry4" } else { "psentry6" }
}

/// The one for single ports.
pub(super) fn set_of_ports(ipv4: bool) -> &'static str {
    if ipv4 { "psentry4_ports" } else { "psentry6_ports" }
}

/// Whether a set is one for single ports.
pub(super) fn is_of_ports(set: &str) -> bool {
    set == set_of_ports(true) || set == set_of_ports(false)
}

/// The lines that block. To ipset a timeout of 0 means: for ever. Of whom only ports are to be shut, the whole is not.
pub(super) fn add(ipv4: bool, scope: Prefix, block: &Block, now: Timestamp) -> String {
    let timeout = block.seconds_left(now).map_or(0, |left| left.clamp(1, LONGEST));
    let end = format!("timeout {timeout} comment \"{}\"\n", note::write(block));
    if block.ports.is_empty() {
        return format!("add {} {scope} {end}", set(ipv4));
    }
    let mut lines = format!("del {} {scope}\n", set(ipv4));
    for name in block.transports().iter().filter_map(|number| transport_name(*number)) {
        for port in &block.ports {
            lines.push_str(&format!("add {} {scope},{name}:{port} {end}", set_of_ports(ipv4)));
        }
    }
    lines
}

/// When an element ends: by the kernel, and by its note.
pub(super) type Times = (Option<Timestamp>, Option<Timestamp>);

/// What stands in a set: the words by which ipset knows it, what they mean, and when it ends.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Element {
    pub(super) key: String,
    pub(super) entry: Entry,
    pub(super) times: Times,
}

/// The element that a line of `ipset save` tells of.
pub(super) fn element(line: &str, now: Timestamp) -> Option<Element> {
    let words = shlex::split(line)?;
    let [add, _, key, rest @ ..] = &*words else { return None };
    if add != "add" {
        return None;
    }
    let value = |name: &str| {
        let at = rest.iter().position(|word| word == name)?;
        rest.get(at + 1)
    };
    let seconds: u64 = value("timeout").and_then(|text| text.parse().ok()).unwrap_or(0);
    let kernel = (seconds > 0).then(|| now.plus(Duration::from_secs(seconds)));
    let noted = value("comment").and_then(|text| note::read(text));
    let times = (kernel, noted.as_ref().and_then(|noted| noted.until));
    let (scope, door) = key.split_once(',').map_or((&**key, None), |(scope, door)| (scope, Some(door)));
    let mut entry = note::reconcile(scope.parse().ok()?, kernel, noted);
    if let Some(door) = door {
        let (transport, port) = door.split_once(':')?;
        entry.ports.push(port.parse().ok()?);
        entry.proto = Some(named(transport)?);
    }
    Some(Element { key: key.clone(), entry, times })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_added_is_read_back() {
        let now: Timestamp = "2026-11-22T15:04:05Z".parse().unwrap();
        for (scope, seconds) in
            [("192.0.2.0/24", Some(600)), ("2001:db8::/64", None), ("192.0.2.7", Some(9_000_000))]
        {
            let scope: Prefix = scope.parse().unwrap();
            let until = seconds.map(|seconds| now.plus(Duration::from_secs(seconds)));
            let block = Block { until, rule: Some("fan".to_owned()), ..Block::default() };
            let line = add(scope.is_ipv4(), scope, &block, now);
            let early = seconds.is_some_and(|seconds| seconds > LONGEST);
            let kernel = seconds.map(|seconds| now.plus(Duration::from_secs(seconds.min(LONGEST))));
            let entry = Entry { early, ..Entry::new(scope, until, Some("fan".to_owned())) };
            let want = Element { key: scope.to_string(), entry, times: (kernel, until) };
            assert_eq!(element(&line, now), Some(want));
        }
        assert_eq!(element("create psentry4 hash:net family inet timeout 0", now), None);
        assert_eq!(
            element("add psentry4 192.0.2.7 timeout 60", now).unwrap().entry.until,
            Some(now.plus(Duration::from_secs(60)))
        );
    }

    #[test]
    fn single_ports_are_read_back_and_the_whole_is_let_in() {
        let now: Timestamp = "2026-11-22T15:04:05Z".parse().unwrap();
        let block = Block { ports: vec![22, 53], ..Block::default() };
        let lines = add(true, "192.0.2.0/24".parse().unwrap(), &block, now);
        let (first, ports) = lines.split_once('\n').unwrap();
        assert_eq!(first, "del psentry4 192.0.2.0/24");
        assert!(ports.contains("add psentry4_ports 192.0.2.0/24,udp:53 timeout 0 comment"), "{ports}");
        let found = Entry::gather(ports.lines().map(|line| element(line, now).unwrap().entry));
        assert_eq!(found.iter().map(Block::from).collect::<Vec<_>>(), [block]);
    }
}
