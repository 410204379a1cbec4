//! A hundred thousand verdicts at once, and kill -9 in their midst: nothing is lost whose outcome was applied, and nothing is
//! blocked for which nobody asked; neither where the kernel still has it nor after a reboot.

use std::collections::HashSet;
use std::fmt::Write as _;
use std::io::Write as _;
use std::net::Ipv4Addr;
use std::process::ChildStdin;
use std::thread::{self, JoinHandle};

use super::*;
use crate::lab::WAIT;

const MANY: u32 = 100_000;

/// How many have been told when it is killed.
const KILLED: usize = 40_000;

fn scope(n: u32) -> String {
    format!("10.{}.{}.{}/32", n >> 16, n >> 8 & 255, n & 255)
}

/// Writes all verdicts, as far as somebody reads. The input ends when this is joined.
fn feed(mut stdin: ChildStdin) -> JoinHandle<ChildStdin> {
    thread::spawn(move || {
        let (now, mut lines) = (Timestamp::now(), String::new());
        for n in 0..MANY {
            writeln!(
                lines,
                "{{\"timestamp\":\"{now}\",\"event_type\":\"verdict\",\"verdict\":{{\"action\":\"block\",\
                 \"scope\":\"{}\",\"duration\":7200}}}}",
                scope(n)
            )
            .unwrap();
        }
        let _ = stdin.write_all(lines.as_bytes());
        stdin
    })
}

/// The scope of an outcome that says that it is blocked now.
fn blocked(line: &str) -> Option<String> {
    let well = ["\"result\":\"applied\"", "\"result\":\"already\""].iter().any(|well| line.contains(well));
    let (_, rest) = line.split_once("\"scope\":\"").filter(|_| well)?;
    Some(rest.split_once('"')?.0.to_owned())
}

/// Whom the kernel has in the set, as nft says: a question of psentry-block has its time, which a busy machine may not keep with so
/// many. While the kernel makes room it lists some twice and leaves out as many; then it is read again.
fn scopes(lab: &Lab) -> HashSet<String> {
    let mut scopes = HashSet::new();
    wait_until("each is listed once", || {
        let set = lab.guard.read(&["nft", "list", "set", "inet", "psentry", "v4_32"]);
        let words = set.split([' ', ',', '\t', '\n']);
        let addresses: Vec<Ipv4Addr> = words.filter_map(|word| word.parse().ok()).collect();
        scopes = addresses.iter().map(|address| format!("{address}/32")).collect();
        scopes.len() == addresses.len()
    });
    scopes
}

#[test]
fn of_a_hundred_thousand_at_once_a_kill_loses_nothing_that_was_told() {
    let asked: HashSet<String> = (0..MANY).map(scope).collect();
    let (state, lab) = (State::new(), Lab::new());
    let flags = state.flags(&["--backend", "nft"]);
    let began = Instant::now();
    for until in [KILLED, MANY as usize] {
        let (mut block, stdin) = start(&lab, &flags);
        let feeder = feed(stdin);
        let mut told = HashSet::new();
        while told.len() < until {
            told.extend(blocked(&block.line("outcome", |line| blocked(line).is_some())));
        }
        block.signal(Signal::SIGKILL);
        told.extend(block.end().1.iter().filter_map(|line| blocked(line)));
        feeder.join().unwrap();
        let there = scopes(&lab);
        println!("{:>7.0?} {} told, {} there", began.elapsed(), told.len(), there.len());
        assert!(told.is_subset(&there), "an outcome said so, and it is not there");
        assert!(there.is_subset(&asked), "it is there, and nobody asked");
    }
    // What was killed the second time had told all of it.
    let (_block, lab) = (lab, Lab::new());
    let (mut block, _stdin) = start(&lab, &flags);
    // A build without optimization spends its time on itself.
    let said = block.complaint_within(2 * WAIT, "put back 100000 blocks from before");
    println!("{:>7.0?} {said}", began.elapsed());
    assert!(scopes(&lab) == asked);
}

/// Elements of nft's set that are added together, by another hand.
fn put(lab: &Lab, numbers: std::ops::Range<u32>) {
    let numbers: Vec<u32> = numbers.collect();
    for some in numbers.chunks(1000) {
        let elements: Vec<String> = some.iter().map(|n| scope(*n).replace("/32", "")).collect();
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), format!("add element inet psentry v4_32 {{ {} }}\n", elements.join(",")))
            .unwrap();
        lab.guard.read(&["nft", "-f", file.path().to_str().unwrap()]);
    }
}

/// How many psentry-block lists, each once.
fn listed(lab: &Lab) -> usize {
    // So many may take a busy machine longer to list than a question waits.
    let mut list = lab.guard.run(&[bin("psentry-block"), "list", "--json", "--backend", "nft"]);
    wait_until("it is listed", || {
        let is_whole = list.status.success();
        if !is_whole {
            list = lab.guard.run(&[bin("psentry-block"), "list", "--json", "--backend", "nft"]);
        }
        is_whole
    });
    let list = String::from_utf8(list.stdout).unwrap();
    let scopes: HashSet<String> = list.lines().filter_map(blocked).collect();
    assert_eq!(scopes.len(), list.lines().count());
    scopes.len()
}

/// The kernel doubles a set that is three quarters full, in the background: whoever lists it just then is told some of it
/// twice, and as much not at all.
#[test]
fn a_list_is_whole_while_the_kernel_makes_room() {
    let lab = Lab::new();
    lab.guard.sh("nft 'add table inet psentry;
        add set inet psentry v4_32 { type ipv4_addr; flags timeout; size 262144; timeout 1h; }'");
    let threshold = (1 << 17) / 4 * 3;
    let first = threshold - 300;
    put(&lab, 0..first);
    for more in 1..=4 {
        put(&lab, first + (more - 1) * 200..first + more * 200);
        assert_eq!(listed(&lab), (first + more * 200) as usize);
    }
}
