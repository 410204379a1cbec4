//! The veil: a stranger's first packet to a veiled port is dropped, and the same one again is let through. So half-open scans that
//! ask for nothing else learn nothing, and a client waits a second, once.

use std::collections::BTreeSet;
use std::fs;
use std::io::Write;
use std::net::Ipv4Addr;
use std::process::Output;
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use psentry_records::{Class, Kind, Probe, Timestamp};

use super::load::FORGE;
use super::{counter, probe, probes, python, trap};
use crate::lab::{GUARD, Host, INNOCENT, Lab, Program, SCANNER, bin, wait_until};

const SERVICE: u16 = 8088;
const OTHER: u16 = 8089;
const VEIL: &str = "8088-8090";

/// Before a kernel sends its SYN again, it waits a second (RFC 6298, 2.1). Who is in sooner was let through at once.
const AT_ONCE: f32 = 0.9;

/// Connects once, for so many seconds at most; how many it took, if it got through.
fn connects(host: &Host, guard: &str, port: u16, seconds: f32) -> Option<f32> {
    let script = "import socket, sys, time
began = time.monotonic()
socket.create_connection((sys.argv[1], int(sys.argv[2])), float(sys.argv[3])).close()
print(time.monotonic() - began)";
    let output = host.run(&["python3", "-c", script, guard, &port.to_string(), &seconds.to_string()]);
    output.status.success().then(|| String::from_utf8(output.stdout).unwrap().trim().parse().unwrap())
}

/// Whether it is let through at once.
fn is_familiar(host: &Host, guard: &str, port: u16) -> bool {
    connects(host, guard, port, AT_ONCE).is_some()
}

/// The ports that nmap calls open.
fn open_ports(host: &Host, args: &str) -> BTreeSet<u16> {
    let line: Vec<&str> = ["nmap", "-n", "-Pn"].into_iter().chain(args.split(' ')).collect();
    let Output { stdout, .. } = host.run(&line);
    let text = String::from_utf8(stdout).unwrap();
    let open = text.lines().filter(|line| line.contains("/tcp") && line.contains(" open "));
    open.filter_map(|line| line.split('/').next()?.parse().ok()).collect()
}

/// Whether a set of the trap's has an element.
fn holds(lab: &Lab, set: &str, text: &str) -> bool {
    lab.guard.read(&["nft", "list", "set", "inet", "psentry_trap", set]).contains(text)
}

#[test]
fn a_client_waits_a_second_once_and_a_half_open_scan_learns_nothing() {
    let lab = Lab::new();
    let _services = [SERVICE, OTHER].map(|port| lab.service(port));
    let mut trap = trap(&lab, &["--veil", VEIL, "--veil-own"]);
    let is_stranger = |addr: &str| {
        let why = lab.guard.run(&[bin("psentry-trap"), "why", addr]);
        String::from_utf8_lossy(&why.stderr)
            .contains("is a stranger at the veil: its first packet to TCP ports 8088-8090")
    };
    assert!(INNOCENT.into_iter().all(is_stranger));
    for guard in GUARD {
        let took = connects(&lab.innocent, guard, SERVICE, 10.0);
        assert!(took.is_some_and(|took| took > AT_ONCE), "{guard}: {took:?}");
        assert!(is_familiar(&lab.innocent, guard, OTHER), "{guard}");
    }
    assert!(!INNOCENT.into_iter().any(is_stranger) && is_stranger(SCANNER[0]));
    for args in ["-sS -T4 -p8088,8089", "-sS --max-retries 6 -p8088", "-sS -g 53 -p8088"] {
        assert_eq!(open_ports(&lab.scanner, &format!("{args} {}", GUARD[0])), BTreeSet::new(), "{args}");
        assert_eq!(open_ports(&lab.scanner, &format!("-6 {args} {}", GUARD[1])), BTreeSet::new(), "{args}");
    }
    // Of whom nothing came again, a probe says so; of the client there is none.
    let veiled = probe(&mut trap, "the scan", |probe| probe.body.veiled);
    assert_eq!((veiled.body.kind, veiled.body.class), (Kind::Syn, Some(Class::Stray)));
    let (_, lines, _) = trap.terminate();
    let of_client =
        |probe: &Probe| probe.common.src_ip.is_some_and(|addr| INNOCENT.contains(&addr.to_string().as_str()));
    assert!(!probes(&lines).iter().any(of_client), "{lines:#?}");
    assert_eq!(counter(&lines, "veil_full"), 0);
    assert!(counter(&lines, "veil_dropped") > 4 && counter(&lines, "veil_passed") >= 2, "{lines:#?}");
}

