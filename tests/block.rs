//! psentry-block alone, fed by hand: what it refuses, what it does with longer, shorter and old verdicts, what is left
//! after kill -9, and what it says when something is missing.

use std::io::Write;
use std::process::ChildStdin;
use std::time::Duration;

use nix::sys::signal::Signal;
use psentry_records::{
    Action, Common, Outcome, OutcomeResult, Record, Timestamp, Verdict, VerdictBody, Writer,
};

use crate::lab::{GUARD, Lab, Program, SCANNER, bin, wait_until};

/// Writes a verdict of now.
pub fn say(stdin: &mut ChildStdin, action: Action, scope: &str, duration: Option<u64>) {
    say_at(stdin, Timestamp::now(), action, scope, duration);
}

fn say_at(stdin: &mut ChildStdin, when: Timestamp, action: Action, scope: &str, duration: Option<u64>) {
    let body = VerdictBody { duration, ..VerdictBody::new(action, scope.parse().unwrap()) };
    Writer::new(stdin).write(&Record::Verdict(Verdict { common: Common::at(when), body })).unwrap();
}

/// A blocker on the guard, and its input.
pub fn start(lab: &Lab, flags: &[&str]) -> (Program, ChildStdin) {
    let mut block = Program::start_fed(lab.guard.command(bin("psentry-block")).args(flags));
    let stdin = block.stdin();
    (block, stdin)
}

pub fn outcome(block: &mut Program, scope: &str) -> Outcome {
    let is_it = |record: &Record| matches!(record, Record::Outcome(o) if o.body.scope.to_string() == scope);
    let Record::Outcome(outcome) = block.record(&format!("outcome for {scope}"), is_it) else { panic!() };
    outcome
}

pub fn result(block: &mut Program, scope: &str) -> OutcomeResult {
    outcome(block, scope).body.result
}

/// Blocks so many hosts, from 198.18.0.0 on, and waits until all are applied.
pub fn block_many(program: &mut Program, mut stdin: ChildStdin, count: u32) -> ChildStdin {
    let feeder = std::thread::spawn(move || {
        for n in 0..count {
            say(&mut stdin, Action::Block, &format!("198.18.{}.{}", n / 250, n % 250), Some(600));
        }
        stdin
    });
    let applied = |r: &Record| matches!(r, Record::Outcome(o) if o.body.result == OutcomeResult::Applied);
    for _ in 0..count {
        program.record("applied", applied);
    }
    feeder.join().unwrap()
}

#[test]
fn whoever_must_not_be_cut_off_is_refused() {
    let lab = Lab::new();
    lab.guard
        .sh("ip route add default via 192.0.2.8; ip -6 route add default via 2001:db8:8::8 dev innocent");
    let (mut block, mut stdin) = start(&lab, &["--backend", "nft"]);
    for scope in [
        "198.51.100.1/32", // its own
        "2001:db8:1::/64", // holds its own
        "203.0.113.1/32",  // its own on another link
        "203.0.113.0/24",  // holds its own
        "127.0.0.1/32",
        "127.0.0.0/8",
        "::1/128",
        "169.254.7.7/32",
        "fe80::/64",
        "224.0.0.251/32",
        "ff02::1/128",
        "0.0.0.0/32",
        "255.255.255.255/32",
        "192.0.2.8/32",    // the gateway
        "2001:db8:8::/64", // holds the gateway
        "0.0.0.0/0",
        "::/0",
        "64.0.0.0/2", // too wide
        "2000::/8",
    ] {
        say(&mut stdin, Action::Block, scope, Some(60));
        let outcome = outcome(&mut block, scope);
        assert_eq!(outcome.body.result, OutcomeResult::Refused, "{scope}");
        assert!(outcome.body.error.is_some_and(|why| why.len() > 10), "{scope}: why?");
    }
    // The broadcast address of a network, and the next hop of half of the way out.
    lab.guard.sh("ip route add 128.0.0.0/1 via 192.0.2.9");
    let mut near = vec!["203.0.113.255/32", "192.0.2.9/32"];
    // The peer of a tunnel that is the other half, where tunnels can be made.
    let tunnel = "ip tuntap add name ppp mode tun && ip address add 198.18.7.1 peer 198.18.7.2 dev ppp &&
        ip link set ppp up && ip route add 0.0.0.0/1 dev ppp";
    if lab.guard.ok(&["sh", "-ec", tunnel]) {
        near.push("198.18.7.2/32");
    }
    for scope in near {
        say(&mut stdin, Action::Block, scope, Some(60));
        assert_eq!(result(&mut block, scope), OutcomeResult::Refused, "{scope}");
    }
    // An address that the guard gets while psentry-block runs is its own from then on.
    lab.guard.sh("ip address add 192.0.2.77/32 dev lo");
    say(&mut stdin, Action::Block, "192.0.2.77", Some(60));
    assert_eq!(result(&mut block, "192.0.2.77/32"), OutcomeResult::Refused);
    say(&mut stdin, Action::Block, SCANNER[0], Some(60));
    assert_eq!(result(&mut block, "203.0.113.7/32"), OutcomeResult::Applied);
}

