//! Whom psentry-block does not block because of what the machine does at this moment: who is logged in, who is asked
//! for names or the time, whom `--allow` names; and how many it blocks at most.

use std::process::ChildStdin;
use std::time::Duration;

use nix::sys::signal::Signal;
use psentry_records::{Action, OutcomeResult};

use crate::lab::blocker::{outcome, result, say, say_unproven, start};
use crate::lab::{GUARD, Host, INNOCENT, Lab, Program, SCANNER, bin, wait_until};

const SCOPE: &str = "203.0.113.7/32";

/// A stand-in for sshd: it takes connections, also from IPv4 on a socket of IPv6, and says nothing.
fn sshd(lab: &Lab) -> Program {
    let socat = "TCP6-LISTEN:22,ipv6only=0,reuseaddr,fork";
    let program = Program::start_fed(lab.guard.command("socat").args([socat, "EXEC:cat"]));
    wait_until("it listens", || lab.guard.sh("ss -Htln 'sport = :22'").contains(":22"));
    program
}

/// A socket on `host` to `to`, once the guard has it; it closes when what is given back is dropped.
fn connect(lab: &Lab, host: &Host, to: &str) -> (Program, ChildStdin) {
    let sockets = || lab.guard.sh("ss -Htun state established").lines().count();
    let before = sockets();
    let mut client = Program::start_fed(host.command("socat").args(["-,ignoreeof=0", to]));
    let stdin = client.stdin();
    wait_until(to, || sockets() > before);
    (client, stdin)
}

/// Ends a connection, and waits until the guard knows.
fn close(lab: &Lab, mut client: (Program, ChildStdin)) {
    let sockets = || lab.guard.sh("ss -Htun state established").lines().count();
    let before = sockets();
    client.0.signal(Signal::SIGKILL);
    client.0.end();
    wait_until("it is closed", || sockets() < before);
}

fn ssh(lab: &Lab, host: &Host, family: usize) -> (Program, ChildStdin) {
    let to = if family == 0 { format!("TCP4:{}:22", GUARD[0]) } else { format!("TCP6:[{}]:22", GUARD[1]) };
    connect(lab, host, &to)
}

/// Why a block is refused.
fn refused(block: &mut Program, stdin: &mut ChildStdin, scope: &str) -> String {
    say(stdin, Action::Block, scope, Some(600));
    let outcome = outcome(block, scope);
    assert_eq!(outcome.body.result, OutcomeResult::Refused, "{scope}: {outcome:?}");
    outcome.body.error.unwrap()
}

fn applied(block: &mut Program, stdin: &mut ChildStdin, scope: &str) {
    say(stdin, Action::Block, scope, Some(600));
    let outcome = outcome(block, scope);
    assert_eq!(outcome.body.result, OutcomeResult::Applied, "{scope}: {outcome:?}");
}

/// A blocker that has looked around before anybody connects.
fn ready(lab: &Lab, flags: &[&str]) -> (Program, ChildStdin) {
    let (mut block, mut stdin) = start(lab, flags);
    applied(&mut block, &mut stdin, "198.18.0.1/32");
    (block, stdin)
}

/// logind's record of sessions, with one from each address.
fn record(lab: &Lab, addresses: &[&str]) {
    lab.guard.sh("mkdir -p /run/systemd/seats /run/systemd/sessions; touch /run/systemd/seats/seat0");
    for (n, address) in addresses.iter().enumerate() {
        lab.guard.sh(&format!("printf 'REMOTE=1\\nREMOTE_HOST={address}\\n' > /run/systemd/sessions/{n}"));
    }
}

