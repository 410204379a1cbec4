//! What others put before a block, so that it has no effect: rules of iptables move behind it, and what stays before it is named by
//! status, which is not green.

use super::xtables::Machine;
use super::*;
use crate::lab::SCANNER as SCANNERS;

/// What is wrong, as `status` says; empty: nothing is.
fn wrong(guard: &Host) -> String {
    let status = guard.run(&[bin("psentry-block"), "status", "--json"]);
    let said = String::from_utf8(status.stderr).unwrap();
    assert_eq!(status.status.success(), said.is_empty(), "{said}");
    said
}

/// Rules that accept, as Docker and administrators put them first.
const ACCEPTING: [&str; 2] = [
    "iptables -I INPUT 1 -s 203.0.113.0/24 -j ACCEPT",
    "iptables -N DOCKER-USER; iptables -A DOCKER-USER -j ACCEPT; iptables -I FORWARD 1 -j DOCKER-USER
     iptables -I INPUT 1 -j DOCKER-USER; ip6tables -I INPUT 1 -j ACCEPT",
];

#[test]
fn rules_that_accept_move_behind_blocks() {
    for variant in ["nft", "legacy"] {
        for backend in ["iptables", "ipset"] {
            let machine = Machine::new(variant);
            let lab = &machine.lab;
            let _service = lab.service(8088);
            let (mut program, mut stdin) = machine.start(&["--backend", backend]);
            block(&mut program, &mut stdin, &[SCANNER, "2001:db8:7::/64"]);
            let first = "for program in iptables ip6tables; do for chain in INPUT FORWARD; do
                 $program -S $chain | sed -n 2p | grep -qi psentry || echo $program $chain; done; done";
            for accepting in ACCEPTING {
                let accepting = format!("PATH={}; {accepting}", machine.iptables.path);
                damaged(&program, &lab.guard, &accepting, || machine.sh(first).is_empty());
                let said = program.complaint("put back");
                println!("{backend} ({variant}): {said}");
                assert!(machine.sh("iptables -S INPUT").contains("-j ACCEPT"), "that of others stays");
                for guard in GUARD {
                    assert!(lab.scanner.is_shut_out(guard, 8088), "{backend} ({variant}): {accepting}");
                }
                assert!(lab.innocent.reaches(GUARD[0], 8088));
                assert_eq!(wrong(&lab.guard), "");
            }
            assert_eq!(SCANNERS.len(), GUARD.len());
        }
    }
}

/// Whoever puts his first again and again is not fought, and as long as it is there status names it.
#[test]
fn a_rule_that_stays_before_blocks_is_named_and_status_is_not_green() {
    for variant in ["nft", "legacy"] {
        for backend in ["iptables", "ipset"] {
            let machine = Machine::new(variant);
            let (mut program, mut stdin) = machine.start(&["--backend", backend]);
            block(&mut program, &mut stdin, &[SCANNER]);
            assert_eq!(wrong(&machine.lab.guard), "");
            let fighter = format!("while :; do {} || true; sleep 0.2; done", ACCEPTING[0]);
            let mut command = machine.lab.guard.command("sh");
            let fighter = Program::start(command.args(["-c", &fighter]).env("PATH", &machine.iptables.path));
            program.complaint("again and again");
            drop(fighter);
            machine.sh(ACCEPTING[0]);
            let said = wrong(&machine.lab.guard);
            let rule = "'iptables -A INPUT -s 203.0.113.0/24 -j ACCEPT' comes before psentry's rule";
            assert!(said.contains(rule), "{backend} ({variant}): {said}");
            program.complaint(rule);
            // The question has listed it, and has not put it right; that is still done, though nobody asks again.
            let first = || machine.sh("iptables -S INPUT | sed -n 2p");
            wait_until("ours is first again", || first().to_lowercase().contains("psentry"));
            wait_until("it is well again", || wrong(&machine.lab.guard).is_empty());
        }
    }
}

