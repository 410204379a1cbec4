//! Names, times and numbers of ipset's sets.

use std::fs;
use std::os::unix::fs::symlink;

use super::super::super::FAMILIES;
use super::*;
use crate::note;

fn now() -> Timestamp {
    "2026-11-22T15:04:05Z".parse().unwrap()
}

type Found = Vec<(&'static str, Entry)>;

fn elements(scope: Prefix, block: &Block) -> Found {
    let (seconds, comment) = (seconds(block, now()), Some(note::write(block)));
    let element = |key| SetElement { key, seconds, comment: comment.clone(), exception: false };
    let set = set_of(scope, block);
    let found = |key| (set, entry(set, &element(key), now()).unwrap());
    set_elements::keys(scope, block).into_iter().map(found).collect()
}

fn gather(elements: Found) -> Vec<Entry> {
    set_elements::blocks(elements, set_of)
}

#[test]
fn what_is_added_is_read_back() {
    for (scope, seconds) in
        [("192.0.2.0/24", Some(600)), ("2001:db8::/64", None), ("192.0.2.7", Some(9_000_000))]
    {
        let scope: Prefix = scope.parse().unwrap();
        let until = seconds.map(|seconds| now().plus(Duration::from_secs(seconds)));
        let whole = Block { until, rule: Some("fan".to_owned()), ..Block::default() };
        let ports = Block { ports: vec![22, 53], unproven: true, ..whole.clone() };
        assert_eq!(elements(scope, &ports).len(), 4);
        for block in [whole, ports] {
            assert_eq!(gather(elements(scope, &block)), [block.entry(scope)]);
        }
    }
    let scope: Prefix = "192.0.2.7".parse().unwrap();
    let manual = SetElement { key: (scope, None), seconds: 60, comment: None, exception: false };
    let until = Some(now().plus(Duration::from_secs(60)));
    assert_eq!(entry("psentry4", &manual, now()), Some(Entry::new(scope, until, None)));
    let exception = SetElement { exception: true, ..manual.clone() };
    assert!(entry("psentry4", &exception, now()).unwrap().damaged);
    let of_sctp = SetElement { key: (scope, Some((132, 22))), ..manual };
    assert_eq!(entry("psentry4_ports", &of_sctp, now()), None);
}

#[test]
fn what_is_half_there_or_there_twice_is_damaged() {
    let scope: Prefix = "192.0.2.0/24".parse().unwrap();
    let until = Some(now().plus(Duration::from_secs(600)));
    let ports = Block { ports: vec![22, 53], until, ..Block::default() };
    let damaged = |elements: Found| gather(elements)[0].damaged;
    let all = elements(scope, &ports);
    assert!(!damaged(all.clone()) && damaged(all[1..].to_vec()));
    let longer = Block { until: None, ..ports.clone() };
    assert!(damaged([&all[1..], &elements(scope, &longer)[..1]].concat()));
    let whole = Block { ports: Vec::new(), ..ports };
    let unproven = Block { unproven: true, ..whole.clone() };
    assert!(damaged([elements(scope, &whole), all].concat()));
    assert!(damaged([elements(scope, &whole), elements(scope, &unproven)].concat()));
}

/// Saved rules that match a set are not loaded, nor any of the firewall, while it is missing.
#[test]
fn the_unit_makes_the_same_sets_before_saved_rules_are_loaded() {
    let unit = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../units/psentry-ipset-sets.service");
    let unit = fs::read_to_string(unit).unwrap();
    let started: Vec<&str> = unit.lines().filter_map(|line| line.strip_prefix("ExecStart=ipset ")).collect();
    let all = FAMILIES.iter().flat_map(|ipv4| sets(*ipv4).map(|name| creation(name, *ipv4)));
    assert_eq!(started, all.collect::<Vec<_>>());
}

#[test]
fn only_who_saves_rules_and_makes_no_sets_before_is_warned() {
    let root = tempfile::tempdir().unwrap();
    assert_eq!(saved_rules_warning(root.path()), None);
    let file = |name: &str| {
        let path = root.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        path
    };
    fs::write(file("etc/iptables/rules.v6"), "").unwrap();
    let said = saved_rules_warning(root.path()).unwrap();
    assert!(said.starts_with("/etc/iptables/rules.v6 is there"), "{said}");
    let link = file("run/systemd/generator/sysinit.target.wants/psentry-ipset-sets.service");
    symlink("/usr/local/lib/systemd/system/psentry-ipset-sets.service", link).unwrap();
    assert_eq!(saved_rules_warning(root.path()), None);
}