#[test]
fn the_longer_protection_stands() {
    let lab = Lab::new();
    let (mut block, mut stdin) = start(&lab, &["--backend", "nft"]);
    let scope = "203.0.113.7/32";
    say(&mut stdin, Action::Block, scope, Some(600));
    assert_eq!(result(&mut block, scope), OutcomeResult::Applied);
    say(&mut stdin, Action::Block, scope, Some(60));
    assert_eq!(result(&mut block, scope), OutcomeResult::Already);
    say(&mut stdin, Action::Block, scope, Some(7200));
    assert_eq!(result(&mut block, scope), OutcomeResult::Applied);
    let list = lab.guard.sh(
        "nft -j list set inet psentry v4_32 | jq -c '.nftables[] | .set.elem // empty | .[].elem.expires'",
    );
    let left: u64 = list.trim().parse().unwrap_or_else(|_| panic!("one element with an end: {list}"));
    assert!((7000..=7200).contains(&left), "the kernel knows the longer end: {left}");
    say(&mut stdin, Action::Block, scope, None);
    assert_eq!(outcome(&mut block, scope).body.until, None, "until unblocked is longer than any");
    say(&mut stdin, Action::Unblock, scope, None);
    assert_eq!(result(&mut block, scope), OutcomeResult::Released);
    let list = lab.guard.sh("nft list ruleset");
    assert!(!list.contains("203.0.113.7"), "{list}");
}

#[test]
fn a_host_and_its_network_stand_and_fall_apart() {
    let lab = Lab::new();
    let _service = lab.service(8088);
    let (mut block, mut stdin) = start(&lab, &["--backend", "nft"]);
    for scope in ["203.0.113.6/31", "203.0.113.7/32", "203.0.112.0/28"] {
        say(&mut stdin, Action::Block, scope, Some(600));
        assert_eq!(result(&mut block, scope), OutcomeResult::Applied);
    }
    assert!(lab.scanner.is_shut_out(GUARD[0], 8088));
    for (scope, reaches) in [("203.0.113.7/32", false), ("203.0.113.6/31", true)] {
        say(&mut stdin, Action::Unblock, scope, None);
        assert_eq!(result(&mut block, scope), OutcomeResult::Released);
        assert_eq!(!lab.scanner.is_shut_out(GUARD[0], 8088), reaches, "after {scope}");
    }
}

#[test]
fn an_old_verdict_blocks_nobody_and_a_future_one_not_for_longer() {
    let lab = Lab::new();
    let (mut block, mut stdin) = start(&lab, &["--backend", "nft"]);
    say_at(
        &mut stdin,
        Timestamp::from_secs(1_700_000_000).unwrap(),
        Action::Block,
        "203.0.113.7",
        Some(3600),
    );
    assert_eq!(result(&mut block, "203.0.113.7/32"), OutcomeResult::Expired);
    let now = Timestamp::now();
    say_at(&mut stdin, now.plus(Duration::from_secs(86_400)), Action::Block, "203.0.113.8", Some(600));
    let until = outcome(&mut block, "203.0.113.8/32").body.until.unwrap();
    assert!(until.since(now).as_secs() <= 630, "{until}");
    assert!(!lab.guard.sh("nft list ruleset").contains("203.0.113.7"));
}

