//! The control socket: who is in quarantine is seen, told why, and released; and who may not release is not heeded.

use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use psentry_records::{OutcomeResult, Record};

use super::rotation::{route_any, tries};
use super::{counter, quarantined, trap};
use crate::lab::{GUARD, Lab, Program, SCANNER, SCANNER_SCOPE, bin, wait_until};

const SERVICE: u16 = 8088;

/// Runs a command of psentry-trap on the guard: its exit code, what it prints, and what it says.
fn command(lab: &Lab, line: &[&str]) -> (Option<i32>, String, String) {
    let output = lab.guard.run(&[&[bin("psentry-trap")], line].concat());
    let [out, error] =
        [&output.stdout, &output.stderr].map(|bytes| String::from_utf8_lossy(bytes).into_owned());
    (output.status.code(), out, error)
}

/// A command that ends well.
fn well(lab: &Lab, line: &[&str]) -> String {
    let (code, out, error) = command(lab, line);
    assert_eq!((code, &*error), (Some(0), ""), "{line:?}: {out}");
    out
}

#[test]
fn who_is_in_quarantine_is_listed_told_why_and_released() {
    let lab = Lab::new();
    let _service = lab.service(SERVICE);
    let mut trap = trap(&lab, &["--quarantine", "10m"]);
    assert_eq!(well(&lab, &["list"]), "nobody is in quarantine\n");
    for (family, guard) in GUARD.into_iter().enumerate() {
        let shown = SCANNER_SCOPE[family].trim_end_matches("/32");
        assert!(lab.scanner.is_shut_out(guard, 445) && lab.scanner.is_shut_out(guard, SERVICE));
        let list = well(&lab, &["list"]);
        let left = list.trim().strip_prefix(shown).and_then(|rest| rest.trim().strip_suffix(" s left"));
        let left: u32 = left.and_then(|left| left.parse().ok()).unwrap_or_else(|| panic!("{list}"));
        assert!((1..=600).contains(&left), "{list}");

        let why = well(&lab, &["why", SCANNER[family]]);
        assert!(why.contains(" is in quarantine, "), "{why}");
        assert!(why.ends_with(&format!("ended by: psentry-trap unblock {shown}\n")), "{why}");
        let record = Record::parse(&well(&lab, &["why", SCANNER[family], "--json"])).unwrap();
        let Record::Outcome(outcome) = record else { panic!("{record:?}") };
        assert_eq!(outcome.body.result, OutcomeResult::Already);
        assert_eq!(outcome.body.scope.to_string(), SCANNER_SCOPE[family]);
        let (until, now) = (outcome.body.until.unwrap(), outcome.common.timestamp);
        assert!(until.since(now) <= Duration::from_secs(600) && until > now, "{outcome:?}");

        assert_eq!(well(&lab, &["unblock", SCANNER[family]]), format!("{shown} is released\n"));
        trap.complaint(&format!("a command released {}", SCANNER_SCOPE[family]));
        assert!(lab.scanner.reaches(guard, SERVICE), "at once");
        // The same port again is no scan; another one is.
        lab.scanner.is_shut_out(guard, 445);
        assert!(lab.scanner.reaches(guard, SERVICE));
        assert_eq!(
            well(&lab, &["unblock", SCANNER[family]]),
            format!("{} was not in quarantine\n", SCANNER[family])
        );
        let (code, out, error) = command(&lab, &["why", SCANNER[family]]);
        assert_eq!((code, &*out), (Some(1), ""));
        assert!(error.ends_with(&format!("{} is not in quarantine\n", SCANNER[family])), "{error}");
    }
    // What a command deletes is no change of the rules by others.
    assert_eq!(counter(&trap.terminate().1, "repairs"), 0);
    let (code, _, error) = command(&lab, &["list"]);
    assert!(code == Some(71) && error.contains("no psentry-trap answers; is it running?"), "{error}");
}

