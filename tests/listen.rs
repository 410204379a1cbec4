//! psentry-listen with real sockets: its own and systemd's, of every kind, and what becomes of it when its reader is
//! gone, when it is asked to stop, and when it is out of descriptors.

mod floods;
mod mirage;

use std::io::Read;
use std::process::Stdio;

use nix::sys::signal::Signal;
use psentry_records::{Kind, Probe, Proto, Record};

use crate::lab::{GUARD, INNOCENT, Lab, Notified, Program, SCANNER, bin, complaints, wait_until};
use crate::surface::has_its_counters;

fn probe_at(program: &mut Program, port: u16) -> Probe {
    let is_it =
        |record: &Record| matches!(record, Record::Probe(probe) if probe.common.dest_port == Some(port));
    let Record::Probe(probe) = program.record(&format!("probe of {port}"), is_it) else { panic!() };
    probe
}

fn listening(lab: &Lab, port: u16) {
    wait_until("it listens", || lab.guard.read(&["ss", "-Hltun"]).contains(&format!(":{port} ")));
}

#[test]
fn sockets_that_systemd_passes_yield_probes() {
    let lab = Lab::new();
    let mut listen = Program::start(
        lab.guard
            .command("systemd-socket-activate")
            .args(["-l", "2323", "-l", "[2001:db8:1::1]:2324", "-l", "198.51.100.1:2325"])
            .arg(bin("psentry-listen")),
    );
    listening(&lab, 2323);
    lab.scanner.touch(GUARD[0], 2323);
    let probe = probe_at(&mut listen, 2323);
    assert_eq!(probe.common.src_ip.unwrap().to_string(), SCANNER[0]);
    assert_eq!(probe.common.dest_ip.unwrap().to_string(), GUARD[0], "a mapped address is IPv4");
    // It came before anybody could ask the kernel to keep its SYN.
    assert!(!probe.body.cookie);
    assert_eq!(
        (probe.common.proto, probe.body.kind, probe.body.handshake),
        (Some(Proto::Tcp), Kind::Connect, true)
    );
    lab.scanner.touch(GUARD[1], 2324);
    let probe = probe_at(&mut listen, 2324);
    assert_eq!(probe.common.src_ip.unwrap().to_string(), SCANNER[1]);
    assert_eq!(probe.common.dest_ip.unwrap().to_string(), GUARD[1]);
    lab.innocent.touch(GUARD[0], 2325);
    assert_eq!(probe_at(&mut listen, 2325).common.src_ip.unwrap().to_string(), INNOCENT[0]);
    let (status, _, errors) = listen.terminate();
    assert!(status.success(), "{errors:?}");
}

#[test]
fn datagram_sockets_that_systemd_passes_yield_probes_and_no_answer() {
    let lab = Lab::new();
    let mut listen = Program::start(
        lab.guard.command("systemd-socket-activate").args(["-d", "-l", "6969"]).arg(bin("psentry-listen")),
    );
    listening(&lab, 6969);
    for address in GUARD {
        let target = if address.contains(':') {
            format!("UDP6:[{address}]:6969")
        } else {
            format!("UDP4:{address}:6969")
        };
        let answer = lab.scanner.sh(&format!("echo hello | socat -t 0.3 - {target}"));
        assert_eq!(answer, "", "a decoy that answers reflects");
        let probe = probe_at(&mut listen, 6969);
        assert_eq!(probe.common.dest_ip.unwrap().to_string(), address);
        assert_eq!(
            (probe.common.proto, probe.body.kind, probe.body.handshake),
            (Some(Proto::Udp), Kind::Udp, false)
        );
    }
}

/// The kernel forgets a SYN that it answers by a cookie; whoever sends the ACK may have guessed.
#[test]
fn a_handshake_by_syn_cookie_is_told_from_one_without() {
    let lab = Lab::new();
    let mut listen = Program::start(lab.guard.command(bin("psentry-listen")).args(["--tcp", "2323"]));
    listening(&lab, 2323);
    // 2: by cookie always; 1: only when the queue is full.
    for (cookies, told) in [("1", false), ("2", true), ("1", false)] {
        lab.guard.sh(&format!("echo {cookies} > /proc/sys/net/ipv4/tcp_syncookies"));
        for address in GUARD {
            lab.scanner.touch(address, 2323);
            let body = probe_at(&mut listen, 2323).body;
            assert_eq!((body.handshake, body.cookie, body.signature), (true, told, None), "{address}");
        }
    }
}

