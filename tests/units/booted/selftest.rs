//! The self-test knows that ports of one family are one contact, and whether the trap sees anything.

use crate::lab::Booted;

/// With all its decoys it is well; with those of one family alone it says why nobody was convicted.
pub(super) fn knows_families(guard: &Booted) {
    guard.sh("systemctl start psentry-selftest.service");
    assert!(guard.sh("journalctl -u psentry-selftest -o cat").contains("psentry is well"));

    let decoys = "systemctl list-units --plain --no-legend --state=active 'psentry-tcp@*.socket' 'psentry-udp@*.socket'";
    let others = guard.sh(&format!("{decoys} | cut -d ' ' -f 1 | grep -v -e @139 -e @445 | tr '\\n' ' '"));
    let count = || guard.sh("/usr/local/lib/psentry/selftest --count");
    assert!(count().trim().parse::<usize>().unwrap() > 20);
    guard.sh(&format!("systemctl stop {others}"));
    assert_eq!(count(), "1\n");
    assert!(!guard.ok("systemctl start psentry-selftest.service"));
    let said = guard.sh("journalctl -u psentry-selftest -p crit -o cat");
    assert!(said.contains("open a decoy of another"), "{said}");
    guard.sh(&format!(
        "systemctl stop psentry-listen; systemctl start {others}
         systemctl reset-failed psentry-selftest; systemctl start psentry-listen"
    ));
}

/// It touches a closed port, too, and says when the trap has not seen it.
pub(super) fn knows_the_trap(guard: &Booted) {
    let well = "systemctl start psentry-selftest; journalctl -u psentry-selftest -o cat | grep 'and the closed port 2, and was judged'";
    assert!(guard.ok(well));
    guard.sh("systemctl kill --signal=STOP psentry-trap");
    assert!(!guard.ok("systemctl start psentry-selftest.service"));
    guard.sh("systemctl kill --signal=CONT psentry-trap; systemctl reset-failed psentry-selftest");
    let said = guard.sh("journalctl -u psentry-selftest -p crit -o cat");
    assert!(said.contains("touching the closed port 2"), "{said}");
}

/// It names the unit that does not run, before it touches a port; one that is masked on purpose is named, and all is well.
pub(super) fn names_the_unit_that_does_not_run(guard: &Booted) {
    // What waits for one of the others would start it again.
    guard.sh("systemctl stop psentry-trap");
    assert!(!guard.ok("systemctl start psentry-selftest.service"));
    guard.sh("systemctl reset-failed psentry-selftest");
    let said = guard.sh("journalctl -u psentry-selftest -p crit -o cat | tail -n 1");
    let want = "psentry is dead: psentry-trap.service does not run, it is inactive; see journalctl -u psentry-trap.service\n";
    assert_eq!(said, want);
    guard.sh("systemctl mask --now --runtime psentry-trap && systemctl start psentry-selftest.service");
    let said = guard.sh("journalctl -u psentry-selftest -o cat | grep 'psentry is well' | tail -n 1");
    assert!(said.ends_with("was judged, without psentry-trap (masked).\n"), "{said}");
    guard.sh("systemctl unmask --runtime psentry-trap; systemctl start psentry-trap");
}