/// Whoever is logged in is blocked once he has left, and a network that holds him, too.
#[test]
fn who_is_logged_in_is_blocked_when_he_has_left() {
    let lab = Lab::new();
    let _sshd = sshd(&lab);
    let sessions = [ssh(&lab, &lab.scanner, 0), ssh(&lab, &lab.scanner, 1)];
    // They stood before it looked first.
    let (mut block, mut stdin) = start(&lab, &["--backend", "nft"]);
    for (scope, want) in [
        (SCOPE, "203.0.113.7/32 is 203.0.113.7, which is logged in on port 22"),
        ("203.0.113.6/31", "203.0.113.6/31 holds 203.0.113.7, which is logged in on port 22"),
        ("2001:db8:7::/65", "2001:db8:7::/65 holds 2001:db8:7::7, which is logged in on port 22"),
    ] {
        let why = refused(&mut block, &mut stdin, scope);
        assert!(why.starts_with(want), "{why}");
    }
    applied(&mut block, &mut stdin, "2001:db8:7:0:8000::/65");
    let list = lab.guard.sh("nft list ruleset");
    assert!(!list.contains("203.0.113.") && !list.contains("2001:db8:7::"), "{list}");
    let [v4, v6] = sessions;
    close(&lab, v4);
    for scope in [SCOPE, "203.0.113.6/31"] {
        assert_eq!(result(&mut block, scope), OutcomeResult::Applied, "{scope}");
    }
    close(&lab, v6);
    assert_eq!(result(&mut block, "2001:db8:7::/65"), OutcomeResult::Applied);
}

/// Where logins are on record, a connection alone protects nobody.
#[test]
fn a_connection_to_sshd_is_no_login() {
    let lab = Lab::new();
    let _sshd = sshd(&lab);
    record(&lab, &[INNOCENT[0]]);
    let (mut block, mut stdin) = ready(&lab, &["--backend", "nft"]);
    let (_scanner, _innocent) = (ssh(&lab, &lab.scanner, 0), ssh(&lab, &lab.innocent, 0));
    applied(&mut block, &mut stdin, SCOPE);
    let why = refused(&mut block, &mut stdin, "192.0.2.8/32");
    assert!(why.contains("which is logged in on port 22"), "{why}");
    // Unless it is older than sshd lets one become.
    drop(stdin);
    block.end();
    lab.guard.sh("nft flush ruleset");
    let (mut block, mut stdin) = start(&lab, &["--backend", "nft", "--login-ports", "2222,21-23"]);
    assert!(refused(&mut block, &mut stdin, SCOPE).contains("which is logged in on port 22"));
}

/// Who is connected is not listed for each verdict; the record says that somebody has logged in since.
#[test]
fn who_logs_in_is_spared_from_that_moment_on() {
    let lab = Lab::new();
    let _sshd = sshd(&lab);
    record(&lab, &[]);
    let (mut block, mut stdin) = ready(&lab, &["--backend", "nft"]);
    let session = ssh(&lab, &lab.scanner, 1);
    record(&lab, &[SCANNER[1]]);
    let why = refused(&mut block, &mut stdin, "2001:db8:7::/64");
    assert!(why.contains("holds 2001:db8:7::7, which is logged in on port 22"), "{why}");
    close(&lab, session);
    assert_eq!(result(&mut block, "2001:db8:7::/64"), OutcomeResult::Applied, "a record alone is no login");
}

/// Where no login is on record, every established connection protects, but not those that are made after it.
#[test]
fn one_connection_after_the_other_protects_nobody() {
    let lab = Lab::new();
    let _sshd = sshd(&lab);
    let (mut block, mut stdin) = ready(&lab, &["--backend", "nft"]);
    // For so long, at most, the list of who is connected counts.
    std::thread::sleep(Duration::from_secs(1));
    let first = ssh(&lab, &lab.scanner, 0);
    let why = refused(&mut block, &mut stdin, SCOPE);
    assert!(why.contains("which may be logging in on port 22"), "{why}");
    let _second = ssh(&lab, &lab.scanner, 0);
    close(&lab, first);
    assert_eq!(result(&mut block, SCOPE), OutcomeResult::Applied);
}

