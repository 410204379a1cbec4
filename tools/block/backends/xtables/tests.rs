//! The backends against the kernel, in the variant of iptables that is first in PATH, as tests/run starts them:
//! `unshare -Urn cargo test -p psentry-block --lib xtables::tests -- --ignored --test-threads 1`, for the legacy variant
//! `unshare -Urnm` with a /run of its own. The tests of the whole program, in tests/block, run in namespaces that they make
//! themselves.

use std::collections::BTreeMap;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Instant;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use psentry_records::{Prefix, Timestamp};

use super::*;
use crate::backend::{Backend, Listing};
use crate::block::{Block, Entry};
use crate::reach::{Answer, Established, Reach};

const BACKENDS: [&str; 2] = ["iptables", "ipset"];

/// What is printed; whether it succeeds depends on what is there.
fn sh(script: &str) -> String {
    let output = Command::new("sh").args(["-c", script]).output().unwrap();
    String::from_utf8([output.stdout, output.stderr].concat()).unwrap()
}

fn is_nft() -> bool {
    sh("iptables -V").contains("nf_tables")
}

fn open(name: &str, reach: Reach) -> Box<dyn Backend> {
    match name {
        "ipset" => Box::new(Ipset::open(reach).unwrap()),
        _ => Box::new(Iptables::new(reach)),
    }
}

fn scope(text: &str) -> Prefix {
    text.parse().unwrap()
}

fn block(seconds: u64) -> Block {
    let until = Timestamp::from_secs(Timestamp::now().plus(Duration::from_secs(seconds)).secs_ceil());
    Block { until, rule: Some("fan".to_owned()), ..Block::default() }
}

fn put(scope: Prefix, block: &Block, was: Option<&Entry>) -> Op {
    Op::Put { scope, block: block.clone(), was: was.cloned() }
}

fn apply(backend: &mut dyn Backend, ops: &[Op]) {
    backend.apply(ops, Timestamp::now()).into_iter().for_each(|result| result.unwrap());
}

/// Whether there is drift, once the sets are counted again.
fn drifts(backend: &mut dyn Backend) -> bool {
    thread::sleep(POLL * 6 / 10);
    backend.drift().unwrap().is_some()
}

fn is_readable(backend: &dyn Backend, limit: u16) -> bool {
    let ready = |fd| poll(&mut [PollFd::new(fd, PollFlags::POLLIN)], PollTimeout::from(limit)).unwrap() > 0;
    backend.events().is_some_and(ready)
}

/// One of each kind, of both families.
fn all() -> BTreeMap<Prefix, Block> {
    let ports = Block { ports: vec![22, 53], ..block(700) };
    let unproven = Block { unproven: true, ..block(800) };
    let forever = Block { until: None, ..block(1) };
    let blocks = [
        ("192.0.2.1", block(600)),
        ("192.0.2.2", ports.clone()),
        ("192.0.2.3", unproven.clone()),
        ("192.0.2.4", block(40 * 86_400)),
        ("198.18.0.0/24", forever.clone()),
        ("2001:db8::/48", block(600)),
        ("2001:db8::/64", ports),
        ("2001:db8:1::7", unproven),
        ("2001:db8:2::/64", forever),
    ];
    blocks.into_iter().map(|(text, block)| (scope(text), block)).collect()
}

/// What the engine does after a drift.
fn reconcile(backend: &mut dyn Backend, wanted: &BTreeMap<Prefix, Block>) {
    backend.ensure().unwrap();
    let Listing { entries, .. } = backend.list().unwrap();
    let stray = entries.iter().filter(|entry| !wanted.contains_key(&entry.scope));
    let delete = |entry: &Entry| Op::Delete { scope: entry.scope, was: Block::from(entry) };
    let mut ops: Vec<Op> = stray.map(delete).collect();
    for (scope, block) in wanted {
        let was = entries.iter().find(|entry| entry.scope == *scope);
        if !was.is_some_and(|was| was.is(block)) {
            ops.push(put(*scope, block, was));
        }
    }
    backend.apply(&ops, Timestamp::now());
}