/// Programs as people use them, that try both versions of IP; and a scanner behind the address of a client.
#[test]
fn real_clients_get_in_and_wait_once() {
    let lab = Lab::new();
    let web = ["-m", "http.server", "--bind", "::", "8088", "--directory", "/run/psentry"];
    let _web = Program::start(lab.guard.command("python3").args(web));
    wait_until("it listens", || lab.guard.sh("ss -Hltn 'sport = :8088'").contains("8088"));
    let _trap = trap(&lab, &["--veil", VEIL, "--veil-own"]);
    let resolve = format!("shop.example:8088:[{}],{}", GUARD[1], GUARD[0]);
    let fetch = |most: &str| {
        let flags = ["--silent", "--show-error", "--output", "/dev/null", "--resolve", &resolve];
        let limits = ["--connect-timeout", most, "http://shop.example:8088/"];
        lab.innocent.ok(&["curl"].into_iter().chain(flags).chain(limits).collect::<Vec<_>>())
    };
    assert!(!fetch("0.8"), "its first connection takes a second");
    assert!(fetch("10"));
    assert!(fetch("0.8"), "it is familiar, by IPv6, which it tries first");
    // Behind the address of a client a scanner is familiar, too.
    let scan = format!("-6 -sS -p8088 {}", GUARD[1]);
    assert_eq!(open_ports(&lab.innocent, &scan), [8088].into());
    assert_eq!(open_ports(&lab.scanner, &scan), BTreeSet::new());
}

/// A host behind the innocent, which translates its address.
fn behind_nat(lab: &Lab, number: u8) -> Host {
    let host = Host::new_beside(&lab.guard);
    lab.innocent.sh(&format!(
        "ip link add behind{number} type veth peer name eth0 netns {pid}
         ip address add 10.9.{number}.1/24 dev behind{number}; ip link set behind{number} up
         sysctl -q net.ipv4.ip_forward=1
         nft 'add table ip nat; add chain ip nat out {{ type nat hook postrouting priority srcnat; }}
              add rule ip nat out ip saddr 10.9.{number}.0/24 masquerade'",
        pid = host.pid(),
    ));
    host.sh(&format!(
        "ip address add 10.9.{number}.2/24 dev eth0; ip link set eth0 up; ip route add default via 10.9.{number}.1"
    ));
    wait_until("the router is reached", || host.ok(&["ping", "-c1", "-W1", &format!("10.9.{number}.1")]));
    host
}

/// Two machines share an address, and one of them scans: what it touches counts for both, and a connection that stands goes on.
#[test]
fn behind_one_address_a_scanner_is_as_familiar_and_a_client_as_shut_out() {
    let lab = Lab::new();
    let [client, scanner] = [1, 2].map(|number| behind_nat(&lab, number));
    let _service = lab.service(SERVICE);
    let _echo = Program::start(lab.guard.command("socat").args(["TCP-LISTEN:8090,fork", "EXEC:cat"]));
    wait_until("it listens", || lab.guard.sh("ss -Hltn 'sport = :8090'").contains("8090"));
    let _trap = trap(&lab, &["--veil", VEIL, "--veil-own", "--quarantine", "3s"]);
    let aimed = format!("-sS -p8088 {}", GUARD[0]);
    assert_eq!(open_ports(&scanner, &aimed), BTreeSet::new(), "nobody is familiar yet");
    let script = "import socket, sys
s = socket.create_connection((sys.argv[1], 8090), 10)
for line in sys.stdin:
    s.sendall(line.encode())
    print(s.recv(100).decode(), end='', flush=True)";
    let mut session = Program::start_fed(client.command("python3").args(["-c", script, GUARD[0]]));
    let mut typed = session.stdin();
    writeln!(typed, "one").unwrap();
    session.line("it is connected", |line| line == "one");
    assert!(is_familiar(&client, GUARD[0], SERVICE));
    assert_eq!(open_ports(&scanner, &aimed), [SERVICE].into(), "so is whoever shares its address");
    assert_eq!(
        open_ports(&scanner, &format!("-sS -T4 --max-retries 0 -p1-20 {}", GUARD[0])),
        BTreeSet::new()
    );
    assert!(!is_familiar(&client, GUARD[0], SERVICE), "the address is in quarantine");
    writeln!(typed, "two").unwrap();
    session.line("its session goes on", |line| line == "two");
    wait_until("the quarantine is over", || is_familiar(&client, GUARD[0], SERVICE));
}