#[test]
fn everybody_is_released_and_the_status_counts_them() {
    let lab = Lab::new();
    let _service = lab.service(SERVICE);
    let _trap = trap(&lab, &["--quarantine", "10m"]);
    let status = || well(&lab, &["status"]);
    assert!(status().starts_with("in quarantine  0 sources\n"), "{}", status());
    for guard in GUARD {
        lab.scanner.is_shut_out(guard, 9);
    }
    lab.innocent.is_shut_out(GUARD[0], 9);
    assert!(status().starts_with("in quarantine  3 sources\n"), "{}", status());
    let report = well(&lab, &["status", "--json"]);
    for field in ["\"quarantined\":3,", "\"observes\":false,", "\"repairs\":0", "\"quarantined_wider\":0"] {
        assert!(report.contains(field), "{field}: {report}");
    }
    assert!(!report.contains("\"error\""), "{report}");
    // Those of a network, and no others.
    assert_eq!(well(&lab, &["unblock", "203.0.113.0/24"]), "203.0.113.7 is released\n");
    assert!(lab.scanner.reaches(GUARD[0], SERVICE) && lab.scanner.is_shut_out(GUARD[1], SERVICE));
    assert_eq!(well(&lab, &["unblock", "all"]), "2 sources are released\n");
    assert!(lab.scanner.reaches(GUARD[1], SERVICE) && lab.innocent.reaches(GUARD[0], SERVICE));
    assert_eq!(well(&lab, &["unblock", "all"]), "nobody was in quarantine\n");
    assert_eq!(well(&lab, &["list"]), "nobody is in quarantine\n");
    // It traps as before.
    lab.scanner.is_shut_out(GUARD[0], 10);
    assert_eq!(quarantined(&lab), [true, false]);
}

/// Others are shut out by it as well.
#[test]
fn a_wider_network_is_named_and_ended_only_by_its_own_name() {
    let lab = Lab::new();
    route_any(&lab);
    let _service = lab.service(SERVICE);
    let _trap = trap(&lab, &["--quarantine", "10m"]);
    for (port, network) in [(1, 0x101), (2, 0x102), (3, 0x103)] {
        tries(&lab, &[port], &[network]);
    }
    let (code, out, error) = command(&lab, &["unblock", "2001:db8:7:101::9"]);
    assert_eq!((code, &*out), (Some(1), "2001:db8:7:101::/64 is released\n"), "{error}");
    let how = "is still in quarantine with all of 2001:db8:7:100::/56; to end that: psentry-trap unblock 2001:db8:7:100::/56\n";
    assert!(error.ends_with(how), "{error}");
    let why = well(&lab, &["why", "2001:db8:7:101::9"]);
    assert!(why.starts_with("2001:db8:7:101::9 with all of 2001:db8:7:100::/56 is in quarantine, "), "{why}");
    let released = well(&lab, &["unblock", "2001:db8:7:100::/56"]);
    let all = ["2001:db8:7:100::/56", "2001:db8:7:102::/64", "2001:db8:7:103::/64"];
    assert_eq!(released, all.map(|scope| format!("{scope} is released\n")).concat());
    assert_eq!(tries(&lab, &[SERVICE], &[0x101, 0x102]), ["taken", "taken"]);
}

#[test]
fn an_address_at_an_interface_is_released_too() {
    let lab = Lab::new();
    let _service = lab.service(SERVICE);
    let _trap = trap(&lab, &["--quarantine", "10m"]);
    lab.scanner.sh("ip address add fe80::7/64 dev eth0 nodad");
    lab.guard.sh("ip neigh add fe80::7 lladdr 02:00:00:00:07:02 dev scanner");
    let router = "fe80::1%eth0";
    assert!(lab.scanner.is_shut_out(router, 9) && lab.scanner.is_shut_out(router, SERVICE));
    let list = well(&lab, &["list"]);
    let source = list.split_whitespace().next().unwrap();
    assert!(source.starts_with("fe80::"), "{list}");
    assert_eq!(well(&lab, &["unblock", source]), format!("{source} is released\n"));
    assert!(lab.scanner.reaches(router, SERVICE));
}

