//! The backend against the kernel: `unshare -Urn cargo test -p psentry-block --lib nft::tests -- --ignored --test-threads 1`.
//! The tests of the whole program, in tests/block, run in namespaces that they make themselves.

use std::process::{Command, Stdio};
use std::time::Duration;

use psentry_records::{Prefix, Proto, Timestamp};

use super::set_id::SIZE;
use super::*;
use crate::block::{Block, Entry};
use crate::reach::{Answer, Established};

fn nft(line: &str) -> String {
    let output = Command::new("nft").args(["-a", line]).stderr(Stdio::inherit()).output().unwrap();
    assert!(output.status.success(), "{line}");
    String::from_utf8(output.stdout).unwrap()
}

fn fresh() -> Nft {
    nft("flush ruleset");
    let mut nft = Nft::open(Reach::default()).unwrap();
    assert!(nft.ensure().unwrap());
    assert!(!nft.ensure().unwrap());
    nft
}

fn block(seconds: u64) -> Block {
    let now = Timestamp::from_secs(Timestamp::now().secs_ceil()).unwrap();
    let until = Some(now.plus(Duration::from_secs(seconds)));
    Block { until, since: Some(now), rule: Some("fan".to_owned()), ..Block::default() }
}

fn scope(n: u32) -> Prefix {
    format!("10.{}.{}.{}", n >> 16, n >> 8 & 255, n & 255).parse().unwrap()
}

fn put(scope: Prefix, block: &Block, was: Option<&Entry>) -> Op {
    Op::Put { scope, block: block.clone(), was: was.cloned() }
}

fn delete(scope: Prefix, was: &Block) -> Op {
    Op::Delete { scope, was: was.clone() }
}

fn apply(nft: &mut Nft, ops: &[Op]) -> Vec<Result<(), String>> {
    let results = nft.apply(ops, Timestamp::now());
    assert_eq!(results.len(), ops.len());
    results.into_iter().map(|result| result.map_err(|error| error.to_string())).collect()
}

fn entries(nft: &mut Nft) -> Vec<Entry> {
    let listing = nft.list().unwrap();
    assert_eq!(listing.shadowed, Vec::<String>::new());
    listing.entries
}

/// Applies operations that succeed, after which just this is there, and nothing was drift.
#[track_caller]
fn leaves(nft: &mut Nft, ops: &[Op], blocks: &[(Prefix, &Block)]) {
    assert!(apply(nft, ops).iter().all(Result::is_ok));
    let entries = entries(nft);
    assert_eq!(entries.len(), blocks.len(), "{entries:?}");
    for (entry, (scope, block)) in entries.iter().zip(blocks) {
        assert!(entry.scope == *scope && entry.is(block), "{entry:?} {block:?}");
    }
    assert_eq!(nft.drift().unwrap(), None);
}

#[test]
#[ignore = "tests/run runs it in a network namespace of its own"]
fn blocks_are_put_replaced_and_deleted() {
    let nft = &mut fresh();
    let (whole, longer) = (block(600), block(6000));
    let unproven = Block { unproven: true, ..block(600) };
    let ports = Block { ports: vec![22, 80], proto: Some(Proto::Tcp), ..block(600) };
    let more = Block { ports: vec![22, 53], ..block(600) };
    let endless = Block { until: None, ..block(1) };
    let forms = [whole, longer, unproven, ports, more, endless];
    for scope in ["192.0.2.7", "192.0.2.0/24", "2001:db8::/64", "2001:db8::1"] {
        let scope: Prefix = scope.parse().unwrap();
        for old in &forms {
            for new in &forms {
                leaves(nft, &[put(scope, old, None)], &[(scope, old)]);
                let was = old.entry(scope);
                leaves(nft, &[put(scope, new, Some(&was))], &[(scope, new)]);
                leaves(nft, &[delete(scope, new)], &[]);
                // The hints may be wrong.
                leaves(nft, &[put(scope, new, Some(&was))], &[(scope, new)]);
                leaves(nft, &[put(scope, new, None)], &[(scope, new)]);
                leaves(nft, &[delete(scope, old)], &[]);
                leaves(nft, &[delete(scope, old)], &[]);
            }
        }
    }
    assert!(!nft.ensure().unwrap());
    assert_eq!(nft.drift().unwrap(), None);
}

