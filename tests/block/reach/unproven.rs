//! A verdict that no handshake proves, which anybody may have forged, leaves alone what its source has established, and shuts
//! out what is new; one that is proven takes its place at once, and is never taken back while it lasts.

use std::collections::BTreeSet;

use super::established::connect;
use super::*;
use crate::lab::blocker::say_unproven;

/// A verdict that is not proven, applied.
fn block_unproven(program: &mut Program, stdin: &mut ChildStdin, duration: u64) {
    say_unproven(stdin, SCOPE, duration);
    assert_eq!(result(program, SCOPE), OutcomeResult::Applied);
}

/// What is listed of the scanner: its line.
fn listed(lab: &Lab, flags: &[&str]) -> String {
    let text = lab.guard.read(&[&[bin("psentry-block"), "list", "--json"], flags].concat());
    text.lines().find(|line| line.contains(SCOPE)).unwrap_or_default().to_owned()
}

const UNPROVEN: &str = r#""handshake":false"#;

#[test]
fn what_is_established_goes_on_until_a_handshake_proves_the_verdict() {
    for backend in FILTERS {
        for flags in [&[][..], &["--forward", "no"], &["--egress", "yes"], &["--answer", "reject"]] {
            let lab = Lab::new();
            let (_service, _echo) = (service(&lab.guard, 8087), echo(&lab.guard, 9053));
            let flags = [&["--backend", backend], flags].concat();
            let (mut program, mut stdin) = start(&lab, &flags);
            let mut connection = connect(&lab, &lab.guard, GUARD[0], 9001, 9001);
            assert_eq!(lab.guard.sh("conntrack -C").trim(), "0", "{flags:?}: nothing was tracked before");
            block_unproven(&mut program, &mut stdin, 600);
            assert!(connection.goes_on(), "{flags:?}");
            let heard = if flags.contains(&"reject") { "refused" } else { "timed out" };
            assert_eq!(call(&lab.scanner, GUARD[0], 8087), heard, "{flags:?}: no new one");
            assert!(!answered(&lab.scanner, ROUTER, 9053), "{flags:?}");
            assert_eq!(call(&lab.innocent, GUARD[0], 8087), "reached", "{flags:?}: nobody else");
            assert!(listed(&lab, &flags[..2]).contains(UNPROVEN), "{flags:?}");
            // The same again, longer, is no more than it was.
            block_unproven(&mut program, &mut stdin, 700);
            assert!(connection.goes_on(), "{flags:?}");
            // Shorter, but proven.
            block(&mut program, &mut stdin);
            assert!(!connection.goes_on(), "{flags:?}");
            assert!(!listed(&lab, &flags[..2]).contains(UNPROVEN), "{flags:?}");
            // Never back while it lasts, which is until the end of both.
            say_unproven(&mut stdin, SCOPE, 60);
            assert_eq!(result(&mut program, SCOPE), OutcomeResult::Already, "{flags:?}");
            block_unproven(&mut program, &mut stdin, 3600);
            assert!(!listed(&lab, &flags[..2]).contains(UNPROVEN), "{flags:?}");
            unblock(&mut program, &mut stdin);
            assert_eq!(call(&lab.scanner, GUARD[0], 8087), "reached", "{flags:?}");
            assert_eq!(listed(&lab, &flags[..2]), "", "{flags:?}");
            program.terminate();
            flush(&lab, backend);
        }
    }
}

#[test]
fn what_is_not_proven_is_not_cut() {
    let lab = Lab::new();
    for backend in FILTERS.into_iter().chain(["hosts-deny"]) {
        let flags = ["--backend", backend, "--cut", "--hosts-deny", "/run/hosts.deny"];
        let (mut program, mut stdin) = start(&lab, &flags);
        let mut connection = connect(&lab, &lab.guard, GUARD[0], 9001, 9001);
        block_unproven(&mut program, &mut stdin, 600);
        assert!(connection.goes_on(), "{backend}");
        block(&mut program, &mut stdin);
        connection.is_cut();
        program.terminate();
        lab.guard.read(&[&[bin("psentry-block"), "flush", "--json"], &flags[..2], &flags[3..]].concat());
    }
}

