//! The trap: whoever touches a closed port is told of and shut out with the first packet, and nobody else is.
//!
//! | file | what it shows |
//! |---|---|
//! | `kinds.rs` | every scan of nmap's, on both versions of IP, against a capture of the same run |
//! | `quarantine.rs` | what a scanner learns, whom it costs what, and the ways around it |
//! | `control.rs` | who is in quarantine is listed and released by commands |
//! | `rotation.rs` | a scanner of IPv6 that has a network of its own |
//! | `full.rs` | a quarantine that a flood has filled |
//! | `decoys.rs` | decoys in quarantine |
//! | `innocent.rs` | who uses real services is never told of |
//! | `forwarded.rs` | nor whatever only passes through |
//! | `strays.rs` | what an honest peer may send puts nobody into quarantine |
//! | `resolver.rs` | answers that come late to a resolver of this machine's own |
//! | `same_port.rs` | one source at one closed port, however often, is one probe |
//! | `early.rs` | a service that is not up yet, and one that restarts in a container |
//! | `siblings.rs` | closed ports beside served ones, and the file of ports |
//! | `chatter.rs` | what machines say by habit |
//! | `inside.rs`, `translated.rs` | containers and guests; hosts behind NAT64 |
//! | `untracked.rs` | connections that are not tracked |
//! | `firewall.rs` | beside a firewall of the machine's own |
//! | `link_local.rs` | neighbours with link-local addresses |
//! | `veil.rs` | what scanners and clients see of veiled ports |
//! | `hide.rs` | hidden ports are closed ports to whoever is not vouched for |
//! | `established.rs` | nor who keeps connections for long, over a path that narrows |
//! | `mirage.rs` | what a scanner sees where every port looks open |
//! | `panic.rs` | nobody is in quarantine while a panic holds |
//! | `drift.rs` | rules that somebody else changes are loaded again |
//! | `techniques.rs` | the manual's table of what becomes of each way to scan |
//! | `life.rs` | start, stop, kill -9, and what goes wrong |
//! | `load.rs` | thousands of sources, and a flood |
//! | `stats.rs` | its counters, and what it says of the machine's networks |
//! | `other-nft` | a check by hand: the same with the nft of another Debian release |

use std::process::Stdio;

use psentry_records::{Probe, Record, Stats};

use crate::lab::{Host, Lab, Program, bin, wait_until};

mod chatter;
mod control;
mod decoys;
mod drift;
mod early;
mod established;
mod firewall;
mod forwarded;
mod full;
mod hide;
mod innocent;
mod inside;
mod kinds;
mod life;
mod link_local;
pub mod load;
mod mirage;
mod panic;
mod quarantine;
mod resolver;
mod rotation;
mod same_port;
mod siblings;
mod stats;
mod strays;
mod techniques;
mod translated;
mod untracked;
mod veil;

/// Starts the trap on the guard; it stands when this returns, and its first record has been read.
fn trap(lab: &Lab, flags: &[&str]) -> Program {
    let mut trap = Program::start(lab.guard.command(bin("psentry-trap")).args(flags));
    wait_until("the trap stands", || stands(lab));
    trap.record("what the machine is", |record| matches!(record, Record::Stats(_)));
    trap
}

/// Whether the trap's table is in the kernel.
fn stands(lab: &Lab) -> bool {
    lab.guard.ok(&["nft", "list", "chain", "inet", "psentry_trap", "input"])
}

/// Whether anybody is in quarantine, IPv4 and IPv6.
fn quarantined(lab: &Lab) -> [bool; 2] {
    ["quarantine4", "quarantine6"]
        .map(|set| lab.guard.read(&["nft", "list", "set", "inet", "psentry_trap", set]).contains("elements"))
}

/// Lets everybody out of quarantine.
fn release(lab: &Lab) {
    for set in [
        "quarantine4",
        "quarantine6",
        "quarantine56",
        "quarantine48",
        "decoy_visits4",
        "decoy_visits6",
        "log_limit4",
        "log_limit6",
        "strays4",
        "strays6",
        "stray_ports4",
        "stray_ports6",
        "contacts4",
        "contacts6",
        "contact_counts4",
        "contact_counts6",
    ] {
        lab.guard.read(&["nft", "flush", "set", "inet", "psentry_trap", set]);
    }
}

/// The next probe for which that holds.
fn probe(trap: &mut Program, what: &str, is_it: impl Fn(&Probe) -> bool) -> Probe {
    match trap.record(what, |record| matches!(record, Record::Probe(probe) if is_it(probe))) {
        Record::Probe(probe) => probe,
        _ => panic!(),
    }
}

/// The probes among lines.
fn probes(lines: &[String]) -> Vec<Probe> {
    let probe = |line: &String| match Record::parse(line) {
        Ok(Record::Probe(probe)) => Some(probe),
        _ => None,
    };
    lines.iter().filter_map(probe).collect()
}

/// The records of the type `stats` among lines.
fn stats(lines: &[String]) -> Vec<Stats> {
    let stats = |line: &String| match Record::parse(line) {
        Ok(Record::Stats(stats)) => Some(stats),
        _ => None,
    };
    lines.iter().filter_map(stats).collect()
}

/// A counter in the last record of the type `stats`.
fn counter(lines: &[String], name: &str) -> u64 {
    let stats = stats(lines).pop().unwrap_or_else(|| panic!("no stats in {lines:#?}"));
    let named = stats.body.counters.iter().find(|(counter, _)| counter == name);
    named.unwrap_or_else(|| panic!("no counter {name} in {stats:#?}")).1
}

/// The trap has seen nothing at all.
fn unseen(mut trap: Program) {
    let (status, lines, errors) = trap.terminate();
    assert!(status.success(), "{errors:?}");
    assert!(probes(&lines).is_empty(), "{lines:#?}");
    assert_eq!(counter(&lines, "seen"), 0, "{lines:#?}");
    assert_eq!(counter(&lines, "quarantined"), 0);
    assert_eq!(counter(&lines, "refused"), 0);
}

/// Runs a program of Python's to its end, which must be a good one.
fn python(host: &Host, script: &str, args: &[&str]) -> String {
    let output =
        host.command("python3").args(["-c", script]).args(args).stdin(Stdio::null()).output().unwrap();
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{error}");
    String::from_utf8(output.stdout).unwrap()
}

/// The flag of nmap and its like for a version of IP.
fn version(family: usize) -> &'static [&'static str] {
    if family == 1 { &["-6"] } else { &[] }
}