#[test]
#[ignore = "tests/run runs it in a network namespace of its own"]
fn what_others_do_is_drift_and_is_listed() {
    let mut backend = fresh();
    let (whole, ports) = (block(600), Block { ports: vec![22, 80], ..block(600) });
    let (a, b) = (scope(1), scope(2));
    leaves(&mut backend, &[put(a, &whole, None), put(b, &ports, None)], &[(a, &whole), (b, &ports)]);
    let by_nft = |backend: &mut Nft| {
        let drift = backend.drift().unwrap().unwrap().who.unwrap();
        assert!(drift.starts_with("'nft' (process "), "{drift}");
        assert_eq!(backend.drift().unwrap(), None);
    };
    nft("delete element inet psentry v4_32 { 10.0.0.1 }");
    by_nft(&mut backend);
    assert_eq!(entries(&mut backend), [ports.entry(b)]);
    leaves(&mut backend, &[put(a, &whole, None)], &[(a, &whole), (b, &ports)]);
    // A port that is opened, another end, and a block twice.
    nft("delete element inet psentry v4_32_ports { 10.0.0.2 . tcp . 22 }");
    nft("delete element inet psentry v4_32 { 10.0.0.1 }");
    nft(&format!(
        "add element inet psentry v4_32 {{ 10.0.0.1 timeout 60s comment \"{}\" }}",
        note_of(&whole)
    ));
    nft("add element inet psentry v4_32_ports { 10.0.0.1 . tcp . 22 timeout 1h }");
    by_nft(&mut backend);
    let damaged = entries(&mut backend);
    assert!(damaged.len() == 2 && damaged.iter().all(|entry| entry.damaged), "{damaged:?}");
    let ops = [put(a, &whole, Some(&damaged[0])), put(b, &ports, Some(&damaged[1]))];
    leaves(&mut backend, &ops, &[(a, &whole), (b, &ports)]);
    // Without its rules no set drops anything; in other tables others may do what they like.
    for vandal in ["flush chain inet psentry prerouting", "delete table inet psentry", "flush ruleset"] {
        nft("add table inet other");
        assert_eq!(backend.drift().unwrap(), None);
        nft(vandal);
        by_nft(&mut backend);
        assert!(backend.ensure().unwrap(), "{vandal}");
        assert_eq!(backend.drift().unwrap(), None, "{vandal}");
    }
    nft("add table inet psentry { flags dormant; }");
    by_nft(&mut backend);
    assert!(backend.ensure().unwrap());
    assert!(!nft("list table inet psentry").contains("dormant"));
    assert_eq!(backend.drift().unwrap(), None);
}

fn note_of(block: &Block) -> String {
    crate::note::write(block)
}

#[test]
#[ignore = "tests/run runs it in a network namespace of its own"]
fn a_ruleset_that_is_gone_is_made_again_within_apply() {
    let backend = &mut fresh();
    let (whole, mut n) = (block(600), 0);
    for vandal in ["flush chain inet psentry prerouting", "delete table inet psentry", "flush ruleset"] {
        nft(vandal);
        n += 1;
        assert!(apply(backend, &[put(scope(n), &whole, None)])[0].is_ok());
        assert!(nft("list table inet psentry").contains("@v4_32 counter"), "{vandal}");
        assert!(backend.drift().unwrap().is_some(), "that of others is not lost");
    }
    nft("flush ruleset");
    assert!(apply(backend, &[delete(scope(1), &whole)])[0].is_ok());
    backend.purge().unwrap();
    backend.purge().unwrap();
    assert!(backend.drift().unwrap().is_some(), "the flush, and not the purge");
    leaves(backend, &[], &[]);
}

#[test]
#[ignore = "tests/run runs it in a network namespace of its own"]
fn many_are_deleted_although_one_is_gone_and_a_full_set_refuses_what_is_new() {
    let backend = &mut fresh();
    let whole = block(600);
    let all: Vec<Op> = (0..20_000).map(|n| put(scope(n), &whole, None)).collect();
    assert!(apply(backend, &all).iter().all(Result::is_ok));
    assert_eq!(entries(backend).len(), all.len());
    nft("delete element inet psentry v4_32 { 10.0.0.7 }");
    let deletes: Vec<Op> = (0..20_000).map(|n| delete(scope(n), &whole)).collect();
    assert!(apply(backend, &deletes).iter().all(Result::is_ok));
    assert_eq!(entries(backend), []);

    // What is in a full set is put anew, what goes makes room, and nothing else is refused with what finds none.
    let many: Vec<Op> = (0..SIZE - 1).map(|n| put(scope(n), &whole, None)).collect();
    assert!(apply(backend, &many).iter().all(Result::is_ok));
    let new = |n| put(scope(SIZE + n), &whole, None);
    let full = Err(format!("nft's set v4_32 is full ({SIZE} entries)"));
    assert_eq!(apply(backend, &[new(0), new(1), new(2)]), [Ok(()), full.clone(), full.clone()]);
    let again = |n, seconds| put(scope(n), &block(seconds), Some(&whole.entry(scope(n))));
    assert_eq!(apply(backend, &[again(0, 6000), new(1)]), [Ok(()), full]);
    assert_eq!(apply(backend, &[new(1), delete(scope(1), &whole)]), [Ok(()), Ok(())]);
}