/// That exactly this is there, for one who has read nothing before.
fn assert_whole(name: &str, reach: Reach, wanted: &BTreeMap<Prefix, Block>) {
    let mut reader = open(name, reach);
    let Listing { mut entries, shadowed } = reader.list().unwrap();
    entries.sort_by_key(|entry| entry.scope);
    let wanted: Vec<Entry> = wanted.iter().map(|(scope, block)| block.entry(*scope)).collect();
    assert_eq!((entries, shadowed), (wanted, Vec::new()), "{name} {reach:?}");
    assert!(!reader.ensure().unwrap(), "{name}: {}", sh("iptables -S; ip6tables -S"));
}

fn reaches() -> [Reach; 3] {
    let reject = Reach { answer: Answer::Reject, ..Reach::default() };
    let spare = Reach { egress: true, established: Established::Spared, ..Reach::default() };
    [Reach::default(), reject, spare]
}

#[test]
#[ignore = "tests/run runs it in a network namespace of its own"]
fn what_is_applied_is_listed_and_no_drift_and_purged() {
    sh("iptables -A INPUT -s 10.0.0.0/8 -j ACCEPT; ip6tables -A FORWARD -j ACCEPT");
    let before = sh("iptables -S; ip6tables -S");
    for (name, reach) in BACKENDS.iter().flat_map(|name| reaches().map(|reach| (*name, reach))) {
        let mut backend = open(name, reach);
        let backend = &mut *backend;
        assert!(backend.ensure().unwrap() && !backend.ensure().unwrap());
        assert_eq!(backend.list().unwrap(), Listing::default());
        let all = all();
        apply(backend, &all.iter().map(|(scope, block)| put(*scope, block, None)).collect::<Vec<_>>());
        assert!(!drifts(backend));
        assert_whole(name, reach, &all);
        // One after the other in place of the first.
        let first = scope("192.0.2.1");
        let mut was = all[&first].entry(first);
        for block in all.values().chain([&all[&first]]).filter(|block| block.ports.len() != 1) {
            apply(backend, &[put(first, block, Some(&was))]);
            was = block.entry(first);
        }
        let other = scope("192.0.2.77");
        apply(backend, &[put(other, &block(60), None)]);
        apply(backend, &[Op::Delete { scope: other, was: block(60) }]);
        assert!(!drifts(backend));
        assert_whole(name, reach, &all);
        // What expires is no drift either.
        if name == "ipset" {
            apply(backend, &[put(other, &block(2), None)]);
            assert!((0..8).all(|_| !drifts(backend)));
            assert_whole(name, reach, &all);
        }
        open(name, Reach::default()).purge().unwrap();
        assert_eq!(sh("iptables -S; ip6tables -S; ipset save"), before, "{name}");
    }
    sh("iptables -F; ip6tables -F");
}

#[test]
#[ignore = "tests/run runs it in a network namespace of its own"]
fn whatever_others_change_is_drift_and_nothing_else_is() {
    let all = all();
    let rules = [
        "iptables -I INPUT 1 -s 203.0.113.0/24 -j ACCEPT",
        "iptables -F INPUT",
        "ip6tables -F FORWARD",
        "iptables -F; iptables -X",
        "printf '*filter\n:INPUT ACCEPT [0:0]\n:FORWARD ACCEPT [0:0]\n:OUTPUT ACCEPT [0:0]\nCOMMIT\n' | iptables-restore",
    ];
    let chains = [
        "iptables -F PSENTRY",
        "iptables -D PSENTRY 1",
        "iptables -I PSENTRY 1 -j ACCEPT",
        "iptables -I PSENTRY 1 -s 192.0.2.1 -j ACCEPT",
    ];
    let sets = [
        "ipset flush psentry4",
        "ipset del psentry4 192.0.2.1",
        "ipset add psentry4 192.0.2.55 timeout 50",
        "ipset add psentry4 192.0.2.56 nomatch",
        "iptables -F; ipset destroy psentry4",
    ];
    for (name, own) in [("iptables", &chains[..]), ("ipset", &sets)] {
        let mut backend = open(name, Reach::default());
        let backend = &mut *backend;
        reconcile(backend, &all);
        assert!(!drifts(backend));
        let nft = ["nft flush ruleset"].into_iter().filter(|_| is_nft());
        for damage in rules.iter().chain(own).copied().chain(nft) {
            sh(damage);
            assert!(backend.caps().poll_every.is_some() || is_readable(backend, 0), "{name}: {damage}");
            assert!(drifts(backend), "{name}: {damage}");
            reconcile(backend, &all);
            assert!(!drifts(backend), "{name}: {damage}");
            assert_whole(name, Reach::default(), &all);
        }
        for harmless in [
            "iptables -N DOCKER; iptables -A DOCKER -s 10.1.0.0/16 -j ACCEPT",
            "nft add table inet x; nft add chain inet x y; nft add table ip6 filter2; nft delete table inet x",
        ] {
            sh(harmless);
            assert!(!drifts(backend), "{name}: {harmless}");
        }
        // What an operation comes upon first is put back by it, and drift all the same.
        if is_nft() {
            sh("iptables -F INPUT");
            apply(backend, &[put(scope("192.0.2.1"), &block(600), None)]);
            assert!(sh("iptables -S INPUT").contains(if name == "ipset" { "psentry4" } else { "PSENTRY" }));
            assert!(is_readable(backend, 0) && drifts(backend));
        }
        sh("iptables -I INPUT 1 -s 203.0.113.0/24 -j ACCEPT");
        let shadowed = backend.list().unwrap().shadowed;
        assert!(
            shadowed[0].starts_with("'iptables -A INPUT -s 203.0.113.0/24 -j ACCEPT' comes before"),
            "{shadowed:?}"
        );
        sh("iptables -F INPUT");
        let shadowed = backend.list().unwrap().shadowed;
        assert!(shadowed[0].starts_with("'iptables -S INPUT' has no rule of psentry"), "{shadowed:?}");
        backend.purge().unwrap();
    }
}

