//! What a mirage's ruleset has to let pass, and what not.

use super::*;

/// A program of this machine that tries a closed port, and an answer for which nobody waits any more, are no probes.
#[test]
fn this_machines_own_programs_and_late_answers_are_no_probes() {
    let mut scene = scene(&[]);
    let guard = &scene.lab.guard;
    for own in ["127.0.0.1", GUARD[0]] {
        assert!(
            !guard.ok(&["nc", "-nz", own, "7777"]),
            "a closed port of {own} is closed to its own programs"
        );
    }
    // Asked from a port that is closed again when the answer comes.
    guard.sh(&format!("echo question | socat -t 0 - UDP4-SENDTO:{}:53,bind={}:40000", SCANNER[0], GUARD[0]));
    let answer = format!("echo answer | socat -t 0 - UDP4-SENDTO:{}:40000,bind=:53", GUARD[0]);
    scene.lab.scanner.sh(&answer);
    // From the same port, to one from which nobody asked.
    scene.lab.scanner.sh(&answer.replace(":40000", ":40001"));
    assert_eq!(scene.probe().common.dest_port, Some(40_001));
    let (_, rest, errors) = scene.listen.terminate();
    assert_eq!(without_stats(&rest), [""; 0], "{errors:?}");
}

/// The kernel remembers nothing of a SYN that it answers by a cookie: the ACK is the first that finds a way.
#[test]
fn a_handshake_by_syn_cookie_reaches_it_too() {
    let mut scene = scene(&[]);
    scene.lab.guard.sh("echo 2 > /proc/sys/net/ipv4/tcp_syncookies");
    for address in GUARD {
        scene.lab.scanner.touch(address, 443);
        let probe = scene.probe();
        let how = (probe.common.dest_port, probe.body.handshake, probe.body.cookie);
        assert_eq!(how, (Some(443), true, true), "{address}");
    }
}
