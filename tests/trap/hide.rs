//! Hidden ports: to whoever is not vouched for they are closed ports, whatever he sends there; to others they are as without the trap.

use std::collections::BTreeMap;
use std::fs;
use std::io::Write;
use std::path::Path;
use std::process::ChildStdin;

use psentry_records::{Class, Kind, Probe, Record, Timestamp};

use super::{counter, probe, probes, quarantined, release, stands};
use crate::lab::{GUARD, Host, INNOCENT, Lab, Program, SCANNER, bin, wait_until};

const SERVICE: u16 = 8088;
const OTHER: u16 = 8089;
const CLOSED: u16 = 8090;
const HIDE: [&str; 2] = ["--hide", "8088"];

/// A trap on the guard whose standard input is held open.
fn trap(lab: &Lab, flags: &[&str]) -> (Program, ChildStdin) {
    let mut trap = Program::start_fed(lab.guard.command(bin("psentry-trap")).args(flags));
    let stdin = trap.stdin();
    wait_until("the trap stands", || stands(lab));
    trap.record("what the machine is", |record| matches!(record, Record::Stats(_)));
    (trap, stdin)
}

/// Vouches for an address, for so many seconds.
fn vouch(stdin: &mut ChildStdin, addr: &str, seconds: u64) {
    let now = Timestamp::now();
    let vouch = format!("\"vouch\":{{\"user\":\"alice\",\"method\":\"ssh\",\"duration\":{seconds}}}");
    writeln!(stdin, "{{\"timestamp\":\"{now}\",\"event_type\":\"vouch\",\"src_ip\":\"{addr}\",{vouch}}}")
        .unwrap();
}

/// The vouch that the trap passes on for this address.
fn passed(trap: &mut Program, addr: &str) {
    let of =
        |record: &Record| matches!(record, Record::Vouch(vouch) if vouch.common.src_ip == addr.parse().ok());
    let Record::Vouch(vouch) = trap.record("the vouch", of) else { panic!() };
    assert_eq!((vouch.body.user.as_deref(), vouch.common.host.is_some()), (Some("alice"), true));
}

/// What a command of psentry-trap says: whether it ends well, and the sentence.
fn command(lab: &Lab, line: &[&str]) -> (bool, String) {
    let output = lab.guard.run(&[&[bin("psentry-trap")], line].concat());
    let text = [output.stdout, output.stderr].concat();
    (output.status.success(), String::from_utf8_lossy(&text).into_owned())
}

/// What nmap calls each port.
fn states(host: &Host, args: &str, guard: &str) -> BTreeMap<u16, String> {
    let version = if guard.contains(':') { "-6" } else { "-4" };
    let scan = ["nmap", version, "-n", "-Pn", "--max-retries", "1"]
        .into_iter()
        .chain(args.split(' '))
        .chain([guard]);
    let text = String::from_utf8(host.run(&scan.collect::<Vec<_>>()).stdout).unwrap();
    let state = |line: &str| {
        let mut words = line.split_whitespace();
        let port = words.next()?.split_once('/')?.0.parse().ok()?;
        Some((port, words.next()?.to_owned()))
    };
    text.lines().filter_map(state).collect()
}

#[test]
fn to_a_stranger_it_is_a_closed_port_and_who_is_vouched_for_gets_in() {
    let lab = Lab::new();
    let _services = [SERVICE, OTHER].map(|port| lab.service(port));
    let (mut trap, mut stdin) = trap(&lab, &HIDE);
    for (family, guard) in GUARD.into_iter().enumerate() {
        assert!(lab.scanner.is_shut_out(guard, SERVICE));
        // Not even later, though there is a service, as after a client that was early.
        assert!(lab.scanner.is_shut_out(guard, SERVICE));
        assert!(lab.scanner.is_shut_out(guard, OTHER), "it is in quarantine");
        let first = |probe: &Probe| probe.body.hidden && probe.body.quarantine == Some(30);
        let found =
            probe(&mut trap, "the probe", |probe| first(probe) && probe.common.dest_ip == guard.parse().ok());
        assert_eq!((found.body.kind, found.body.class), (Kind::Syn, Some(Class::Probe)));
        assert_eq!(found.common.dest_port, Some(SERVICE));

        assert!(lab.innocent.is_shut_out(guard, SERVICE));
        let hidden_from = |addr: &str| command(&lab, &["why", addr]).1.contains("ports 8088 are hidden from");
        assert!(hidden_from(INNOCENT[family]));
        vouch(&mut stdin, INNOCENT[family], 600);
        passed(&mut trap, INNOCENT[family]);
        wait_until("it gets in, and is out of quarantine", || lab.innocent.reaches(guard, SERVICE));
        assert!(lab.innocent.reaches(guard, OTHER) && !hidden_from(INNOCENT[family]));
        vouch(&mut stdin, INNOCENT[family], 0);
        wait_until("its vouch is withdrawn", || lab.innocent.is_shut_out(guard, SERVICE));
    }
    drop(stdin);
    let (status, lines, errors) = trap.terminate();
    assert!(status.success(), "{errors:?}");
    assert!(counter(&lines, "hidden") > 4 && counter(&lines, "vouches") == 4, "{lines:#?}");
}