/// Whoever flushes the ruleset takes the table with it: the next verdict makes it again.
#[test]
fn a_flushed_ruleset_is_made_again() {
    let lab = Lab::new();
    let (mut block, mut stdin) = start(&lab, &["--backend", "nft"]);
    say(&mut stdin, Action::Block, "203.0.113.8", Some(600));
    assert_eq!(result(&mut block, "203.0.113.8/32"), OutcomeResult::Applied);
    lab.guard.sh("nft flush ruleset");
    say(&mut stdin, Action::Block, "203.0.113.7", Some(600));
    assert_eq!(result(&mut block, "203.0.113.7/32"), OutcomeResult::Applied);
    assert!(lab.guard.sh("nft list ruleset").contains("203.0.113.7"));
}

/// Somebody's table that sleeps and holds nothing yet is woken, and then filled.
#[test]
fn an_empty_table_that_sleeps_is_no_obstacle() {
    let lab = Lab::new();
    lab.guard.sh("nft add table inet psentry '{ flags dormant; }'");
    let (mut block, mut stdin) = start(&lab, &["--backend", "nft"]);
    say(&mut stdin, Action::Block, "203.0.113.7", Some(600));
    assert_eq!(result(&mut block, "203.0.113.7/32"), OutcomeResult::Applied);
    assert!(!lab.guard.sh("nft list ruleset").contains("dormant"));
}

/// However somebody takes the rules away, what is told to be applied is dropped.
#[test]
fn a_set_without_its_rule_gets_it_again() {
    let lab = Lab::new();
    let _service = lab.service(8088);
    let (mut block, mut stdin) = start(&lab, &["--backend", "nft"]);
    for (n, vandal) in [
        "true",
        "nft flush table inet psentry",
        "nft flush chain inet psentry prerouting",
        "nft 'flush chain inet psentry prerouting; delete chain inet psentry prerouting'",
        "nft delete rule inet psentry prerouting handle \\
             $(nft -a list chain inet psentry prerouting | sed -n 's/.*@v4_32 .*handle //p')",
    ]
    .into_iter()
    .enumerate()
    {
        lab.guard.sh(vandal);
        // Another scope first: it is the set that needs its rule, and not the scope.
        for scope in [format!("198.18.0.{n}/32"), "203.0.113.7/32".to_owned()] {
            say(&mut stdin, Action::Block, &scope, Some(600));
            assert_eq!(result(&mut block, &scope), OutcomeResult::Applied, "{vandal}");
        }
        assert!(lab.scanner.is_shut_out(GUARD[0], 8088), "{vandal}");
        let rules = lab.guard.sh("nft list chain inet psentry prerouting");
        assert_eq!((rules.matches("@v4_32").count(), rules.matches("@v6_64").count()), (1, 1), "{rules}");
        say(&mut stdin, Action::Unblock, "203.0.113.7/32", None);
        assert_eq!(result(&mut block, "203.0.113.7/32"), OutcomeResult::Released);
    }
}

/// `unblock` by hand counts, whether or not the program that blocked hears of it.
#[test]
fn who_was_let_in_by_hand_is_not_shut_out_for_longer_than_asked() {
    let lab = Lab::new();
    for name in ["nft", "ipset", "route", "iptables"] {
        let (mut block, mut stdin) = start(&lab, &["--backend", name]);
        say(&mut stdin, Action::Block, "203.0.113.7", Some(86_400));
        assert_eq!(result(&mut block, "203.0.113.7/32"), OutcomeResult::Applied, "{name}");
        say(&mut stdin, Action::Block, "203.0.113.7", Some(60));
        assert_eq!(result(&mut block, "203.0.113.7/32"), OutcomeResult::Already, "{name}");
        lab.guard.read(&[bin("psentry-block"), "unblock", "203.0.113.7", "--backend", name]);
        assert_eq!(result(&mut block, "203.0.113.7/32"), OutcomeResult::Released, "{name}");
        for (duration, want) in [(60, OutcomeResult::Applied), (50, OutcomeResult::Already)] {
            say(&mut stdin, Action::Block, "203.0.113.7", Some(duration));
            let outcome = outcome(&mut block, "203.0.113.7/32");
            assert_eq!(outcome.body.result, want, "{name}");
            assert!(outcome.body.until.unwrap().since(Timestamp::now()).as_secs() <= 60, "{name}");
        }
        lab.guard.read(&[bin("psentry-block"), "flush", "--backend", name]);
    }
}