/// By the credentials that the kernel has of the connection.
#[test]
fn whoever_may_only_ask_releases_nobody() {
    if !nix::unistd::geteuid().is_root() {
        eprintln!("*** NOT TESTED: other users need root ***");
        return;
    }
    let (lab, folder) = (Lab::new(), tempfile::tempdir().unwrap());
    let path = folder.path().join("control");
    let path = path.to_str().unwrap();
    std::fs::set_permissions(folder.path(), std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    for (mode, may_ask) in [("0660", false), ("0666", true)] {
        let mut trap = trap(&lab, &["--quarantine", "10m", "--control", path, "--control-mode", mode]);
        trap.complaint("psentry-trap may be asked here");
        lab.scanner.is_shut_out(GUARD[0], 9);
        // Outside of the lab, where there are other users.
        let stranger = |line: &[&str]| {
            let mut command = std::process::Command::new("setpriv");
            command.args(["--reuid", "65533", "--regid", "65533", "--clear-groups", bin("psentry-trap")]);
            let output = command.args(line).args(["--control", path]).output().unwrap();
            (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
        };
        for line in [&["list"][..], &["why", SCANNER[0]], &["status"]] {
            assert_eq!(stranger(line).0, Some(if may_ask { 0 } else { 77 }), "{mode}: {line:?}");
        }
        for line in [["unblock", SCANNER[0]], ["unblock", "all"]] {
            let (code, error) = stranger(&line);
            assert!(code == Some(77) && error.contains("run this as root"), "{mode}: {error}");
        }
        assert_eq!(quarantined(&lab), [true, false]);
        assert_eq!(well(&lab, &["unblock", SCANNER[0], "--control", path]), "203.0.113.7 is released\n");
        trap.terminate();
        assert!(!std::path::Path::new(path).exists(), "the socket goes with its process");
    }
}

#[test]
fn one_that_hangs_is_named_and_one_at_a_taken_place_goes_on() {
    let lab = Lab::new();
    let first = trap(&lab, &[]);
    // In a network of its own it traps all the same.
    let mut second = lab.guard.command("unshare");
    second.args(["--net", bin("psentry-trap")]);
    let mut second = Program::start(&mut second);
    second.complaint("control: another psentry-trap listens there; this one cannot be asked");
    second.complaint("ready: ");
    second.terminate();
    assert_eq!(well(&lab, &["list"]), "nobody is in quarantine\n", "the first one still answers");
    first.signal(Signal::SIGSTOP);
    let began = Instant::now();
    let (code, _, error) = command(&lab, &["list"]);
    assert!(code == Some(71) && error.contains("psentry-trap hangs, and does not answer"), "{error}");
    assert!(began.elapsed() < Duration::from_secs(25));
    first.signal(Signal::SIGCONT);
    wait_until("it answers again", || command(&lab, &["list"]).0 == Some(0));
}

/// Nobody is there meanwhile, and whoever asks is told that it is because of the panic.
#[test]
fn a_panic_and_changed_rules_are_in_the_status() {
    let lab = Lab::new();
    let mut trap = trap(&lab, &["--quarantine", "10m"]);
    lab.scanner.is_shut_out(GUARD[0], 9);
    lab.guard.sh("mkdir /var/lib/psentry; touch /var/lib/psentry/panic");
    trap.complaint("a panic holds");
    assert_eq!(well(&lab, &["list"]), "nobody is in quarantine\n");
    let (code, out, error) = command(&lab, &["status"]);
    assert!(code == Some(1) && error.contains("a panic holds"), "{error}");
    assert!(out.contains("mode           a panic holds, and nobody is put into quarantine\n"), "{out}");
    lab.guard.sh("rm /var/lib/psentry/panic");
    trap.complaint("the panic is over");
    lab.guard.read(&["nft", "flush", "chain", "inet", "psentry_trap", "input"]);
    trap.complaint("they are loaded again");
    wait_until("all of it is well", || command(&lab, &["status"]).0 == Some(0));
    assert!(well(&lab, &["status"]).contains("repaired       1 time\n"));
}