/// No packet comes to the rules of a dormant table, nor to those of a chain without a hook. Both are kept by nf_tables alone, and
/// hold what is everybody's.
#[test]
fn rules_that_no_packet_comes_to_are_named_and_status_is_not_green() {
    for backend in ["iptables", "ipset"] {
        let machine = Machine::new("nft");
        let lab = &machine.lab;
        let _service = lab.service(8088);
        let (mut program, mut stdin) = machine.start(&["--backend", backend]);
        block(&mut program, &mut stdin, &[SCANNER, "2001:db8:7::/64"]);
        for (family, guard) in ["ip", "ip6"].into_iter().zip(GUARD) {
            let dormant = format!("table {family} filter is dormant");
            let unhooked = "has no hook".to_owned();
            for (harm, words, remedy) in [
                ("add table {} filter { flags dormant; }", &dormant, "add table {} filter"),
                (
                    "delete table {} filter; add table {} filter { flags dormant; }",
                    &dormant,
                    "add table {} filter",
                ),
                (
                    "flush chain {} filter INPUT; delete chain {} filter INPUT; add chain {} filter INPUT",
                    &unhooked,
                    "flush chain {} filter INPUT; delete chain {} filter INPUT",
                ),
            ] {
                let nft = |line: &str| lab.guard.sh(&format!("nft '{}'", line.replace("{}", family)));
                nft(harm);
                wait_until(words, || wrong(&lab.guard).contains(words));
                program.complaint(words);
                assert!(lab.scanner.reaches(guard, 8088), "{backend}: {words}");
                nft(remedy);
                wait_until("it is well again", || wrong(&lab.guard).is_empty());
                assert!(lab.scanner.is_shut_out(guard, 8088), "{backend}: {words}");
            }
        }
    }
}

/// What somebody gives another name blocks nobody who is unblocked.
#[test]
fn a_renamed_chain_of_iptables_is_made_anew_and_the_old_one_deleted() {
    for variant in ["nft", "legacy"] {
        let machine = Machine::new(variant);
        let lab = &machine.lab;
        let _service = lab.service(8088);
        let (mut program, mut stdin) = machine.start(&["--backend", "iptables"]);
        block(&mut program, &mut stdin, &[SCANNER]);
        machine.sh("iptables -E PSENTRY bar");
        program.complaint("put back");
        wait_until("it is well again", || wrong(&lab.guard).is_empty());
        assert!(!machine.sh("iptables -S").contains("bar"), "{variant}");
        say(&mut stdin, Action::Unblock, SCANNER, None);
        assert_eq!(result(&mut program, SCANNER), OutcomeResult::Applied, "it was put back");
        assert_eq!(result(&mut program, SCANNER), OutcomeResult::Released);
        assert!(lab.scanner.reaches(GUARD[0], 8088), "{variant}");
    }
}

/// A set that somebody put in the place of ours, which cannot keep why and until when.
#[test]
fn a_set_of_ipset_that_is_not_as_ours_are_is_made_anew() {
    let machine = Machine::new("nft");
    let lab = &machine.lab;
    let _service = lab.service(8088);
    let (mut program, mut stdin) = machine.start(&["--backend", "ipset"]);
    block(&mut program, &mut stdin, &[SCANNER]);
    for kind in ["hash:net timeout 0", "hash:net comment", "hash:net timeout 0 comment counters skbinfo"] {
        machine.sh(&format!("ipset create zz {kind}; ipset swap psentry4 zz; ipset destroy zz"));
        wait_until(kind, || machine.sh("ipset save psentry4 || true").contains("203.0.113.7 timeout"));
        wait_until("all is well", || wrong(&lab.guard).is_empty());
        assert!(lab.scanner.is_shut_out(GUARD[0], 8088), "{kind}");
    }
}

/// A route of others to the same source is theirs. It is told once, and named as long as it is there.
#[test]
fn a_route_before_a_block_is_named_and_status_is_not_green() {
    let lab = Lab::new();
    for (route, words) in [
        ("203.0.113.7/32 dev scanner metric 1", "203.0.113.7/32 is not blocked: another route"),
        ("198.18.0.128/25 dev scanner", "198.18.0.0/24 is not blocked: another route to 198.18.0.254"),
    ] {
        let (mut program, mut stdin) = start(&lab, &["--backend", "route"]);
        block(&mut program, &mut stdin, &[SCANNER, "198.18.0.0/24"]);
        assert_eq!(wrong(&lab.guard), "");
        // And what does not concern anybody who is blocked.
        lab.guard.sh(&format!("ip route replace {route}; ip route replace 198.19.0.0/16 dev scanner"));
        program.complaint(words);
        assert!(wrong(&lab.guard).contains(words));
        block(&mut program, &mut stdin, &["198.18.7.7/32"]);
        lab.guard.sh(&format!("ip route del {route}"));
        wait_until("it is not there any more", || wrong(&lab.guard).is_empty());
        let flush = format!("{} flush", bin("psentry-block"));
        lab.guard.sh(&flush);
        let (_, _, errors) = program.terminate();
        let again: Vec<_> = errors.iter().filter(|line| line.contains("not blocked")).collect();
        assert!(again.is_empty(), "told once: {errors:?}");
    }
}