/// A verdict that waits is ended by `unblock`, by its time, or with the input.
#[test]
fn what_waits_for_a_logout_is_no_block() {
    let lab = Lab::new();
    let _sshd = sshd(&lab);
    let session = ssh(&lab, &lab.scanner, 0);
    let (mut block, mut stdin) = start(&lab, &["--backend", "nft"]);
    refused(&mut block, &mut stdin, SCOPE);
    say(&mut stdin, Action::Unblock, SCOPE, None);
    assert_eq!(result(&mut block, SCOPE), OutcomeResult::Released);
    say(&mut stdin, Action::Unblock, SCOPE, None);
    assert_eq!(result(&mut block, SCOPE), OutcomeResult::Already);
    say(&mut stdin, Action::Block, SCOPE, Some(2));
    assert_eq!(result(&mut block, SCOPE), OutcomeResult::Refused);
    let expired = outcome(&mut block, SCOPE);
    assert_eq!(expired.body.result, OutcomeResult::Expired);
    assert!(expired.body.error.unwrap().contains("it was never applied: 203.0.113.7/32 is 203.0.113.7"));
    refused(&mut block, &mut stdin, SCOPE);
    drop(stdin);
    let (status, _, errors) = block.end();
    assert!(status.success(), "whom it must not block it has not failed to block: {errors:?}");
    close(&lab, session);
    assert!(!lab.guard.sh("nft list ruleset").contains("203.0.113.7"));
}

/// What is remembered passes the same guard: it is put back when nobody is logged in from there.
#[test]
fn who_logged_in_while_nothing_stood_is_not_thrown_out() {
    let lab = Lab::new();
    let _sshd = sshd(&lab);
    lab.guard.sh("mkdir /run/state");
    let flags = ["--backend", "nft", "--state", "/run/state"];
    let (mut block, mut stdin) = start(&lab, &flags);
    applied(&mut block, &mut stdin, SCOPE);
    block.signal(Signal::SIGKILL);
    block.end();
    // The machine boots, and he is quicker.
    lab.guard.sh("nft flush ruleset");
    let session = ssh(&lab, &lab.scanner, 0);
    let (mut block, _stdin) = start(&lab, &flags);
    assert_eq!(result(&mut block, SCOPE), OutcomeResult::Refused);
    close(&lab, session);
    assert_eq!(result(&mut block, SCOPE), OutcomeResult::Applied);
}