/// A command that blocks and then fails is undone at the end of its block.
#[test]
fn what_a_failed_command_may_have_blocked_is_undone() {
    let lab = Lab::new();
    let flags = [
        "--backend",
        "exec",
        "--exec",
        "sh -c 'touch /run/$0; exit 1' {addr}",
        "--exec-undo",
        "rm /run/{addr}",
    ];
    let (mut block, mut stdin) = start(&lab, &flags);
    say(&mut stdin, Action::Block, "203.0.113.7", Some(3));
    assert_eq!(result(&mut block, "203.0.113.7/32"), OutcomeResult::Failed);
    assert_eq!(result(&mut block, "203.0.113.7/32"), OutcomeResult::Expired);
    assert!(!lab.guard.sh("ls /run").contains("203.0.113.7"));
    say(&mut stdin, Action::Block, "203.0.113.8", None);
    assert_eq!(result(&mut block, "203.0.113.8/32"), OutcomeResult::Failed);
    block.signal(Signal::SIGKILL);
    block.end();
    let unblock = [&[bin("psentry-block"), "unblock", "203.0.113.8"], &flags[..]].concat();
    assert!(lab.guard.read(&unblock).contains("released"));
    assert!(!lab.guard.sh("ls /run").contains("203.0.113.8"));
}