/// Whatever nmap sends, it sees a hidden port as a closed one beside it, be packets dropped or answered.
#[test]
fn no_scan_tells_a_hidden_port_from_a_closed_one() {
    for answer in ["drop", "reject"] {
        let lab = Lab::new();
        let _service = lab.service(SERVICE);
        let _udp = Program::start(lab.guard.command("socat").args(["UDP6-RECVFROM:8088,fork", "EXEC:cat"]));
        wait_until("it listens", || lab.guard.sh("ss -Hlun 'sport = :8088'").contains("8088"));
        let (_trap, _stdin) = trap(&lab, &["--hide", "8088", "--answer", answer]);
        for guard in GUARD {
            // The ICMP error of a hidden UDP port comes from another address of the guard's than that of a closed one, as the manual
            // says: only if nothing answers they are alike.
            let scans =
                ["-sS", "-sT", "-sA", "-sW", "-sM", "-sF", "-sN", "-sX", "-sS --scanflags SYNFIN", "-sU"];
            let alike = if answer == "drop" { &scans[..] } else { &scans[..9] };
            for scan in alike {
                let seen = [SERVICE, CLOSED].map(|port| {
                    release(&lab);
                    let seen = states(&lab.scanner, &format!("{scan} -p{port}"), guard);
                    seen.into_values().collect::<Vec<_>>()
                });
                assert_eq!(seen[0], seen[1], "{scan} {guard} with --answer {answer}");
                assert!(!seen[0].iter().any(|state| state == "open"), "{scan} {guard}: {seen:?}");
            }
        }
    }
}

/// That a hidden service is there is not said by what is made of its neighbours: 443 beside a served 80 is a stray.
#[test]
fn nothing_else_says_that_a_hidden_port_is_served() {
    let lab = Lab::new();
    let _service = lab.service(80);
    let (mut shown, _stdin) = trap(&lab, &[]);
    let class_of_443 = |trap: &mut Program| {
        release(&lab);
        lab.scanner.touch(GUARD[0], 443);
        probe(trap, "the neighbour", |probe| probe.common.dest_port == Some(443)).body.class
    };
    assert_eq!(class_of_443(&mut shown), Some(Class::Stray));
    shown.terminate();
    let (mut hidden, _stdin) = trap(&lab, &["--hide", "80"]);
    assert_eq!(class_of_443(&mut hidden), Some(Class::Probe));
}

/// Vouches outlive the trap, its killing and its table. A service that is down is no trap for whom it is shown.
#[test]
fn who_is_vouched_for_stays_so_across_restarts() {
    let lab = Lab::new();
    let folder = tempfile::tempdir().unwrap();
    let flags = ["--hide", "8088", "--state", folder.path().to_str().unwrap()];
    let (mut first, mut stdin) = trap(&lab, &flags);
    vouch(&mut stdin, INNOCENT[0], 600);
    passed(&mut first, INNOCENT[0]);
    assert!(
        lab.innocent
            .sh("nc -z -v -n -w 5 $0 8088 2>&1 || true".replace("$0", GUARD[0]).as_str())
            .contains("refused")
    );
    assert_eq!(quarantined(&lab), [false; 2], "to it the port is no trap");
    let _service = lab.service(SERVICE);
    assert!(lab.innocent.reaches(GUARD[0], SERVICE));
    lab.guard.sh("nft flush ruleset");
    first.complaint("removed the rules");
    wait_until("the rules are there", || stands(&lab));
    assert!(lab.innocent.reaches(GUARD[0], SERVICE) && lab.scanner.is_shut_out(GUARD[0], SERVICE));
    lab.guard.sh("nft flush set inet psentry_trap vouched4");
    first.complaint("changed the rules");
    wait_until("it is let in again", || lab.innocent.reaches(GUARD[0], SERVICE));
    first.signal(nix::sys::signal::Signal::SIGKILL);
    first.end();
    let (_second, _stdin) = trap(&lab, &flags);
    assert!(lab.innocent.reaches(GUARD[0], SERVICE) && lab.scanner.is_shut_out(GUARD[0], SERVICE));
}