/// Forged SYNs to a veiled port make nobody familiar, and delay nobody.
#[test]
fn a_flood_of_forged_packets_changes_nothing_for_clients() {
    let lab = Lab::new();
    let _services = [SERVICE, OTHER].map(|port| lab.service(port));
    lab.guard.sh("ip route add 198.18.0.0/15 dev scanner");
    let mut trap = trap(&lab, &["--veil", VEIL, "--veil-own"]);
    assert!(connects(&lab.innocent, GUARD[0], SERVICE, 10.0).is_some());
    // IPv6 of the client is another source. Few enough that the veil is not full: it holds 262,144 for eight seconds.
    thread::scope(|scope| {
        let flood = scope.spawn(|| python(&lab.scanner, FORGE, &[GUARD[0], "8088", "200000", "15000", "1"]));
        wait_until("they come", || {
            !lab.guard
                .read(&["nft", "list", "counter", "inet", "psentry_trap", "veil_dropped"])
                .contains("packets 0 ")
        });
        let took = connects(&lab.innocent, GUARD[1], SERVICE, 10.0);
        assert!(took.is_some_and(|took| took > AT_ONCE && took < 2.0 + AT_ONCE), "a new client: {took:?}");
        while !flood.is_finished() {
            assert!(
                is_familiar(&lab.innocent, GUARD[0], OTHER) && is_familiar(&lab.innocent, GUARD[1], OTHER)
            );
        }
        flood.join().unwrap();
    });
    let familiar = lab
        .guard
        .read(&["nft", "list", "set", "inet", "psentry_trap", "familiar4"])
        .matches("expires")
        .count();
    let (_, lines, _) = trap.terminate();
    for (name, most) in [("veil_full", 0), ("familiar_full", 0), ("quarantined", 0)] {
        assert_eq!(counter(&lines, name), most, "{name}");
    }
    // The second round is let through, as of tools that wait less than a second; but nobody completes a connection.
    let [dropped, passed] = ["veil_dropped", "veil_passed"].map(|name| counter(&lines, name));
    assert!(dropped >= 131_072 && dropped + passed > 199_000, "{dropped} dropped, {passed} let through");
    assert_eq!(familiar, 1, "the client's address; forgers are not");
}

/// Familiar sources outlive the trap, its killing and its table; and whoever is connected when it starts is familiar.
#[test]
fn who_is_familiar_stays_so_across_restarts() {
    let lab = Lab::new();
    let _service = lab.service(SERVICE);
    let folder = tempfile::tempdir().unwrap();
    let flags = ["--veil", VEIL, "--veil-own", "--state", folder.path().to_str().unwrap()];
    let mut first = trap(&lab, &flags);
    assert!(connects(&lab.innocent, GUARD[0], SERVICE, 10.0).is_some());
    assert!(first.terminate().0.success());
    let mut second = trap(&lab, &flags);
    assert!(is_familiar(&lab.innocent, GUARD[0], SERVICE));
    lab.guard.sh("nft flush ruleset");
    second.complaint("removed the rules");
    wait_until("they are loaded again", || holds(&lab, "familiar4", "elements"));
    assert!(is_familiar(&lab.innocent, GUARD[0], SERVICE));
    assert!(second.terminate().0.success());
    // A day after its last connection, of thirty.
    let in_29_days = Timestamp::now().plus(Duration::from_secs(29 * 86_400));
    fs::write(folder.path().join("familiar"), format!("{} {in_29_days}\n", INNOCENT[0])).unwrap();
    let mut a_day_later = trap(&lab, &flags);
    assert!(is_familiar(&lab.innocent, GUARD[0], SERVICE));
    assert!(a_day_later.terminate().0.success());
    // Forgotten, but connected.
    fs::remove_file(folder.path().join("familiar")).unwrap();
    let _echo = Program::start(lab.guard.command("socat").args(["TCP-LISTEN:8090,fork", "EXEC:cat"]));
    let script = "import socket, sys, time
s = socket.create_connection((sys.argv[1], 8090))
s.sendall(b'1')
print(s.recv(1), flush=True)
time.sleep(60)";
    wait_until("it listens", || lab.guard.sh("ss -Hltn 'sport = :8090'").contains("8090"));
    let mut client = Program::start(lab.innocent.command("python3").args(["-c", script, GUARD[0]]));
    client.line("it is connected", |line| line.contains('1'));
    let _third = trap(&lab, &flags);
    assert!(is_familiar(&lab.innocent, GUARD[0], SERVICE));
}