#[test]
#[ignore = "tests/run runs it in a network namespace of its own"]
fn both_backends_beside_each_other_are_content_with_their_places() {
    let all = all();
    let mut backends = BACKENDS.map(|name| open(name, Reach::default()));
    for backend in backends.iter_mut().rev() {
        reconcile(&mut **backend, &all);
    }
    for backend in &mut backends {
        drifts(&mut **backend);
        assert!(!backend.ensure().unwrap());
        assert_eq!(backend.list().unwrap().shadowed, Vec::<String>::new());
        backend.purge().unwrap();
    }
}

/// Somebody changes this and that all the time, and in the end all is as it should be.
#[test]
#[ignore = "tests/run runs it in a network namespace of its own"]
fn no_change_is_missed_amid_operations() {
    const DAMAGE: [&str; 9] = [
        "iptables -F INPUT",
        "iptables -D PSENTRY 1",
        "iptables -I FORWARD -j ACCEPT",
        "ipset del psentry4 198.18.0.1",
        "iptables -F",
        "ipset flush psentry4",
        "nft add table inet q; nft delete table inet q",
        "iptables -A PSENTRY -s 203.0.113.9 -j DROP",
        "ip6tables -F FORWARD",
    ];
    for name in BACKENDS {
        let mut backend = open(name, Reach::default());
        let backend = &mut *backend;
        let mut wanted = BTreeMap::new();
        reconcile(backend, &wanted);
        let ended = Arc::new(AtomicBool::new(false));
        let vandal = ended.clone();
        let vandal = thread::spawn(move || {
            for n in (0..).take_while(|_| !vandal.load(Ordering::Relaxed)) {
                sh(DAMAGE[n * 7 % DAMAGE.len()]);
                thread::sleep(Duration::from_millis(n as u64 * 37 % 60));
            }
        });
        let (started, mut polled) = (Instant::now(), Instant::now());
        while started.elapsed() < Duration::from_secs(20) {
            let due = backend.caps().poll_every.is_some_and(|every| polled.elapsed() >= every);
            if is_readable(backend, 20) || due {
                polled = Instant::now();
                if backend.drift().unwrap().is_some() {
                    reconcile(backend, &wanted);
                }
            }
            let (scope, block) = (scope(&format!("198.18.0.{}", 1 + wanted.len())), block(600));
            if wanted.len() < 200 && backend.apply(&[put(scope, &block, None)], Timestamp::now())[0].is_ok() {
                wanted.insert(scope, block);
            }
        }
        ended.store(true, Ordering::Relaxed);
        vandal.join().unwrap();
        // As often as it takes, for an operation that failed is tried again by the engine.
        while drifts(backend) {
            reconcile(backend, &wanted);
        }
        assert_whole(name, Reach::default(), &wanted);
        backend.purge().unwrap();
    }
}
