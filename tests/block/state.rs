//! What outlasts psentry-block: after kill -9, a restart and a reboot all blocks that are not over are there again with the time
//! that they had left, and nothing else is; whom somebody released meanwhile stays released. A new [`Lab`] is a reboot: all that
//! the kernel and /run held is gone, and the directory of `--state` is not.

mod backpressure;
mod clocks;
mod disk_faults;
mod kills;
mod load;
mod old_files;
mod released;

use std::path::PathBuf;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use psentry_records::{Action, Common, OutcomeResult, Record, Timestamp, Verdict, VerdictBody, Writer};

use crate::lab::blocker::{block_many, outcome, result, say, start};
use crate::lab::{GUARD, Lab, Notified, Program, bin, complaints, wait_until};

/// A directory for `--state`.
struct State(tempfile::TempDir);

impl State {
    fn new() -> Self {
        State(tempfile::tempdir().unwrap())
    }

    fn path(&self) -> &str {
        self.0.path().to_str().unwrap()
    }

    /// Flags for these backends that remember here.
    fn flags<'a>(&'a self, more: &[&'a str]) -> Vec<&'a str> {
        [&["--state", self.path()], more].concat()
    }

    fn journal(&self) -> PathBuf {
        self.0.path().join("journal.jsonl")
    }
}

fn kill(block: &mut Program) {
    block.signal(Signal::SIGKILL);
    block.end();
}

/// A scope, a backend, and when the block ends.
type Listed = (String, String, Option<Timestamp>);

/// What `list` says of each scope and backend.
fn listed(lab: &Lab, flags: &[&str]) -> Vec<Listed> {
    let list = lab.guard.read(&[&[bin("psentry-block"), "list", "--json"], flags].concat());
    let entry = |line: &str| {
        let Ok(Record::Outcome(outcome)) = Record::parse(line) else { panic!("{line}") };
        (outcome.body.scope.to_string(), outcome.body.backend.unwrap(), outcome.body.until)
    };
    list.lines().map(entry).collect()
}

/// Waits until what was wanted before the start is there again; how many blocks that are.
fn restored(block: &mut Program) -> usize {
    block.complaint(": ready: ");
    let Some(said) = block.said().iter().find(|line| line.contains(": put back ")) else { return 0 };
    println!("{said}");
    let (_, count) = said.split_once(": put back ").unwrap();
    count.split_once(' ').unwrap().0.parse().unwrap()
}

const BACKENDS: [&str; 5] = ["nft", "ipset", "iptables", "route", "hosts-deny"];

/// Whatever deleted them: a reboot, somebody while no psentry-block runs, or its own end in good order.
#[test]
fn on_every_backend_blocks_are_back_after_a_reboot_with_the_time_they_had_left() {
    let state = State::new();
    let flags: Vec<&str> = BACKENDS.iter().flat_map(|name| ["--backend", name]).collect();
    let flags = state.flags(&[&flags[..], &["--hosts-deny", "/run/hosts.deny"]].concat());
    let mut before = Vec::new();
    for reboot in 0..4 {
        let lab = Lab::new();
        let _service = lab.service(8088);
        let (mut block, mut stdin) = start(&lab, &flags);
        if reboot == 0 {
            for (scope, duration) in
                [("203.0.113.7/32", Some(600)), ("2001:db8:7::/64", Some(7200)), ("198.18.0.0/24", None)]
            {
                say(&mut stdin, Action::Block, scope, duration);
                for _ in BACKENDS {
                    assert_eq!(result(&mut block, scope), OutcomeResult::Applied);
                }
            }
            // One whose time is over by the time of the reboot.
            say(&mut stdin, Action::Block, "203.0.113.9/32", Some(1));
            for _ in 0..2 * BACKENDS.len() {
                outcome(&mut block, "203.0.113.9/32");
            }
            // Ipset knows whole seconds, and ends it a moment later.
            wait_until("it has ended", || listed(&lab, &flags[2..]).len() == 3 * BACKENDS.len());
            before = listed(&lab, &flags[2..]);
            assert_eq!(before.len(), 3 * BACKENDS.len(), "{before:?}");
        } else {
            assert_eq!(restored(&mut block), 3);
            let after = listed(&lab, &flags[2..]);
            assert_eq!(after.len(), before.len(), "{after:?}");
            for (is, was) in after.iter().zip(&before) {
                assert_eq!((&is.0, &is.1), (&was.0, &was.1));
                // Backends know whole seconds, and ipset only what is left.
                let off = is.2.zip(was.2).map(|(is, was)| is.since(was).max(was.since(is)));
                assert!(
                    off.is_some_and(|off| off <= Duration::from_secs(2)) || is.2 == was.2,
                    "{is:?} {was:?}"
                );
            }
            assert!(lab.scanner.is_shut_out(GUARD[0], 8088));
            assert!(lab.innocent.reaches(GUARD[0], 8088));
        }
        // Killed, or asked to stop: then what only it could end is deleted until the next start.
        let output = if reboot % 2 == 0 {
            block.signal(Signal::SIGKILL);
            block.end().1
        } else {
            block.terminate().1
        };
        if reboot > 0 {
            let told: Vec<_> = output.iter().filter(|line| !line.contains("released")).collect();
            assert!(told.is_empty(), "what is merely restored is not told again: {told:?}");
        }
    }
}

/// `READY=1` comes when all that is wanted is there again, and no sooner; nobody waits for what a command does.
#[test]
fn systemd_is_told_when_all_of_it_is_back() {
    let (state, systemd) = (State::new(), Notified::new());
    let remembered: String = (0..20_000)
        .map(|n| {
            format!(
                "{{\"timestamp\":\"{}\",\"event_type\":\"verdict\",\"verdict\":{{\"action\":\"block\",\
                 \"scope\":\"198.18.{}.{}\",\"duration\":600}}}}\n",
                Timestamp::now(),
                n / 250,
                n % 250
            )
        })
        .collect();
    std::fs::write(state.journal(), &remembered).unwrap();
    let lab = Lab::new();
    let flags =
        state.flags(&["--backend", "nft", "--backend", "exec", "--exec", "sh -c 'sleep 60; echo {addr}'"]);
    let mut command = lab.guard.command(bin("psentry-block"));
    let mut block = Program::start_fed(command.args(flags).env("NOTIFY_SOCKET", &systemd.path));
    systemd.hears("READY=1");
    assert_eq!(
        lab.guard
            .sh("nft -j list set inet psentry v4_32 | jq '[.nftables[] | .set.elem // empty | length] | add'")
            .trim(),
        "20000"
    );
    // The sentence is written before systemd is told.
    assert_eq!(restored(&mut block), 20_000);
    kill(&mut block);
}

/// What the kernel still has stays as it is, and only what it lacks is put back.
#[test]
fn ten_thousand_are_back_and_nothing_more() {
    let (state, lab) = (State::new(), Lab::new());
    let flags = state.flags(&["--backend", "nft"]);
    let (mut block, stdin) = start(&lab, &flags);
    let _stdin = block_many(&mut block, stdin, 10_000);
    kill(&mut block);
    let before = listed(&lab, &["--backend", "nft"]);
    assert_eq!(before.len(), 10_000);
    for vandal in [
        "nft delete element inet psentry v4_32 '{ 198.18.0.0, 198.18.0.1, 198.18.0.2 }'",
        "nft delete table inet psentry",
        // A stranger's element, and one for longer than was wanted.
        "nft add element inet psentry v4_32 '{ 198.18.200.1 timeout 1h }'
         nft delete element inet psentry v4_32 '{ 198.18.0.0 }'
         nft add element inet psentry v4_32 '{ 198.18.0.0 timeout 8h }'",
    ] {
        lab.guard.sh(vandal);
        let began = Instant::now();
        let (mut block, mut stdin) = start(&lab, &flags);
        assert_eq!(restored(&mut block), 10_000);
        println!("{:>7.0?} from start to ready", began.elapsed());
        // What waits for the start is done behind it.
        say(&mut stdin, Action::Unblock, "192.0.2.200", None);
        result(&mut block, "192.0.2.200/32");
        let after = listed(&lab, &["--backend", "nft"]);
        let are_alike = |(is, was): (&Listed, &Listed)| {
            let off = is.2.zip(was.2).map(|(is, was)| is.since(was).max(was.since(is)));
            (&is.0, &is.1) == (&was.0, &was.1) && off.is_some_and(|off| off <= Duration::from_secs(2))
        };
        let alike = after.iter().zip(&before).filter(|pair| are_alike(*pair)).count();
        assert_eq!((alike, after.len()), (10_000, 10_000), "after {vandal}");
        kill(&mut block);
    }
    let lines = std::fs::read_to_string(state.journal()).unwrap().lines().count();
    assert_eq!(lines, 10_000, "what is put back is not written down again");
}