/// The kernel notifies of every one of them, which is no change by somebody else; and a table that is gone at the end takes
/// nobody out of the file.
#[test]
fn a_hundred_thousand_familiar_sources_are_put_back_and_kept() {
    let lab = Lab::new();
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("familiar");
    let until = Timestamp::now().plus(Duration::from_secs(86_400));
    let sources = (0..100_000u32).map(|n| format!("{} {until}\n", Ipv4Addr::from(0x0b00_0000 + n)));
    fs::write(&file, sources.collect::<String>()).unwrap();
    let mut trap = trap(&lab, &["--veil", VEIL, "--state", folder.path().to_str().unwrap()]);
    // A list of so many may miss some, as long as the kernel makes room for them.
    let last = ["nft", "get", "element", "inet", "psentry_trap", "familiar4", "{ 11.1.134.159 }"];
    assert!(lab.guard.ok(&last), "the last one is there");
    trap.signal(Signal::SIGSTOP);
    lab.guard.sh("nft delete table inet psentry_trap");
    trap.signal(Signal::SIGTERM);
    trap.signal(Signal::SIGCONT);
    let (status, lines, errors) = trap.end();
    assert!(status.success(), "{errors:?}");
    assert_eq!(counter(&lines, "repairs"), 0, "{errors:?}");
    assert_eq!(fs::read_to_string(&file).unwrap().lines().count(), 100_000);
}

/// A tool that waits less than a second gets in when it comes again, unless it asks for more than one port.
#[test]
fn who_gives_up_within_a_second_is_let_in_after_some_and_a_scanner_is_not() {
    let lab = Lab::new();
    let _services = [SERVICE, OTHER].map(|port| lab.service(port));
    let _trap = trap(&lab, &["--veil", VEIL, "--veil-own"]);
    assert!(connects(&lab.innocent, GUARD[0], SERVICE, 0.5).is_none(), "it gave up too soon");
    wait_until("it comes again", || connects(&lab.innocent, GUARD[0], SERVICE, 0.5).is_some());
    let until = Instant::now() + Duration::from_secs(12);
    while Instant::now() < until {
        for port in [SERVICE, OTHER] {
            assert!(connects(&lab.scanner, GUARD[0], port, 0.5).is_none(), "{port}");
        }
    }
}

/// Own networks see all ports at once, unless they are veiled, too; and who only observes drops nothing, and says whom he would.
#[test]
fn neighbours_are_familiar_and_who_observes_drops_nothing() {
    let lab = Lab::new();
    let _service = lab.service(SERVICE);
    let mut observing = trap(&lab, &["--veil", VEIL, "--veil-own", "--observe"]);
    assert!(is_familiar(&lab.innocent, GUARD[0], SERVICE), "nothing is dropped");
    assert_eq!(open_ports(&lab.scanner, &format!("-sS -p8088 {}", GUARD[0])), [SERVICE].into());
    let turned_away = probe(&mut observing, "whom it would turn away", |probe| probe.body.veiled);
    assert_eq!(turned_away.common.src_ip, SCANNER[0].parse().ok(), "a client would have come again");
    assert!(observing.terminate().0.success());
    // The guard has an address in their networks of IPv4.
    let _trap = trap(&lab, &["--veil", VEIL]);
    assert_eq!(open_ports(&lab.scanner, &format!("-sS -p8088 {}", GUARD[0])), [SERVICE].into());
}