/// Who is allowed needs no vouch, and a connection that stands needs nothing.
#[test]
fn who_is_allowed_or_connected_stays_so() {
    let lab = Lab::new();
    let _echo =
        Program::start(lab.guard.command("socat").args(["TCP-LISTEN:8088,fork,reuseaddr", "EXEC:cat"]));
    wait_until("it listens", || lab.guard.sh("ss -Hltn 'sport = :8088'").contains("8088"));
    let talk = "import socket, sys
link = socket.create_connection((sys.argv[1], 8088), 10)
for line in sys.stdin:
    link.sendall(line.encode())
    print(link.recv(100).decode(), end='', flush=True)";
    let mut client = Program::start_fed(lab.scanner.command("python3").args(["-c", talk, GUARD[0]]));
    let mut says = client.stdin();
    writeln!(says, "before").unwrap();
    client.line("an answer", |line| line == "before");
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("ignore");
    fs::write(&file, format!("{}\n", INNOCENT[0])).unwrap();
    let (_trap, _stdin) = trap(&lab, &["--hide", "8088", "--allow", file.to_str().unwrap()]);
    writeln!(says, "after").unwrap();
    client.line("an answer", |line| line == "after");
    assert!(lab.innocent.reaches(GUARD[0], SERVICE) && lab.scanner.is_shut_out(GUARD[0], SERVICE));
    writeln!(says, "in quarantine").unwrap();
    client.line("an answer", |line| line == "in quarantine");
}

/// A port that is published from a container.
#[test]
fn a_published_port_is_hidden_too() {
    let lab = Lab::new();
    // The innocent is the container, the scanner its client.
    let _service =
        Program::start(lab.innocent.command("socat").args(["TCP-LISTEN:80,fork,reuseaddr", "EXEC:cat"]));
    lab.guard.sh(&format!(
        "sysctl -qw net.ipv4.ip_forward=1; nft 'table ip nat {{ chain pre {{ type nat hook prerouting priority dstnat; \
         tcp dport 8443 dnat to {}:80; }}; chain post {{ type nat hook postrouting priority srcnat; masquerade; }}; }}'",
        INNOCENT[0]
    ));
    wait_until("it is published", || lab.scanner.reaches(GUARD[0], 8443));
    let (mut trap, mut stdin) = trap(&lab, &["--hide", "8443"]);
    assert!(lab.scanner.is_shut_out(GUARD[0], 8443));
    probe(&mut trap, "the probe", |probe| probe.body.hidden);
    vouch(&mut stdin, SCANNER[0], 60);
    wait_until("it gets in", || lab.scanner.reaches(GUARD[0], 8443));
}

/// Who observes is told who would have been turned away, and a panic opens.
#[test]
fn observing_and_in_a_panic_everybody_gets_in() {
    let lab = Lab::new();
    let _service = lab.service(SERVICE);
    let (mut observing, _stdin) = trap(&lab, &["--hide", "8088", "--observe"]);
    for guard in GUARD {
        assert!(lab.scanner.reaches(guard, SERVICE));
        let found = probe(&mut observing, "the probe", |probe| probe.body.hidden);
        assert_eq!((found.common.dest_port, found.body.quarantine), (Some(SERVICE), None));
    }
    observing.terminate();
    let (mut trap, _stdin) = trap(&lab, &HIDE);
    assert!(lab.scanner.is_shut_out(GUARD[0], SERVICE));
    lab.guard.sh("mkdir /var/lib/psentry; touch /var/lib/psentry/panic");
    trap.complaint("a panic holds");
    assert!(GUARD.iter().all(|guard| lab.scanner.reaches(guard, SERVICE)));
    lab.guard.sh("rm /var/lib/psentry/panic");
    trap.complaint("the panic is over");
    assert!(GUARD.iter().all(|guard| lab.scanner.is_shut_out(guard, SERVICE)));
}

/// Lines that are no vouch are told of and change nothing; nor does a terminal or an end of the input.
#[test]
fn what_is_no_vouch_is_counted() {
    let lab = Lab::new();
    let (mut trap, mut stdin) = trap(&lab, &HIDE);
    let verdict = "{\"timestamp\":\"2026-11-22T15:04:05Z\",\"event_type\":\"verdict\",\
                   \"verdict\":{\"action\":\"block\",\"scope\":\"192.0.2.7\"}}";
    writeln!(stdin, "nonsense\n{verdict}").unwrap();
    trap.complaint("line 1 of the input skipped");
    trap.complaint("line 2 of the input skipped: it is no vouch");
    drop(stdin);
    let (status, lines, errors) = trap.terminate();
    assert!(status.success(), "{errors:?}");
    assert_eq!((counter(&lines, "skipped"), counter(&lines, "vouches")), (2, 0));
    assert!(probes(&lines).is_empty() && !lines.iter().any(|line| line.contains("192.0.2.7")), "{lines:#?}");
}

