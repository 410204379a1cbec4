//! A panic, /var/lib/psentry/panic: while it holds nobody is in quarantine, and all is recorded.

use psentry_records::Record;

use super::{counter, probe, quarantined, trap};
use crate::lab::{GUARD, Lab, Program, bin, wait_until};

const SERVICE: u16 = 8088;

/// Scans of the scanner's that are recorded and cost it nothing.
fn is_spared(lab: &Lab, trap: &mut Program, port: u16) {
    for (family, guard) in GUARD.into_iter().enumerate() {
        // Refused by the kernel itself, at once.
        let scan = lab.scanner.run(&["nc", "-z", "-v", "-n", "-w", "5", guard, &port.to_string()]);
        assert!(String::from_utf8_lossy(&scan.stderr).contains("refused"), "{port}");
        let of = |ip: std::net::IpAddr| ip.is_ipv6() == (family == 1);
        let found = probe(trap, "a probe", |probe| {
            probe.common.dest_port == Some(port) && probe.common.dest_ip.is_some_and(of)
        });
        assert_eq!(found.body.quarantine, None);
        assert!(lab.scanner.reaches(guard, SERVICE));
    }
    assert_eq!(quarantined(lab), [false, false]);
}

/// The scanner is in quarantine after it touched a port.
fn is_trapped(lab: &Lab, port: u16) {
    for guard in GUARD {
        assert!(lab.scanner.is_shut_out(guard, port) && lab.scanner.is_shut_out(guard, SERVICE));
    }
    assert_eq!(quarantined(lab), [true, true]);
}

/// `touch` declares one, though the directory is made only now; psentry-block ends it, and declares the next.
#[test]
fn a_panic_releases_everybody_until_it_is_over() {
    let lab = Lab::new();
    let _service = lab.service(SERVICE);
    let mut trap = trap(&lab, &["--quarantine", "10m"]);
    is_trapped(&lab, 9);
    let served = || lab.guard.read(&["nft", "list", "set", "inet", "psentry_trap", "served4"]);
    assert!(lab.innocent.reaches(GUARD[0], SERVICE) && served().contains("8088"));
    lab.guard.sh("mkdir /var/lib/psentry; touch /var/lib/psentry/panic");
    assert!(trap.complaint("a panic holds").contains("nobody is in quarantine until"));
    assert!(GUARD.iter().all(|guard| lab.scanner.reaches(guard, SERVICE)));
    is_spared(&lab, &mut trap, 10);
    // Whoever changes the rules now gets those of a panic back.
    lab.guard.read(&["nft", "flush", "chain", "inet", "psentry_trap", "input"]);
    trap.complaint("they are loaded again");
    is_spared(&lab, &mut trap, 11);

    let block = bin("psentry-block");
    lab.guard.read(&[block, "resume"]);
    trap.complaint("the panic is over");
    // The same port as before it: nothing is remembered of anybody. But it is still known what is served.
    assert!(served().contains("8088"));
    is_trapped(&lab, 9);
    lab.guard.read(&[block, "panic", "--reason", "the office is out"]);
    trap.complaint("(the office is out)");
    is_spared(&lab, &mut trap, 12);
    lab.guard.sh("rm /var/lib/psentry/panic");
    trap.complaint("the panic is over");
    is_trapped(&lab, 12);
    let (_, lines, errors) = trap.terminate();
    assert_eq!((counter(&lines, "panics"), counter(&lines, "repairs")), (2, 1), "{errors:?}");
    assert_eq!(lab.guard.read(&["nft", "list", "ruleset"]), "");
}

#[test]
fn a_panic_that_holds_at_the_start_is_heeded_and_one_that_is_over_is_not() {
    let lab = Lab::new();
    let _service = lab.service(SERVICE);
    lab.guard.sh("mkdir /var/lib/psentry; touch /var/lib/psentry/panic");
    let mut first = trap(&lab, &[]);
    assert!(first.complaint("ready: traps every TCP port").contains("; a panic holds since "));
    is_spared(&lab, &mut first, 9);
    let (_, lines, _) = first.terminate();
    assert_eq!(counter(&lines, "panics"), 1);
    lab.guard.read(&[bin("psentry-block"), "resume"]);
    let mut second = trap(&lab, &[]);
    assert!(!second.complaint("ready: traps").contains("panic"));
    is_trapped(&lab, 9);
    second.terminate();
}

/// While it is stopped it can look at nothing.
#[test]
fn a_panic_that_came_and_went_unseen_releases_everybody_too() {
    let lab = Lab::new();
    let _service = lab.service(SERVICE);
    let mut trap = trap(&lab, &["--quarantine", "10m"]);
    is_trapped(&lab, 9);
    trap.signal(nix::sys::signal::Signal::SIGSTOP);
    let block = bin("psentry-block");
    lab.guard.sh(&format!("{block} panic; {block} resume"));
    assert!(lab.scanner.is_shut_out(GUARD[0], SERVICE));
    trap.signal(nix::sys::signal::Signal::SIGCONT);
    trap.complaint("there was a panic");
    assert!(GUARD.iter().all(|guard| lab.scanner.reaches(guard, SERVICE)));
    is_trapped(&lab, 9);
    trap.signal(nix::sys::signal::Signal::SIGUSR1);
    trap.record(
        "stats",
        |record| matches!(record, Record::Stats(stats) if stats.body.counter("panics") == 1),
    );
}

/// Without inotify, which is counted by user, it looks once a second; and it says that it cannot see the file.
#[test]
fn a_panic_is_seen_without_inotify_and_a_file_that_cannot_be_seen_is_reported() {
    let lab = Lab::new();
    let _service = lab.service(SERVICE);
    lab.guard.sh("ln -s psentry /var/lib/psentry; echo 0 > /proc/sys/user/max_inotify_instances");
    let mut trap = trap(&lab, &["--quarantine", "10m"]);
    trap.complaint("cannot tell whether a panic holds: /var/lib/psentry/panic: ");
    is_trapped(&lab, 9);
    lab.guard.sh("rm /var/lib/psentry; mkdir /var/lib/psentry; touch /var/lib/psentry/panic");
    trap.complaint("a panic holds");
    wait_until("the rules only observe", || lab.scanner.reaches(GUARD[0], SERVICE));
    is_spared(&lab, &mut trap, 10);
}