/// A datagram that comes through between the one block and the other would be seen: hundreds of them come a second.
#[test]
fn a_proven_block_takes_the_place_of_the_other_without_a_gap() {
    for backend in FILTERS {
        let lab = Lab::new();
        let (mut program, mut stdin) = start(&lab, &["--backend", backend]);
        block_unproven(&mut program, &mut stdin, 600);
        let mut listener = Program::start(lab.guard.command("socat").args(["-u", "UDP-RECV:9055", "STDOUT"]));
        wait_until("somebody listens", || lab.guard.sh("cat /proc/net/udp").contains(":235F "));
        // One socket for each, so that none belongs to what is established.
        lab.guard.sh("nft 'add table inet test; add counter inet test seen
                  add chain inet test raw { type filter hook prerouting priority -400; }
                  add rule inet test raw udp dport 9055 counter name seen'");
        let come = || {
            lab.guard.sh("nft reset counter inet test seen");
            wait_until("datagrams come", || {
                !lab.guard.sh("nft list counter inet test seen").contains("packets 0")
            });
        };
        // A socket for each, so that none belongs to what is established.
        let flood = format!("for n in $(seq 100000); do echo $n > /dev/udp/{}/9055; done", GUARD[0]);
        let mut flooding = lab.scanner.command("bash").args(["-c", &flood]).spawn().unwrap();
        come();
        block(&mut program, &mut stdin);
        come();
        assert!(!listed(&lab, &["--backend", backend]).contains(UNPROVEN), "{backend}");
        flooding.kill().unwrap();
        flooding.wait().unwrap();
        lab.guard.sh("echo bye | socat -u - UDP:127.0.0.1:9055");
        assert_eq!(listener.line("a datagram", |_| true), "bye", "{backend}");
    }
}

#[test]
fn a_restart_and_a_repair_know_which_it_was() {
    for backend in FILTERS {
        let (lab, state) = (Lab::new(), tempfile::tempdir().unwrap());
        let _service = service(&lab.guard, 8087);
        let flags = ["--backend", backend, "--state", state.path().to_str().unwrap()];
        let (mut program, mut stdin) = start(&lab, &flags);
        let mut connection = connect(&lab, &lab.guard, GUARD[0], 9001, 9001);
        block_unproven(&mut program, &mut stdin, 600);
        say(&mut stdin, Action::Block, "198.18.0.1", Some(600));
        assert_eq!(result(&mut program, "198.18.0.1/32"), OutcomeResult::Applied);
        let proof = || -> BTreeSet<bool> {
            let text = lab.guard.read(&[&[bin("psentry-block"), "list", "--json"], &flags[..]].concat());
            text.lines().map(|line| line.contains(UNPROVEN)).collect()
        };
        let both = BTreeSet::from([false, true]);
        let shut = "nft flush ruleset; ipset flush";
        lab.guard.sh(&format!("{shut}; true"));
        program.complaint("put back within");
        assert_eq!(proof(), both, "{backend}");
        assert!(connection.goes_on(), "{backend}");
        assert_eq!(call(&lab.scanner, GUARD[0], 8087), "timed out", "{backend}");
        // As after a reboot: nothing is there, and what is remembered is put back.
        program.signal(Signal::SIGKILL);
        program.end();
        lab.guard.sh(&format!("{shut}; ipset destroy; true"));
        let (mut program, mut stdin) = start(&lab, &flags);
        say(&mut stdin, Action::Unblock, "198.18.0.9", None);
        assert_eq!(result(&mut program, "198.18.0.9/32"), OutcomeResult::Already);
        assert_eq!(proof(), both, "{backend}");
        assert!(connection.goes_on(), "{backend}");
        assert_eq!(call(&lab.scanner, GUARD[0], 8087), "timed out", "{backend}");
        let why =
            lab.guard.read(&[&[bin("psentry-block"), "why", "--json", "203.0.113.7"], &flags[..]].concat());
        assert!(why.contains(UNPROVEN), "{why}");
        // And of what is there, with another memory.
        program.signal(Signal::SIGKILL);
        program.end();
        let (mut program, mut stdin) = start(&lab, &flags[..2]);
        say_unproven(&mut stdin, SCOPE, 60);
        assert_eq!(result(&mut program, SCOPE), OutcomeResult::Already, "{backend}");
        block(&mut program, &mut stdin);
        assert!(!connection.goes_on(), "{backend}");
        program.terminate();
        flush(&lab, backend);
    }
}

/// A route would end what is established, whoever forged the verdict's evidence.
#[test]
fn a_route_is_made_for_proven_verdicts_alone() {
    let lab = Lab::new();
    let (mut program, mut stdin) = start(&lab, &["--backend", "nft", "--backend", "route"]);
    let mut connection = connect(&lab, &lab.guard, GUARD[0], 9001, 9001);
    for _ in 0..2 {
        say_unproven(&mut stdin, SCOPE, 600);
        let told = [outcome(&mut program, SCOPE).body, outcome(&mut program, SCOPE).body];
        let of = |name: &str| told.iter().find(|body| body.backend.as_deref() == Some(name)).unwrap();
        assert_eq!(of("route").result, OutcomeResult::Refused);
        assert!(of("route").error.as_ref().unwrap().contains("no handshake proves 203.0.113.7/32"));
        assert_ne!(of("nft").result, OutcomeResult::Refused);
    }
    assert!(!lab.guard.sh("ip route show proto 158").contains("203.0.113.7"));
    assert!(connection.goes_on());
    say(&mut stdin, Action::Block, SCOPE, Some(600));
    assert_eq!([0; 2].map(|_| result(&mut program, SCOPE)), [OutcomeResult::Applied; 2]);
    assert!(lab.guard.sh("ip route show proto 158").contains("203.0.113.7"));
    // A later one that is not proven changes nothing of that.
    say_unproven(&mut stdin, SCOPE, 60);
    assert_eq!([0; 2].map(|_| result(&mut program, SCOPE)), [OutcomeResult::Already; 2]);
    assert!(lab.guard.sh("ip route show proto 158").contains("203.0.113.7"));
}