/// A set that others made under a name of ours, and all that they add to the table.
#[test]
#[ignore = "tests/run runs it in a network namespace of its own"]
fn what_others_add_to_the_table_is_deleted_and_their_sets_are_made_anew() {
    let backend = &mut fresh();
    let plain = || nft("list table inet psentry");
    let wanted = plain();
    for added in [
        "add chain inet psentry early { type filter hook prerouting priority -500; }",
        "rename chain inet psentry prerouting foo",
        "add set inet psentry mine { type ipv4_addr; }; add rule inet psentry prerouting ip saddr @mine accept",
        "add chain inet psentry a; add chain inet psentry b; add rule inet psentry a jump b
         add map inet psentry m { type ipv4_addr : verdict; elements = { 192.0.2.1 : jump b } }
         add rule inet psentry prerouting ip saddr { 192.0.2.9, 192.0.2.10 } jump a
         insert rule inet psentry prerouting ip saddr vmap @m",
    ] {
        nft(added);
        assert!(backend.drift().unwrap().is_some() && backend.ensure().unwrap(), "{added}");
        assert!(without_handles(&plain()) == without_handles(&wanted), "{added}: {}", plain());
        assert!(!backend.ensure().unwrap() && backend.drift().unwrap().is_none(), "{added}");
    }
    for kind in [
        "type ipv4_addr; flags timeout; size 1;",
        "type ipv4_addr; flags timeout;",
        "type ipv6_addr; flags timeout; size 262144;",
        "type ipv4_addr; flags interval, timeout; size 262144;",
    ] {
        nft(&format!(
            "delete table inet psentry; add table inet psentry; add set inet psentry v4_32 {{ {kind} }}"
        ));
        let all: Vec<Op> = (0..3).map(|n| put(scope(n), &block(600), None)).collect();
        assert!(apply(backend, &all).iter().all(Result::is_ok), "{kind}");
        backend.ensure().unwrap();
        // While rules look something up in it.
        nft(&format!(
            "flush chain inet psentry prerouting; delete set inet psentry v4_32
             add set inet psentry v4_32 {{ {kind} }}
             add rule inet psentry prerouting {} saddr @v4_32 counter drop",
            if kind.contains("ipv6") { "ip6" } else { "ip" }
        ));
        assert!(backend.ensure().unwrap(), "{kind}");
        assert!(!backend.ensure().unwrap(), "{kind}");
        assert!(apply(backend, &all).iter().all(Result::is_ok), "{kind}");
    }
}

fn without_handles(listed: &str) -> BTreeSet<&str> {
    listed.lines().map(|line| line.split(" # handle").next().unwrap_or(line)).collect()
}

#[test]
#[ignore = "tests/run runs it in a network namespace of its own"]
fn flags_make_their_rules_and_rules_of_others_are_deleted() {
    let backend = &mut fresh();
    let reach = Reach { answer: Answer::Reject, egress: true, ..Reach::default() };
    for reach in
        [reach, Reach { established: Established::Spared, forward: false, ..reach }, Reach::default()]
    {
        let mut other = Nft::open(reach).unwrap();
        assert!(other.ensure().unwrap());
        assert!(!other.ensure().unwrap());
        assert!(backend.drift().unwrap().is_some());
    }
    assert!(!backend.ensure().unwrap(), "the last flags are the first ones");
    nft("insert rule inet psentry prerouting ip saddr 192.0.2.7 accept");
    assert!(backend.drift().unwrap().is_some());
    assert!(backend.ensure().unwrap());
    assert!(!nft("list chain inet psentry prerouting").contains("192.0.2.7"));
}

/// Not a test: how long it takes.
#[test]
#[ignore = "tests/run runs it in a network namespace of its own"]
fn speed() {
    let backend = &mut fresh();
    let whole = block(86_400);
    let mut n = 0;
    for together in [1, 100, 4000] {
        let mut times: Vec<f64> = (0..3000 / together + 10)
            .map(|_| {
                let ops: Vec<Op> = (0..together).map(|m| put(scope(n + m), &whole, None)).collect();
                n += together;
                let began = std::time::Instant::now();
                assert!(backend.apply(&ops, Timestamp::now()).iter().all(Result::is_ok));
                began.elapsed().as_secs_f64() / f64::from(together) * 1e6
            })
            .collect();
        times.sort_by(f64::total_cmp);
        println!("{together} together: {:.1} us each", times[times.len() / 2]);
    }
    let began = std::time::Instant::now();
    let entries = entries(backend);
    println!("{} listed in {:?}", entries.len(), began.elapsed());
}
