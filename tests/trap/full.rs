//! A quarantine that is full: a second one, which is brief, takes over, on every way by which a source is in it; and what
//! finds no room in that either is refused packet by packet.

use std::io::Write;

use super::load::FORGE;
use super::rotation::{TRY, route_any};
use super::{counter, probe, probes, python};
use crate::lab::{GUARD, Lab, Program, SCANNER, bin, wait_until};

const SERVICE: u16 = 8088;

/// nft, which loads the rules with room for four sources in each quarantine.
const SMALL: &str = "#!/bin/sh
[ \"$1 $2\" = '-f -' ] || exec /usr/sbin/nft \"$@\"
sed '/set \\(quarantine\\|brief\\)/s/size [0-9]*/size 4/' | exec /usr/sbin/nft -f -
";

/// The trap with little room.
fn small_trap(lab: &Lab, flags: &[&str]) -> Program {
    let mut script = Program::start_fed(
        lab.guard
            .command("sh")
            .args(["-c", "mkdir /run/small; cat > /run/small/nft; chmod +x /run/small/nft"]),
    );
    script.stdin().write_all(SMALL.as_bytes()).unwrap();
    assert!(script.end().0.success());
    let path = format!("/run/small:{}", std::env::var("PATH").unwrap());
    let trap = Program::start(lab.guard.command(bin("psentry-trap")).args(flags).env("PATH", path));
    wait_until("the trap stands", || super::stands(lab));
    trap
}

/// Four forged sources have all the room there is; a scanner is shut out all the same, for as long as its record says.
#[test]
fn when_the_quarantine_is_full_a_brief_one_takes_over() {
    let lab = Lab::new();
    route_any(&lab);
    lab.guard.sh("ip route add 198.18.0.0/15 dev scanner");
    let _service = lab.service(SERVICE);
    let mut trap = small_trap(&lab, &["--quarantine", "10m"]);
    python(&lab.scanner, FORGE, &[GUARD[0], "23", "4", "0", "1"]);
    let host = |network: &str, n: u8| format!("{network}{n:x}");
    // A /64 each; one address each, as behind a translator.
    for network in ["2001:db8:7:ff0", "64:ff9b::b01:10"] {
        let end = if network.starts_with("64") { "" } else { "::1" };
        let sources: Vec<String> = (0..4).map(|n| host(network, n) + end).collect();
        python(&lab.scanner, TRY, &[GUARD[1], "23", &sources.join(",")]);
    }
    for (from, guard) in [(SCANNER[0], GUARD[0]), (SCANNER[1], GUARD[1]), ("64:ff9b::b01:199", GUARD[1])] {
        let reaches = |port: u16| python(&lab.scanner, TRY, &[guard, &port.to_string(), from]) == "taken\n";
        assert!(reaches(SERVICE), "{from}: nobody else's quarantine is its own");
        assert!(!reaches(9));
        let found = probe(&mut trap, "its probe", |probe| probe.common.src_ip.unwrap().to_string() == from);
        assert_eq!(found.body.quarantine, Some(2), "{from}");
        // Each closed port renews it.
        let renewed = python(&lab.scanner, TRY, &[guard, &format!("10,{SERVICE}"), from]);
        assert_eq!(renewed, "silence\nsilence\n", "{from}");
        wait_until("the brief quarantine is over", || reaches(SERVICE));
    }
    // Any change of routes makes it look at once.
    lab.guard.sh("ip route add 203.0.113.128/25 via 203.0.113.7");
    let complaint = trap.complaint("the quarantine is full");
    assert!(
        complaint.contains("packets put their source into quarantine for two seconds at most"),
        "{complaint}"
    );
    let (_, lines, _) = trap.terminate();
    assert_eq!((counter(&lines, "quarantined"), counter(&lines, "quarantine_full")), (12, 0));
    assert!(counter(&lines, "quarantined_briefly") >= 6);
}

#[test]
fn when_both_are_full_each_packet_is_refused() {
    let lab = Lab::new();
    lab.guard.sh("ip route add 198.18.0.0/15 dev scanner");
    let mut trap = small_trap(&lab, &["--quarantine", "10m"]);
    python(&lab.scanner, FORGE, &[GUARD[0], "23", "10", "0", "1"]);
    let (_, lines, _) = trap.terminate();
    let of = ["quarantined", "quarantined_briefly", "quarantine_full", "refused"]
        .map(|name| counter(&lines, name));
    assert_eq!(of, [4, 4, 2, 10]);
    let quarantines: Vec<_> = probes(&lines).iter().map(|probe| probe.body.quarantine).collect();
    assert_eq!(
        quarantines,
        [[Some(600); 4], [Some(2); 4]].concat().into_iter().chain([None; 2]).collect::<Vec<_>>()
    );
}

/// Who is kept out for no longer than that anyway.
#[test]
fn a_short_quarantine_has_no_longer_substitute() {
    let lab = Lab::new();
    lab.guard.sh("ip route add 198.18.0.0/15 dev scanner");
    let mut trap = small_trap(&lab, &["--quarantine", "1s"]);
    python(&lab.scanner, FORGE, &[GUARD[0], "23", "5", "0", "1"]);
    let probes = probes(&trap.terminate().1);
    assert!(probes.len() == 5 && probes.iter().all(|probe| probe.body.quarantine == Some(1)), "{probes:#?}");
}