/// resolv.conf may name a stub; then those behind it count.
#[test]
fn resolvers_are_never_blocked() {
    let lab = Lab::new();
    lab.guard.sh("mkdir -p /run/systemd/resolve; printf 'nameserver 192.0.2.8\\n' > /run/resolv.conf
        mount --bind /run/resolv.conf /etc/resolv.conf");
    let (mut block, mut stdin) = start(&lab, &["--backend", "nft"]);
    let why = refused(&mut block, &mut stdin, "192.0.2.8/32");
    assert_eq!(why, "192.0.2.8/32 is 192.0.2.8, a resolver of this machine");
    lab.guard.sh("printf 'nameserver 127.0.0.53\\n' > /run/resolv.conf
        printf 'nameserver 2001:db8:7::7\\n' > /run/systemd/resolve/resolv.conf");
    let why = refused(&mut block, &mut stdin, "2001:db8:7::/64");
    assert_eq!(why, "2001:db8:7::/64 holds 2001:db8:7::7, a resolver of this machine");
    applied(&mut block, &mut stdin, "192.0.2.8/32");
}

/// Whoever is asked something now is spared as long as the socket is there; who asks is not.
#[test]
fn who_is_asked_for_names_or_the_time_is_spared_meanwhile() {
    let lab = Lab::new();
    // All of it before the blocker looks: what it saw may count for a second.
    let time = connect(&lab, &lab.guard, "UDP4:192.0.2.8:123");
    let mut server = lab.scanner.command("socat");
    let _server = Program::start_fed(server.args(["TCP6-LISTEN:853,ipv6only=0,fork", "EXEC:cat"]));
    wait_until("it listens", || lab.guard.reaches(SCANNER[0], 853));
    let names = connect(&lab, &lab.guard, "TCP4:203.0.113.7:853");
    let (mut block, mut stdin) = start(&lab, &["--backend", "nft"]);
    let why = refused(&mut block, &mut stdin, "192.0.2.8/32");
    assert!(why.contains("192.0.2.8, a time server that this machine is asking"), "{why}");
    close(&lab, time);
    assert_eq!(result(&mut block, "192.0.2.8/32"), OutcomeResult::Applied);
    let why = refused(&mut block, &mut stdin, SCOPE);
    assert!(why.contains("203.0.113.7, a resolver that this machine is asking on port 853"), "{why}");
    close(&lab, names);
    assert_eq!(result(&mut block, SCOPE), OutcomeResult::Applied);
    say(&mut stdin, Action::Unblock, SCOPE, None);
    assert_eq!(result(&mut block, SCOPE), OutcomeResult::Released);
    let _service = sshd(&lab);
    drop((block, stdin));
    // From a resolver's port to a service is no answer of a resolver.
    let (mut block, mut stdin) = start(&lab, &["--backend", "nft", "--login-ports", "23"]);
    let _scan = connect(&lab, &lab.scanner, "TCP4:198.51.100.1:22,sourceport=53");
    applied(&mut block, &mut stdin, SCOPE);
}

/// Behind a mirage nothing listens on the port that was called at.
#[test]
fn who_calls_at_a_mirage_from_a_resolvers_port_is_not_asked() {
    let lab = Lab::new();
    lab.guard.sh("ip rule add fwmark 1 lookup 100; ip route add local 0.0.0.0/0 dev lo table 100
        nft 'add table ip mirage; add chain ip mirage calls { type filter hook prerouting priority mangle; }'
        nft 'add rule ip mirage calls tcp dport 9999 tproxy to :7 meta mark set 1'");
    let mirage = "TCP4-LISTEN:7,ip-transparent,reuseaddr,fork";
    let _mirage = Program::start_fed(lab.guard.command("socat").args([mirage, "EXEC:cat"]));
    wait_until("it listens", || lab.guard.sh("ss -Htln 'sport = :7'").contains(":7"));
    let (mut block, mut stdin) = start(&lab, &["--backend", "nft"]);
    let _scan = connect(&lab, &lab.scanner, "TCP4:198.51.100.1:9999,sourceport=53");
    assert!(lab.guard.sh("ss -Htn state established").contains(":9999"));
    applied(&mut block, &mut stdin, SCOPE);
}

/// The list may change while it runs: who is named is unblocked, and what is wrong changes nothing.
#[test]
fn whom_the_list_names_is_never_blocked_from_then_on() {
    let lab = Lab::new();
    lab.guard.sh("mkdir /run/state; printf '192.0.2.0/24 # office\\n' > /run/allow");
    let flags = ["--backend", "nft", "--allow", "/run/allow", "--state", "/run/state"];
    let (mut block, mut stdin) = start(&lab, &flags);
    let why = refused(&mut block, &mut stdin, "192.0.2.8/32");
    assert_eq!(why, "192.0.2.8/32 is an address that --allow names");
    let why = refused(&mut block, &mut stdin, "192.0.2.8/31");
    assert_eq!(why, "192.0.2.8/31 holds an address that --allow names");
    applied(&mut block, &mut stdin, SCOPE);
    lab.guard.sh("echo office.example.org > /run/allow");
    block.complaint("/run/allow, line 1: 'office.example.org' looks like a host name");
    refused(&mut block, &mut stdin, "192.0.2.8/32");
    lab.guard.sh("echo 203.0.113.7 > /run/allow");
    let let_in = outcome(&mut block, SCOPE);
    assert_eq!(let_in.body.result, OutcomeResult::Released);
    assert_eq!(let_in.body.error.as_deref(), Some("--allow names it from now on"));
    assert!(!lab.guard.sh("nft list ruleset").contains("203.0.113.7"));
    refused(&mut block, &mut stdin, SCOPE);
    applied(&mut block, &mut stdin, "192.0.2.8/32");
    // Neither is it remembered, nor wanted still.
    lab.guard.sh(": > /run/allow");
    wait_until("the list is read", || {
        say(&mut stdin, Action::Block, SCOPE, Some(60));
        result(&mut block, SCOPE) == OutcomeResult::Applied
    });
    block.terminate();
    lab.guard.sh("echo 203.0.113.7 > /run/allow");
    let (mut block, _stdin) = start(&lab, &flags);
    assert_eq!(result(&mut block, SCOPE), OutcomeResult::Refused);
    wait_until("what an earlier run left is deleted", || {
        !lab.guard.sh("nft list ruleset").contains("203.0.113.7")
    });
}

/// Nothing is looked at again and again: what happens wakes it, and its counters do once a minute.
#[test]
fn who_has_nothing_to_do_sleeps_until_something_happens() {
    let lab = Lab::new();
    lab.guard.sh("mkdir -p /run/etc /run/state /var/lib/psentry; echo 192.0.2.8 > /run/etc/allow");
    // A command cannot be purged by the one who declares a panic.
    let flags = ["--backend", "exec", "--exec", "true {addr}", "--exec-undo", "true {addr}"];
    let more = ["--allow", "/run/etc/allow", "--state", "/run/state"];
    let (mut block, mut stdin) = start(&lab, &[&flags[..], &more].concat());
    for scope in [SCOPE, "203.0.113.8/32"] {
        applied(&mut block, &mut stdin, scope);
    }
    let status = format!("/proc/{0}/task/{0}/status", block.pid());
    let wakes = || -> u32 {
        let text = std::fs::read_to_string(&status).unwrap();
        let count = text.lines().find_map(|line| line.strip_prefix("voluntary_ctxt_switches:"));
        count.unwrap().trim().parse().unwrap()
    };
    // Until the journal is on the disk.
    wait_until("it sleeps", || {
        let before = wakes();
        std::thread::sleep(Duration::from_secs(1));
        wakes() == before
    });
    let before = wakes();
    std::thread::sleep(Duration::from_secs(4));
    assert!(wakes() - before <= 1, "{} times", wakes() - before);
    lab.guard.sh("echo 203.0.113.7 > /run/etc/allow");
    assert_eq!(result(&mut block, SCOPE), OutcomeResult::Released);
    lab.guard.sh("touch /var/lib/psentry/panic");
    assert_eq!(result(&mut block, "203.0.113.8/32"), OutcomeResult::Released);
    block.complaint("a panic holds");
}

/// Whoever forges packets from many networks has no more of them blocked than the brake lets him, and whoever is proven is
/// blocked nevertheless.
#[test]
fn the_brake_turns_down_what_is_too_much() {
    let lab = Lab::new();
    let control = ["--control", "/run/psentry/control"];
    let (mut block, mut stdin) =
        start(&lab, &[&["--backend", "nft", "--brake", "3/min"], &control[..]].concat());
    let status = || lab.guard.run(&[&[bin("psentry-block"), "status", "--json"], &control[..]].concat());
    let mut forged = |scope: &str, duration: u64| {
        say_unproven(&mut stdin, scope, duration);
        outcome(&mut block, scope).body
    };
    // However many addresses of one network are forged, they count once.
    for scope in ["198.18.1.1/32", "198.18.1.2/32", "198.18.2.1/32", "2001:db8:9::/64", "2001:db8:9:1::/64"] {
        assert_eq!(forged(scope, 600).result, OutcomeResult::Applied, "{scope}");
    }
    // What is blocked may be so for longer, and who is unblocked counts for nothing.
    assert_eq!(forged("198.18.1.1/32", 7200).result, OutcomeResult::Applied);
    assert_eq!(status().status.code(), Some(0), "it lets through what it may");
    for n in 4..=5 {
        let told = forged(&format!("198.18.{n}.1/32"), 600);
        assert_eq!(told.result, OutcomeResult::Refused);
        let network =
            format!("198.18.{n}.0/24 would be one network more within a minute than --brake 3/min allows");
        assert_eq!(told.error, Some(format!("no handshake proves it, and {network}")));
    }
    assert_eq!(forged("198.18.1.3/32", 600).result, OutcomeResult::Applied, "it counts already");
    for n in 6..=20 {
        applied(&mut block, &mut stdin, &format!("198.18.{n}.1/32"));
    }
    // Nor is what was turned down kept from being proven.
    applied(&mut block, &mut stdin, "198.18.4.1/32");
    let told = status();
    let text = String::from_utf8_lossy(&told.stdout).into_owned() + &String::from_utf8_lossy(&told.stderr);
    assert_eq!(told.status.code(), Some(1), "{text}");
    assert_eq!(text.matches(r#""brake":{"per_minute":3,"refused":2}"#).count(), 2, "{text}");
    assert!(
        text.contains(r#""enforced":false"#) && text.contains("the brake holds: 2 unproven blocks"),
        "{text}"
    );
    let why = lab.guard.run(&[&[bin("psentry-block"), "why", "--json", "198.18.5.1"], &control[..]].concat());
    let why = String::from_utf8_lossy(&why.stderr).into_owned();
    assert!(why.contains("nothing keeps a verdict from blocking it now, but the brake holds"), "{why}");
    say_unproven(&mut stdin, "198.18.5.1/32", 600);
    assert_eq!(result(&mut block, "198.18.5.1/32"), OutcomeResult::Refused);
    block.complaint("THE BRAKE HOLDS: 198.18.4.1/32 is not blocked");
    drop(stdin);
    let (status, _, errors) = block.end();
    assert!(status.success(), "{errors:?}");
    let told = errors.iter().filter(|line| line.contains("brake")).collect::<Vec<_>>();
    assert_eq!(told, ["psentry-block: the brake held until the end: 3 unproven blocks were turned down"]);
}

/// Whoever forges leaves room for whoever is proven.
#[test]
fn what_is_not_proven_takes_half_of_the_room() {
    let lab = Lab::new();
    let (mut block, mut stdin) = start(&lab, &["--backend", "nft", "--max-blocks", "5"]);
    for n in 1..=3 {
        say_unproven(&mut stdin, &format!("198.18.{n}.1/32"), 600);
        assert_eq!(result(&mut block, &format!("198.18.{n}.1/32")), OutcomeResult::Applied, "{n}");
    }
    say_unproven(&mut stdin, "198.18.4.1/32", 600);
    let told = outcome(&mut block, "198.18.4.1/32").body;
    assert_eq!(told.result, OutcomeResult::Refused);
    assert!(told.error.unwrap().contains("no more than half of --max-blocks 5"));
    // Once one is proven it takes no more room of the others.
    applied(&mut block, &mut stdin, "198.18.1.1/32");
    say_unproven(&mut stdin, "198.18.4.1/32", 600);
    assert_eq!(result(&mut block, "198.18.4.1/32"), OutcomeResult::Applied);
    applied(&mut block, &mut stdin, "198.18.5.1/32");
    refused(&mut block, &mut stdin, "198.18.6.1/32");
}

/// Such as one that nobody writes into: it would be waited for.
#[test]
fn a_pipe_is_no_ignore_file() {
    let lab = Lab::new();
    lab.guard.sh("mkfifo /run/pipe");
    for line in [
        [bin("psentry-block"), "--check", "--allow", "/run/pipe"],
        [bin("psentry-judge"), "--check", "--ignore", "/run/pipe"],
        [bin("psentry-trap"), "--check", "--allow", "/run/pipe"],
    ] {
        let output = lab.guard.run(&[&["timeout", "10"][..], &line].concat());
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(said.contains("/run/pipe: it is no regular file"), "{line:?}: {said}");
        assert_eq!(output.status.code(), Some(78), "{line:?}: {said}");
    }
}