/// A backend that cannot be read may hold anything: that is no success.
#[test]
fn what_cannot_be_read_is_trouble() {
    let lab = Lab::new();
    lab.guard
        .sh("mkdir /run/held; printf '#!/bin/sh\\necho the lock is held >&2; exit 4\\n' > /run/held/iptables
         chmod +x /run/held/iptables");
    for command in [&["list"][..], &["unblock", "203.0.113.7"], &["flush"]] {
        let path = format!("PATH=/run/held:{}", std::env::var("PATH").unwrap());
        let line = [&["env", &path, bin("psentry-block")], command].concat();
        let output = lab.guard.run(&line);
        assert_eq!(output.status.code(), Some(71), "{command:?}: {output:?}");
        assert!(String::from_utf8_lossy(&output.stderr).contains("the lock is held"), "{output:?}");
        assert!(!String::from_utf8_lossy(&output.stdout).contains("already"), "{output:?}");
    }
}

/// A blackhole that another route stands before has no effect, and is not left standing.
#[test]
fn a_network_that_another_route_leads_to_is_no_block() {
    let lab = Lab::new();
    lab.guard.sh("ip route add 198.18.1.0/24 dev scanner; ip route add 198.18.2.254/32 dev scanner");
    let (mut block, mut stdin) = start(&lab, &["--backend", "route"]);
    for (scope, want) in [
        ("198.18.1.0/24", OutcomeResult::Failed),
        ("198.18.2.0/24", OutcomeResult::Failed),
        ("198.18.3.0/24", OutcomeResult::Applied),
        ("2001:db8:7::/64", OutcomeResult::Applied),
    ] {
        say(&mut stdin, Action::Block, scope, Some(600));
        let outcome = outcome(&mut block, scope);
        assert_eq!(outcome.body.result, want, "{outcome:?}");
    }
    let holes = lab.guard.sh("ip route show type blackhole");
    assert!(!holes.contains("198.18.1.") && !holes.contains("198.18.2."), "{holes}");
}

/// A reader of outcomes that stalls is not waited for once somebody asks to stop.
#[test]
fn a_reader_that_stalls_does_not_keep_it_from_stopping() {
    let lab = Lab::new();
    // Opened for reading, too, so that the pipe has a reader, which never reads.
    lab.guard.sh("mkfifo /run/outcomes");
    let line = format!("exec {} --backend dry-run 1<>/run/outcomes", bin("psentry-block"));
    let mut block = Program::start_fed(lab.guard.command("sh").args(["-c", &line]));
    let mut stdin = block.stdin();
    let feeder = std::thread::spawn(move || {
        let body = VerdictBody::new(Action::Block, "127.0.0.1".parse().unwrap());
        let verdict = Record::Verdict(Verdict { common: Common::at(Timestamp::now()), body });
        let mut writer = Writer::new(&mut stdin);
        // Those that do not fit are lost with the pipe.
        for _ in 0..3000 {
            if writer.write(&verdict).is_err() {
                break;
            }
        }
    });
    std::thread::sleep(Duration::from_secs(1));
    let asked = std::time::Instant::now();
    block.signal(Signal::SIGTERM);
    let (status, _, errors) = block.end();
    assert!(asked.elapsed() < Duration::from_secs(8), "{:?}", asked.elapsed());
    assert_eq!(status.code(), Some(74), "{errors:?}");
    feeder.join().unwrap();
}

/// What became an address of this machine since the last run is let in.
#[test]
fn what_became_an_own_address_is_released_at_the_start() {
    let lab = Lab::new();
    let (mut block, mut stdin) = start(&lab, &["--backend", "nft"]);
    say(&mut stdin, Action::Block, "203.0.113.77", None);
    assert_eq!(result(&mut block, "203.0.113.77/32"), OutcomeResult::Applied);
    block.terminate();
    lab.guard.sh("ip address add 203.0.113.77/32 dev lo");
    let (mut block, _stdin) = start(&lab, &["--backend", "nft"]);
    assert_eq!(result(&mut block, "203.0.113.77/32"), OutcomeResult::Refused);
    assert!(!lab.guard.sh("nft list ruleset").contains("203.0.113.77"));
}

/// After kill -9, blocks whose end only psentry-block knows do not stay for ever: the next start ends them on time.
#[test]
fn what_a_killed_blocker_leaves_ends_on_time() {
    let lab = Lab::new();
    for (name, flags, look) in [
        ("nft", vec![], "nft list ruleset"),
        ("ipset", vec![], "ipset save"),
        ("iptables", vec![], "iptables-save"),
        ("route", vec![], "ip route show"),
        ("hosts-deny", vec!["--hosts-deny", "/run/hosts.deny"], "cat /run/hosts.deny 2>/dev/null || true"),
        ("exec", vec!["--exec", "touch /run/{addr}", "--exec-undo", "rm /run/{addr}"], "ls /run"),
    ] {
        let flags = [&["--backend", name][..], &flags].concat();
        let (mut block, mut stdin) = start(&lab, &flags);
        say(&mut stdin, Action::Block, "203.0.113.7", Some(5));
        let first = outcome(&mut block, "203.0.113.7/32");
        assert_eq!(first.body.result, OutcomeResult::Applied, "{name}: {first:?}");
        block.signal(Signal::SIGKILL);
        block.end();
        assert!(lab.guard.sh(look).contains("203.0.113.7"), "{name}: it stands without its maker");
        let (mut block, _stdin) = start(&lab, &flags);
        let outcome = outcome(&mut block, "203.0.113.7/32");
        assert_eq!(outcome.body.result, OutcomeResult::Expired, "{name}");
        let early = first.body.until.unwrap().since(outcome.common.timestamp);
        assert!(early < Duration::from_secs(1), "{name}: {early:?} too early");
        wait_until("it is gone", || !lab.guard.sh(look).contains("203.0.113.7"));
    }
}

/// Asked to stop, it leaves what the kernel ends by itself, and ends what only it could end.
#[test]
fn nothing_outlives_its_end_when_it_stops() {
    let lab = Lab::new();
    for (name, look, stays) in [
        ("nft", "nft list ruleset", true),
        ("iptables", "iptables-save", false),
        ("route", "ip route show", false),
    ] {
        let (mut block, mut stdin) = start(&lab, &["--backend", name]);
        say(&mut stdin, Action::Block, "203.0.113.7", Some(600));
        assert_eq!(result(&mut block, "203.0.113.7/32"), OutcomeResult::Applied);
        let (status, _, errors) = block.terminate();
        assert!(status.success(), "{name}: {errors:?}");
        assert_eq!(lab.guard.sh(look).contains("203.0.113.7"), stays, "{name}");
    }
}

/// At the end of the input it stays until the last block that only it can end has ended.
#[test]
fn at_the_end_of_its_input_it_still_ends_its_blocks() {
    let lab = Lab::new();
    let (mut block, mut stdin) = start(&lab, &["--backend", "route"]);
    say(&mut stdin, Action::Block, "203.0.113.7", Some(3));
    drop(stdin);
    assert_eq!(result(&mut block, "203.0.113.7/32"), OutcomeResult::Applied);
    assert_eq!(result(&mut block, "203.0.113.7/32"), OutcomeResult::Expired);
    let (status, _, errors) = block.end();
    assert!(status.success(), "{errors:?}");
    assert!(!lab.guard.sh("ip route show").contains("203.0.113.7"));
}

#[test]
fn what_failed_says_so_and_is_tried_again() {
    let lab = Lab::new();
    // Fails until /run/willing is there.
    let (mut block, mut stdin) = start(
        &lab,
        &["--backend", "exec", "--exec", "mv /run/willing /run/{addr}", "--exec-undo", "rm /run/{addr}"],
    );
    say(&mut stdin, Action::Block, "203.0.113.7", Some(600));
    let failed = outcome(&mut block, "203.0.113.7/32");
    assert_eq!(failed.body.result, OutcomeResult::Failed);
    assert!(failed.body.error.as_ref().is_some_and(|error| error.contains("/run/willing")), "{failed:?}");
    let list = lab.guard.read(&[bin("psentry-block"), "list", "--backend", "exec"]);
    assert_eq!(list, "", "what failed is never remembered as done");
    lab.guard.sh("touch /run/willing");
    assert_eq!(result(&mut block, "203.0.113.7/32"), OutcomeResult::Applied);
}

#[test]
fn a_command_that_hangs_is_ended_and_holds_up_no_other_backend() {
    let lab = Lab::new();
    // Nothing else on this machine sleeps for so long.
    let sleep = format!("sleep 1000{}", std::process::id());
    let (mut block, mut stdin) = start(
        &lab,
        &[
            "--backend",
            "exec",
            "--backend",
            "nft",
            "--exec",
            &format!("sh -c '{sleep}; echo {{addr}}'"),
            "--exec-timeout",
            "2s",
        ],
    );
    say(&mut stdin, Action::Block, "203.0.113.7", Some(600));
    let first = outcome(&mut block, "203.0.113.7/32");
    assert_eq!((first.body.backend.as_deref(), first.body.result), (Some("nft"), OutcomeResult::Applied));
    let second = outcome(&mut block, "203.0.113.7/32");
    assert_eq!((second.body.backend.as_deref(), second.body.result), (Some("exec"), OutcomeResult::Failed));
    // It is tried again until it is asked to stop, and then nothing of it is left.
    block.terminate();
    assert!(!lab.guard.ok(&["pgrep", "-f", &format!("^{sleep}$")]), "it is killed with its children");
}

/// No shell sees the arguments, and a placeholder is never split again.
#[test]
fn a_command_gets_its_arguments_as_they_are() {
    let lab = Lab::new();
    lab.guard.sh("printf '#!/bin/sh\\nprintf \"%%s|\" \"$@\" > /run/arguments\\nenv | grep ^PSENTRY_ > /run/environment\\n' > /run/tell; chmod +x /run/tell");
    let (mut block, mut stdin) = start(
        &lab,
        &["--backend", "exec", "--exec", "/run/tell '{scope} $(id)' \"a b\" {port}/{proto} {duration} ;"],
    );
    let mut verdict = Verdict {
        common: Common::at(Timestamp::now()),
        body: VerdictBody::new(Action::Block, "203.0.113.7".parse().unwrap()),
    };
    verdict.common.dest_port = Some(23);
    verdict.common.proto = Some(psentry_records::Proto::Tcp);
    verdict.body.duration = Some(600);
    Writer::new(&mut stdin).write(&Record::Verdict(verdict)).unwrap();
    assert_eq!(result(&mut block, "203.0.113.7/32"), OutcomeResult::Applied);
    let arguments = lab.guard.sh("cat /run/arguments");
    let parts: Vec<&str> = arguments.split('|').collect();
    assert_eq!(parts[..2], ["203.0.113.7/32 $(id)", "a b"], "{arguments}");
    assert_eq!(parts[2].to_ascii_lowercase(), "23/tcp");
    assert!(parts[3].parse::<u64>().is_ok_and(|left| (590..=600).contains(&left)), "{arguments}");
    assert_eq!(parts[4], ";");
    assert!(lab.guard.sh("cat /run/environment").contains("PSENTRY_SCOPE=203.0.113.7/32"));
}

#[test]
fn without_rights_or_programs_it_says_what_to_do() {
    let lab = Lab::new();
    let mut block = Program::start(lab.guard.command("unshare").args([
        "--user",
        bin("psentry-block"),
        "--backend",
        "nft",
    ]));
    let (status, _, errors) = block.end();
    assert_eq!(status.code(), Some(77), "{errors:?}");
    assert!(errors[0].contains("CAP_NET_ADMIN"), "{errors:?}");
    lab.guard.sh("mount -t tmpfs tmpfs /usr/sbin");
    for name in ["nft", "iptables", "ipset"] {
        let mut block = Program::start(lab.guard.command(bin("psentry-block")).args(["--backend", name]));
        let (status, _, errors) = block.end();
        assert_eq!(status.code(), Some(69), "{name}: {errors:?}");
        assert!(errors[0].contains(name), "{errors:?}");
    }
}

#[test]
fn many_verdicts_at_once_all_come_true() {
    let lab = Lab::new();
    let (mut block, mut stdin) =
        start(&lab, &["--backend", "nft", "--backend", "ipset", "--backend", "route"]);
    let feeder = std::thread::spawn(move || {
        for n in 0..2000u32 {
            say(&mut stdin, Action::Block, &format!("198.18.{}.{}", n / 250, n % 250), Some(600));
        }
    });
    for _ in 0..6000 {
        block.record(
            "applied",
            |record| matches!(record, Record::Outcome(o) if o.body.result == OutcomeResult::Applied),
        );
    }
    feeder.join().unwrap();
    for (look, count) in [
        ("nft -j list set inet psentry v4_32 | jq '.nftables[] | .set.elem // empty | length'", "2000"),
        ("ipset save psentry4 | grep -c ^add", "2000"),
        ("ip route show type blackhole | wc -l", "2000"),
    ] {
        assert_eq!(lab.guard.sh(look).trim(), count, "{look}");
    }
}

/// hosts.deny keeps its mode, its owner and every byte that is not ours.
#[test]
fn hosts_deny_is_left_as_it_was_found() {
    let lab = Lab::new();
    for (before, mode) in [
        (Some(&b"ALL: 192.0.2.66\n"[..]), "640"),
        (Some(b"no newline at the end"), "600"),
        (Some(b"\xff\xfe not UTF-8\n"), "644"),
        (Some(b""), "644"),
        (None, ""),
    ] {
        lab.guard.sh("rm -f /run/hosts.deny");
        if let Some(before) = before {
            let mut tee = Program::start_fed(lab.guard.command("tee").arg("/run/hosts.deny"));
            tee.stdin().write_all(before).unwrap();
            tee.end();
            lab.guard.sh(&format!("chmod {mode} /run/hosts.deny"));
        }
        let flags = ["--backend", "hosts-deny", "--hosts-deny", "/run/hosts.deny"];
        let (mut block, mut stdin) = start(&lab, &flags);
        for scope in ["203.0.113.7/32", "2001:db8:7::/64", "198.18.0.0/15"] {
            say(&mut stdin, Action::Block, scope, Some(600));
            assert_eq!(result(&mut block, scope), OutcomeResult::Applied);
        }
        if before.is_some() {
            assert_eq!(lab.guard.sh("stat -c %a /run/hosts.deny").trim(), mode);
        }
        drop(stdin);
        lab.guard.read(&[&[bin("psentry-block"), "flush"], &flags[..]].concat());
        let after = lab.guard.run(&["cat", "/run/hosts.deny"]);
        assert_eq!(after.status.success().then_some(&after.stdout[..]), before);
    }
}

/// `list` is for people on a terminal, and JSON for programs; both are sorted.
#[test]
fn list_speaks_to_people_and_to_programs() {
    let lab = Lab::new();
    let (mut block, mut stdin) = start(&lab, &["--backend", "nft"]);
    for (scope, duration) in
        [("203.0.113.9/32", Some(600)), ("203.0.113.7/32", None), ("2001:db8:7::/64", Some(60))]
    {
        say(&mut stdin, Action::Block, scope, duration);
        assert_eq!(result(&mut block, scope), OutcomeResult::Applied);
    }
    let list = lab.guard.read(&[bin("psentry-block"), "list"]);
    let scopes: Vec<String> = list
        .lines()
        .map(|line| match Record::parse(line) {
            Ok(Record::Outcome(outcome)) => outcome.body.scope.to_string(),
            other => panic!("{line}: {other:?}"),
        })
        .collect();
    assert_eq!(scopes, ["203.0.113.7/32", "203.0.113.9/32", "2001:db8:7::/64"]);
    let table = lab.guard.sh(&format!("script -qec '{} list' /dev/null", bin("psentry-block")));
    assert!(table.contains("203.0.113.7") && !table.contains('{'), "{table}");
}