/// More vouches at once than the worker has room for: each arrives.
#[test]
fn no_vouch_of_many_is_lost() {
    let lab = Lab::new();
    let (mut trap, mut stdin) = trap(&lab, &HIDE);
    let address = |n: u32| std::net::Ipv4Addr::from(0xc633_6400 + n).to_string();
    for n in 0..2000 {
        vouch(&mut stdin, &address(n), 600);
    }
    (0..2000).for_each(|n| passed(&mut trap, &address(n)));
    wait_until("all are vouched for", || {
        let set = lab.guard.read(&["nft", "list", "set", "inet", "psentry_trap", "vouched4"]);
        (0..2000).all(|n| set.contains(&format!("{} ", address(n))))
    });
    assert_eq!(counter(&trap.terminate().1, "vouches"), 2000);
}

/// The file `confirmed`, once somebody has shown that he gets in.
fn confirmed(folder: &Path) -> Option<String> {
    fs::read_to_string(folder.join("confirmed")).ok()
}

#[test]
fn without_a_confirmation_hiding_ends_loudly() {
    let lab = Lab::new();
    let _service = lab.service(SERVICE);
    let folder = tempfile::tempdir().unwrap();
    let flags =
        ["--hide", "8088", "--veil", "8089", "--confirm", "3s", "--state", folder.path().to_str().unwrap()];
    let (mut first, _stdin) = trap(&lab, &flags);
    assert!(lab.scanner.is_shut_out(GUARD[0], SERVICE));
    let (well, said) = command(&lab, &["confirm"]);
    assert!(!well && said.contains("no connection to a port of --hide or --veil is new"), "{said}");
    first.complaint("nobody confirmed --hide and --veil within 3 seconds");
    assert!(GUARD.iter().all(|guard| lab.scanner.reaches(guard, SERVICE)));
    let (well, said) = command(&lab, &["confirm"]);
    assert!(!well && said.contains("until psentry-trap starts again"), "{said}");
    let (well, said) = command(&lab, &["status"]);
    assert!(!well && said.contains("nobody confirmed"), "{said}");
    assert_eq!(confirmed(folder.path()), None);
    // Whoever repairs the rules does not hide them again.
    lab.guard.sh("nft flush ruleset");
    first.complaint("they are loaded again");
    assert!(lab.scanner.reaches(GUARD[0], SERVICE));
    first.terminate();
    let (_second, _stdin) = trap(&lab, &flags);
    assert!(lab.scanner.is_shut_out(GUARD[0], SERVICE), "each start begins anew");
}

#[test]
fn a_new_connection_confirms_and_is_remembered() {
    let lab = Lab::new();
    let _echo =
        Program::start(lab.guard.command("socat").args(["TCP-LISTEN:8088,fork,reuseaddr", "EXEC:cat"]));
    wait_until("it listens", || lab.guard.sh("ss -Hltn 'sport = :8088'").contains("8088"));
    let connect = || {
        let client = ["-", &format!("TCP:{}:8088", GUARD[0])];
        Program::start_fed(lab.innocent.command("socat").args(client))
    };
    let established = |n: usize| {
        wait_until("it is connected", || {
            lab.guard.sh("ss -Htn state established 'sport = :8088'").lines().count() == n
        });
    };
    let _before = connect();
    established(1);
    let folder = tempfile::tempdir().unwrap();
    let flags = ["--hide", "8088", "--confirm", "10m", "--state", folder.path().to_str().unwrap()];
    let (mut first, mut stdin) = trap(&lab, &flags);
    let (well, said) = command(&lab, &["status"]);
    assert!(well && said.contains("confirm") && said.contains("8088"), "{said}");
    let (well, said) = command(&lab, &["confirm"]);
    assert!(!well && said.contains("open one from where you have to get in"), "{said}");
    vouch(&mut stdin, INNOCENT[0], 600);
    passed(&mut first, INNOCENT[0]);
    let _after = connect();
    established(2);
    let (well, said) = command(&lab, &["confirm"]);
    assert!(well && said.contains("stay so"), "{said}");
    assert_eq!(confirmed(folder.path()).as_deref(), Some("hide 8088\n"));
    first.terminate();
    let (_second, _stdin) = trap(&lab, &flags);
    let (well, said) = command(&lab, &["confirm"]);
    assert!(well && said.contains("confirmed before"), "{said}");
}