/// A kernel that is told to write its SYNs as nmap's half-open scan does.
#[test]
fn a_scanners_signature_is_recorded() {
    let lab = Lab::new();
    let mut listen = Program::start(lab.guard.command(bin("psentry-listen")).args(["--tcp", "2323"]));
    listening(&lab, 2323);
    let mut signature = || {
        lab.scanner.touch(GUARD[0], 2323);
        probe_at(&mut listen, 2323).body.signature
    };
    assert_eq!(signature(), None);
    lab.scanner.sh("cd /proc/sys/net/ipv4; for option in tcp_timestamps tcp_sack tcp_window_scaling; do
        echo 0 > $option; done; echo 1 > ip_no_pmtu_disc");
    assert_eq!(signature().as_deref(), Some("raw"), "the segment size alone, and may be fragmented");
    lab.scanner.sh("ip route change default via 203.0.113.1 window 1024");
    assert_eq!(signature().as_deref(), Some("nmap"));
}

#[test]
fn a_busy_port_costs_one_decoy() {
    let lab = Lab::new();
    let _service = lab.service(2323);
    let mut listen = Program::start(lab.guard.command(bin("psentry-listen")).args(["--tcp", "2323,2324"]));
    listen.complaint("2323");
    listening(&lab, 2324);
    lab.scanner.touch(GUARD[0], 2324);
    probe_at(&mut listen, 2324);
    let only = Program::start(lab.guard.command(bin("psentry-listen")).args(["--tcp", "2323"])).end();
    assert_eq!(only.0.code(), Some(78), "{:?}", only.2);
}

#[test]
fn a_banner_is_sent_and_the_first_bytes_are_noted() {
    let lab = Lab::new();
    lab.guard.sh("printf '220 ready\\r\\n' > /run/banner");
    let mut listen = Program::start(lab.guard.command(bin("psentry-listen")).args([
        "--tcp",
        "2121",
        "--banner",
        "/run/banner",
        "--capture",
        "8",
        "--hold",
        "2000",
    ]));
    listening(&lab, 2121);
    let said = lab.scanner.sh(&format!("printf 'USER \\033[31mroot' | socat -t 3 - TCP4:{}:2121", GUARD[0]));
    assert_eq!(said, "220 ready\r\n");
    assert_eq!(probe_at(&mut listen, 2121).body.payload.as_deref(), Some(r"USER \x1b[3"));
}

#[test]
fn a_reader_that_is_gone_ends_it_with_74() {
    let lab = Lab::new();
    let mut listen = Program::start_piped(
        lab.guard.command(bin("psentry-listen")).args(["--tcp", "2323"]).stdin(Stdio::null()),
    );
    listening(&lab, 2323);
    drop(listen.stdout());
    let (status, _, errors) = listen.end();
    assert_eq!(status.code(), Some(74), "{errors:?}");
    assert!(errors.iter().any(|line| line.starts_with("psentry-listen: ")), "{errors:?}");
}

#[test]
fn asked_to_stop_it_first_tells_what_waits() {
    let lab = Lab::new();
    let mut listen =
        Program::start(lab.guard.command(bin("psentry-listen")).args(["--tcp", "2323", "--udp", "2323"]));
    listening(&lab, 2323);
    listen.signal(Signal::SIGSTOP);
    for _ in 0..20 {
        lab.scanner.touch(GUARD[0], 2323);
    }
    listen.signal(Signal::SIGTERM);
    listen.signal(Signal::SIGCONT);
    let (status, probes, errors) = listen.end();
    assert!(status.success(), "{errors:?}");
    let contacts = probes.iter().map(|line| match Record::parse(line) {
        Ok(Record::Probe(probe)) => probe.body.count,
        _ => 0,
    });
    assert_eq!(contacts.sum::<u32>(), 20, "{probes:?}");
}

#[test]
fn out_of_descriptors_it_waits_and_goes_on() {
    let lab = Lab::new();
    let mut listen = Program::start(lab.guard.command("sh").args([
        "-c",
        &format!("ulimit -n 24; exec {} --tcp 2323 --capture 4 --hold 1500", bin("psentry-listen")),
    ]));
    listening(&lab, 2323);
    // More silent connections than it has descriptors for.
    let mut crowd: Vec<Program> = (0..30)
        .map(|_| Program::start_fed(lab.scanner.command("nc").args(["-n", GUARD[0], "2323"])))
        .collect();
    let mut recorded = 0;
    while recorded < 30 {
        recorded += probe_at(&mut listen, 2323).body.count;
    }
    crowd.clear();
    lab.innocent.touch(GUARD[0], 2323);
    let from_innocent = |record: &Record| matches!(record, Record::Probe(p) if p.common.src_ip.unwrap().to_string() == INNOCENT[0]);
    listen.record("the innocent's probe", from_innocent);
    assert!(listen.terminate().0.success());
}

/// Broadcasts are no probes: every machine of a network sends them.
#[test]
fn broadcasts_are_not_recorded() {
    let lab = Lab::new();
    let mut listen = Program::start(lab.guard.command(bin("psentry-listen")).args(["--udp", "1900"]));
    listening(&lab, 1900);
    lab.scanner.sh("for to in 203.0.113.255 255.255.255.255; do
        echo hello | socat -t 0 - UDP4-DATAGRAM:$to:1900,broadcast,so-bindtodevice=eth0; done");
    lab.scanner.sh(&format!("echo hello | socat -t 0 - UDP4:{}:1900", GUARD[0]));
    let probe = probe_at(&mut listen, 1900);
    assert_eq!(probe.common.dest_ip.unwrap().to_string(), GUARD[0]);
    let (_, rest, _) = listen.terminate();
    let [Ok(Record::Stats(stats))] = &*parsed(&rest) else { panic!("{rest:?}") };
    assert!(stats.body.counter("broadcasts") >= 1, "{rest:?}");
}

fn parsed(lines: &[String]) -> Vec<Result<Record, psentry_records::Malformed>> {
    lines.iter().map(|line| Record::parse(line)).collect()
}

/// Once a minute, too, which a unit test of the timer shows.
#[test]
fn counters_are_written_on_a_signal_and_at_the_end() {
    let lab = Lab::new();
    let mut listen = Program::start(lab.guard.command(bin("psentry-listen")).args([
        "--tcp",
        "2323",
        "--udp",
        "2323",
        "--capture",
        "4",
        "--hold",
        "600000",
        "--max-held",
        "1",
        "--host",
        "gate",
    ]));
    listening(&lab, 2323);
    let _held = Program::start_fed(lab.scanner.command("nc").args(["-n", GUARD[0], "2323"]));
    // The first one is held, and is a probe only at the end.
    wait_until("it is held", || {
        lab.guard.read(&["ss", "-Htn", "state", "established", "sport = :2323"]).lines().count() == 1
            && lab.guard.read(&["ss", "-Hltn", "sport = :2323"]).contains(" 0 ")
    });
    lab.scanner.touch(GUARD[0], 2323);
    probe_at(&mut listen, 2323);
    lab.scanner.sh(&format!("echo hello | socat -t 0 - UDP4:{}:2323", GUARD[0]));
    probe_at(&mut listen, 2323);
    listen.signal(Signal::SIGUSR1);
    let is_stats = |record: &Record| matches!(record, Record::Stats(_));
    let counters = |record: &Record, names: &[&str]| {
        let Record::Stats(stats) = record else { panic!("{record:?}") };
        assert_eq!((stats.common.host.as_deref(), &*stats.body.stage), (Some("gate"), "listen"));
        has_its_counters(stats);
        names.iter().map(|name| stats.body.counter(name)).collect::<Vec<_>>()
    };
    let names = ["connections", "datagrams", "probes", "over_limit", "open"];
    assert_eq!(counters(&listen.record("counters", is_stats), &names), [2, 1, 2, 1, 1]);
    let (status, rest, errors) = listen.terminate();
    assert!(status.success(), "{errors:?}");
    let last = parsed(&rest).pop().unwrap().unwrap();
    assert_eq!(counters(&last, &names), [2, 1, 3, 1, 0], "{rest:?}");
}

/// `READY=1` is sent when sockets are open, and `STOPPING=1` at the end.
#[test]
fn systemd_is_told_when_it_is_ready() {
    let systemd = Notified::new();
    let lab = Lab::new();
    let mut listen = Program::start(
        lab.guard
            .command(bin("psentry-listen"))
            .args(["--tcp", "2323", "--bind", "127.0.0.1"])
            .env("NOTIFY_SOCKET", &systemd.path)
            .env("WATCHDOG_USEC", "200000"),
    );
    systemd.hears("READY=1");
    systemd.hears("WATCHDOG=1");
    listen.signal(Signal::SIGTERM);
    systemd.hears("STOPPING=1");
    assert!(listen.end().0.success());
}

/// Datagrams to a decoy on loopback, each from an address of its own, since alike ones would be one record. They are so long
/// that those for which a socket has room are twice what a pipe holds once they are records.
const FROM_MANY: &str = "
import socket
for n in range(250):
    s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    s.bind((f'127.1.0.{n + 1}', 0))
    s.sendto(b'x' * 1400, ('127.0.0.1', 2323))
    s.close()
";

/// A judge that is slow, or being restarted, is no reason to kill the listener.
#[test]
fn the_pulse_goes_on_while_the_reader_does_not_read() {
    let systemd = Notified::new();
    let lab = Lab::new();
    let mut listen = Program::start_piped(
        lab.guard
            .command(bin("psentry-listen"))
            .args(["--udp", "2323", "--capture", "1400"])
            .env("NOTIFY_SOCKET", &systemd.path)
            .env("WATCHDOG_USEC", "100000")
            .stdin(Stdio::null()),
    );
    let _unread = listen.stdout();
    systemd.hears("READY=1");
    wait_until("it waits for its reader", || {
        // Who sends to a service manager that does not read waits for that, too.
        systemd.forget();
        // A busy kernel may drop them.
        lab.guard.read(&["python3", "-c", FROM_MANY]);
        let wchan = std::fs::read_to_string(format!("/proc/{}/wchan", listen.pid())).unwrap();
        let waiting = lab.guard.read(&["ss", "-Hulnm", "sport = :2323"]);
        wchan.contains("poll") && !waiting.contains("skmem:(r0,")
    });
    systemd.forget();
    for _ in 0..3 {
        systemd.hears("WATCHDOG=1");
    }
}

/// Ctrl-C stops a whole pipeline; no stage takes its neighbours' end for a failure.
#[test]
fn a_ctrl_c_ends_a_pipeline_in_peace() {
    let lab = Lab::new();
    let mut listen = Program::start_piped(
        lab.guard.command(bin("psentry-listen")).args(["--tcp", "2323"]).stdin(Stdio::null()),
    );
    let mut judge = Program::start_piped(lab.guard.command(bin("psentry-judge")).stdin(listen.stdout()));
    let mut out = judge.stdout();
    listening(&lab, 2323);
    // Before that it may not have begun to heed signals.
    judge.complaint(": ready: ");
    lab.scanner.touch(GUARD[0], 2323);
    // A terminal signals all of them before any of them runs.
    for signal in [Signal::SIGSTOP, Signal::SIGINT, Signal::SIGCONT] {
        judge.signal(signal);
        listen.signal(signal);
    }
    assert!(listen.end().0.success());
    let (status, _, errors) = judge.end();
    assert!(status.success() && complaints(&errors).is_empty(), "{errors:?}");
    out.read_to_end(&mut Vec::new()).unwrap();
}
