//! What a scanner learns, whom the quarantine costs what, and the ways around it.

use std::io::Write;

use psentry_records::Kind;

use super::{counter, probe, probes, python, quarantined, release, trap, version};
use crate::lab::{GUARD, INNOCENT, Lab, Program, SCANNER, bin, wait_until};

const SERVICE: u16 = 8088;

/// Services that people have, where scanners look first.
const SERVICES: [u16; 8] = [22, 25, 80, 110, 143, 443, 3306, 8080];

/// Datagrams from the port of answers to closed ports, one of them such as clients have. Argument: address.
const KNOCK: &str = r#"
import socket, sys
s = socket.socket(socket.AF_INET6 if ':' in sys.argv[1] else socket.AF_INET, socket.SOCK_DGRAM)
s.bind(('', 53))
for port in 9, 9, 9, 40000, 40000:
    try: s.sendto(b'knock', (sys.argv[1], port))
    except ConnectionRefusedError: pass
"#;

/// What comes before the first closed port is learnt, and nothing after it. nmap asks in the order of ports here, so that it is
/// the same each time; in an order of its own it is luck, and the benchmark of disclosure has the median.
#[test]
fn a_scanner_learns_what_comes_before_the_first_closed_port() {
    let lab = Lab::new();
    let _services: Vec<Program> = SERVICES.iter().map(|port| lab.service(*port)).collect();
    let _trap = trap(&lab, &[]);
    for (family, guard) in GUARD.into_iter().enumerate() {
        let ports = "22,25,100-1000,3306,8080";
        let scan = [
            "nmap",
            "-n",
            "-Pn",
            "-sS",
            "-T4",
            "-r",
            "-p",
            ports,
            "--max-retries",
            "1",
            "--min-rate",
            "1000",
        ];
        let found = lab.scanner.read(&[&scan[..], &["-oG", "-", guard], version(family)].concat());
        let mut learnt: Vec<&str> =
            found.split([' ', '\t', '\n']).filter(|word| word.contains("/open/")).collect();
        learnt.sort_unstable();
        assert!(
            matches!(&*learnt, [one, two] if one.starts_with("22/") && two.starts_with("25/")),
            "{found}"
        );
        assert!(quarantined(&lab)[family]);
        assert!(lab.innocent.reaches(guard, SERVICES[0]));
    }
}

/// It lasts as long as it says after the last probe. Trying in vain to reach a service does not make it longer: else
/// whoever is there because of a forged packet would never get out.
#[test]
fn it_ends_by_itself_and_only_probes_renew_it() {
    let lab = Lab::new();
    let _service = lab.service(SERVICE);
    let _trap = trap(&lab, &["--quarantine", "4s"]);
    for (family, guard) in GUARD.into_iter().enumerate() {
        lab.scanner.is_shut_out(guard, 9);
        let start = std::time::Instant::now();
        assert!(lab.scanner.is_shut_out(guard, SERVICE));
        assert!(lab.innocent.reaches(guard, SERVICE));
        wait_until("the scanner is let in again", || !lab.scanner.is_shut_out(guard, SERVICE));
        let lasted = start.elapsed().as_secs_f64();
        assert!((2.0..8.0).contains(&lasted), "IPv{}: {lasted}", [4, 6][family]);
    }
}

#[test]
fn a_connection_that_stands_stays_and_so_does_a_neighbour() {
    let lab = Lab::new();
    let echo = [&format!("TCP6-LISTEN:{SERVICE},ipv6only=0,reuseaddr,fork"), "EXEC:cat"];
    let _echo = Program::start(lab.guard.command("socat").args(echo));
    wait_until("the echo answers", || lab.innocent.reaches(GUARD[0], SERVICE));
    let _trap = trap(&lab, &[]);
    let target = format!("TCP:{}:{SERVICE}", GUARD[0]);
    let mut session = Program::start_fed(lab.scanner.command("socat").args(["-", &target]));
    let mut input = session.stdin();
    writeln!(input, "before").unwrap();
    session.line("the echo", |line| line == "before");

    lab.scanner.is_shut_out(GUARD[0], 9);
    assert!(lab.scanner.is_shut_out(GUARD[0], SERVICE));
    writeln!(input, "after").unwrap();
    session.line("the echo", |line| line == "after");
    // Nor do its own connections to the scanner need leave.
    let _theirs = lab.scanner.sends("TCP-LISTEN:9000,fork", "/run/hello");
    wait_until("the guard reaches the scanner", || lab.guard.reaches(SCANNER[0], 9000));
}

#[test]
fn whom_the_file_names_is_left_alone() {
    let lab = Lab::new();
    let _service = lab.service(SERVICE);
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), format!("{} # ours\n2001:db8:8::/48\n", INNOCENT[0])).unwrap();
    let mut trap = trap(&lab, &["--allow", file.path().to_str().unwrap()]);
    for guard in GUARD {
        lab.innocent.run(&["nc", "-z", "-n", "-w", "1", guard, "9"]);
        assert!(lab.innocent.reaches(guard, SERVICE));
        lab.scanner.is_shut_out(guard, 9);
        assert!(lab.scanner.is_shut_out(guard, SERVICE));
    }
    let probes = probes(&trap.terminate().1);
    let sources = probes.iter().map(|probe| probe.common.src_ip.unwrap().to_string());
    assert_eq!(sources.collect::<std::collections::BTreeSet<_>>(), SCANNER.map(str::to_owned).into());
}

/// Whoever shut himself out adds himself to the file, and is in; nothing has to be restarted.
#[test]
fn a_change_of_the_file_takes_effect_at_once() {
    let lab = Lab::new();
    let _service = lab.service(SERVICE);
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("ignore");
    // Another file in its place each time, as editors write it.
    let write = |text: &str| {
        let next = folder.path().join("next");
        std::fs::write(&next, text).unwrap();
        std::fs::rename(next, &path).unwrap();
    };
    write("# nobody yet\n");
    let mut trap = trap(&lab, &["--quarantine", "10m", "--allow", path.to_str().unwrap()]);
    for guard in GUARD {
        lab.scanner.is_shut_out(guard, 9);
        assert!(lab.scanner.is_shut_out(guard, SERVICE));
    }
    write(&format!("{}\n2001:db8:7::/48 # the whole site\n", SCANNER[0]));
    for guard in GUARD {
        wait_until("the file is heeded", || lab.scanner.reaches(guard, SERVICE));
    }
    wait_until("the quarantine has ended, and is not only passed over", || quarantined(&lab) == [false; 2]);

    // A wrong line takes nothing from the others, nor from what the file said when all of it was right.
    write(&format!("{}\n2001:db8:7::/129\n203.0.113.99\n", SCANNER[0]));
    trap.complaint("line 2: ");
    let allowed = |set: &str| lab.guard.read(&["nft", "list", "set", "inet", "psentry_trap", set]);
    wait_until("the right lines are heeded", || allowed("allow4").contains("203.0.113.99"));
    assert!(allowed("allow6").contains("2001:db8:7::/48"));
    assert!(lab.scanner.reaches(GUARD[0], SERVICE));

    // Out of the file he is as anybody else: in by what was, shut out by a new probe.
    write("# nobody any more\n");
    let mut port = 10;
    wait_until("the file is heeded", || {
        port += 1;
        lab.scanner.is_shut_out(GUARD[0], port);
        lab.scanner.is_shut_out(GUARD[0], SERVICE)
    });
    assert_eq!(counter(&trap.terminate().1, "repairs"), 0);
}

#[test]
fn who_only_observes_lets_everybody_through() {
    let lab = Lab::new();
    let _service = lab.service(SERVICE);
    let mut trap = trap(&lab, &["--observe"]);
    for guard in GUARD {
        // Refused by the kernel itself, at once.
        let scan = lab.scanner.run(&["nc", "-z", "-v", "-n", "-w", "5", guard, "9"]);
        assert!(String::from_utf8_lossy(&scan.stderr).contains("refused"));
        probe(&mut trap, "a probe", |probe| probe.common.dest_port == Some(9));
        assert!(lab.scanner.reaches(guard, SERVICE));
    }
    assert!(
        !lab.guard.read(&["nft", "list", "set", "inet", "psentry_trap", "quarantine4"]).contains("elements")
    );
}

#[test]
fn who_rejects_answers_as_a_closed_port_does() {
    let lab = Lab::new();
    let _service = lab.service(SERVICE);
    let _trap = trap(&lab, &["--answer", "reject"]);
    for guard in GUARD {
        for port in [9, SERVICE] {
            let scan = lab.scanner.run(&["nc", "-z", "-v", "-n", "-w", "5", guard, &port.to_string()]);
            let said = String::from_utf8_lossy(&scan.stderr).into_owned();
            assert!(said.contains("refused"), "{port}: {said}");
        }
    }
}

#[test]
fn only_the_ports_that_are_watched_are_traps() {
    let lab = Lab::new();
    let _service = lab.service(SERVICE);
    let mut trap = trap(&lab, &["--tcp-ports", "1-1023", "--except", "9"]);
    for port in ["9", "2000"] {
        lab.scanner.run(&["nc", "-z", "-n", "-w", "1", GUARD[0], port]);
    }
    assert!(lab.scanner.reaches(GUARD[0], SERVICE));
    lab.scanner.is_shut_out(GUARD[0], 10);
    assert!(lab.scanner.is_shut_out(GUARD[0], SERVICE));
    let probes = probes(&trap.terminate().1);
    assert!(!probes.is_empty() && probes.iter().all(|probe| probe.common.dest_port == Some(10)));
}

#[test]
fn each_protocol_has_its_ports() {
    let lab = Lab::new();
    let mut trap = trap(&lab, &["--tcp-ports", "none", "--udp-ports", "700-799", "--except", "750"]);
    trap.complaint("ready: traps 99 UDP ports without a socket, on every interface");
    for (scan, ports) in [("-sS", "701,20"), ("-sU", "750,20")] {
        lab.scanner.read(&["nmap", "-n", "-Pn", "--max-retries", "0", scan, "-p", ports, GUARD[0]]);
    }
    assert_eq!(quarantined(&lab), [false, false]);
    lab.scanner.read(&["nmap", "-n", "-Pn", "--max-retries", "0", "-sU", "-p", "701", GUARD[0]]);
    assert_eq!(quarantined(&lab), [true, false]);
    let probes = probes(&trap.terminate().1);
    assert!(probes.iter().all(|probe| (probe.body.kind, probe.common.dest_port) == (Kind::Udp, Some(701))));
}

/// What comes in elsewhere is let through, whatever its source did here.
#[test]
fn only_what_comes_in_by_the_interfaces_is_looked_at() {
    let lab = Lab::new();
    let _service = lab.service(SERVICE);
    let mut trap = trap(&lab, &["--interface", "scanner", "--interface", "not-there-yet"]);
    trap.complaint("every UDP port without a socket, on scanner, not-there-yet");
    for (family, guard) in GUARD.into_iter().enumerate() {
        lab.innocent.run(&["nc", "-z", "-n", "-w", "1", guard, "9"]);
        assert!(lab.innocent.reaches(guard, SERVICE));
        lab.scanner.is_shut_out(guard, 10);
        assert!(lab.scanner.is_shut_out(guard, SERVICE), "{family}");
    }
    let probes = probes(&trap.terminate().1);
    assert!(
        !probes.is_empty() && probes.iter().all(|probe| probe.common.dest_port == Some(10)),
        "{probes:?}"
    );
}

/// Nothing that a stranger sends makes a closed port look served, not even where every packet goes on to the kernel,
/// which answers it: neither datagrams again and again from one port, nor what looks like an answer, nor connections.
#[test]
fn no_stranger_makes_a_port_look_served() {
    for flags in [&[][..], &["--observe"]] {
        let lab = Lab::new();
        let _service = lab.service(SERVICE);
        let mut trap = trap(&lab, flags);
        for (guard, scanner) in GUARD.into_iter().zip(SCANNER) {
            lab.scanner.run(&["nc", "-z", "-n", "-w", "1", guard, "9"]);
            python(&lab.scanner, KNOCK, &[guard]);
            let scanner: std::net::IpAddr = scanner.parse().unwrap();
            probe(&mut trap, "a datagram", |probe| {
                probe.body.kind == Kind::Udp && probe.common.src_ip == Some(scanner)
            });
        }
        assert!(lab.innocent.reaches(GUARD[0], SERVICE));
        let served = ["served4", "served6"]
            .map(|set| lab.guard.read(&["nft", "list", "set", "inet", "psentry_trap", set]));
        assert!(served[0].contains(&format!("{} . tcp . {SERVICE} ", GUARD[0])), "{served:?}");
        assert_eq!(served.concat().matches("expires").count(), 1, "{flags:?}: {served:?}");
    }
}

/// One late packet is nobody's fault; a scan by such packets is one at the fourth port.
#[test]
fn strays_are_evidence_until_they_are_a_scan() {
    let lab = Lab::new();
    let mut trap = trap(&lab, &[]);
    for scan in ["-sA", "-sF"] {
        release(&lab);
        let of = |ports: &str| {
            lab.scanner.read(&["nmap", "-n", "-Pn", "--max-retries", "0", scan, "-p", ports, GUARD[0]])
        };
        of("300-302");
        assert_eq!(quarantined(&lab), [false, false], "{scan}");
        of("303-310");
        assert_eq!(quarantined(&lab), [true, false], "{scan}");
    }
    // A port of TCP and one of UDP are two.
    release(&lab);
    lab.scanner.read(&["nmap", "-n", "-Pn", "--max-retries", "0", "-sA", "-p", "300-302", GUARD[0]]);
    assert_eq!(quarantined(&lab), [false, false]);
    lab.scanner.read(&["nmap", "-n", "-Pn", "--max-retries", "0", "-sU", "-g", "53", "-p", "300", GUARD[0]]);
    assert_eq!(quarantined(&lab), [true, false]);
    let kinds: std::collections::BTreeSet<Kind> =
        probes(&trap.terminate().1).iter().map(|probe| probe.body.kind).collect();
    assert_eq!(kinds, [Kind::Fin, Kind::Ack, Kind::Udp].into());
}

/// A SYN, and two ACKs that acknowledge nothing that was sent: one of them is before the number of the SYN-ACK, and one behind
/// it, whatever that is. Arguments: from, to, port.
const FORGED_ACK: &str = r#"
import socket, struct, sys
me, to, port = sys.argv[1], sys.argv[2], int(sys.argv[3])
raw = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_RAW)
def checksum(data):
    total = sum(struct.unpack('!%dH' % (len(data) // 2), data))
    while total >> 16: total = (total & 0xffff) + (total >> 16)
    return ~total & 0xffff
for flags, seq, ack in ((2, 1, 0), (16, 2, 0x12345678), (16, 2, 0x92345678)):
    tcp = struct.pack('!HHIIBBHHH', 40000, port, seq, ack, 5 << 4, flags, 1024, 0, 0)
    pseudo = socket.inet_aton(me) + socket.inet_aton(to) + struct.pack('!BBH', 0, 6, len(tcp))
    tcp = tcp[:16] + struct.pack('!H', checksum(pseudo + tcp)) + tcp[18:]
    ip = struct.pack('!BBHHHBBH4s4s', 0x45, 0, 40, 1, 0, 64, 6, 0, socket.inet_aton(me), socket.inet_aton(to))
    raw.sendto(ip + tcp, (to, 0))
"#;

/// An ACK that ends no handshake does not hide a half-open scan.
#[test]
fn an_ack_that_acknowledges_nothing_ends_no_handshake() {
    let lab = Lab::new();
    let _listen = Program::start(lab.guard.command(bin("psentry-listen")).args(["--tcp", "2324"]));
    wait_until("the decoy listens", || lab.guard.read(&["ss", "-Hltn"]).contains(":2324 "));
    let mut trap = trap(&lab, &[]);
    // Its own kernel would answer the SYN-ACK with a RST, which tells the same.
    lab.scanner.sh("nft 'add table ip own; add chain ip own out { type filter hook output priority 0; };
        add rule ip own out tcp flags rst drop'");
    python(&lab.scanner, FORGED_ACK, &[SCANNER[0], GUARD[0], "2324"]);
    let found = probe(&mut trap, "the half-open scan", |probe| probe.common.dest_port == Some(2324));
    assert_eq!(found.body.kind, Kind::Syn);
    assert!(!found.body.handshake);
}

/// A decoy's own socket never hears of a SYN that no handshake follows. In quarantine decoys still answer: there a
/// source can prove its address, and learns nothing.
#[test]
fn a_half_open_scan_of_a_decoy_is_told_and_a_connection_is_not() {
    let lab = Lab::new();
    let mut listen = Program::start(lab.guard.command(bin("psentry-listen")).args(["--tcp", "2323,2324"]));
    wait_until("the decoys listen", || lab.guard.read(&["ss", "-Hltn"]).contains(":2324 "));
    let _service = lab.service(SERVICE);
    let mut trap = trap(&lab, &[]);
    for (family, guard) in GUARD.into_iter().enumerate() {
        lab.scanner.touch(guard, 2323);
        probe(&mut listen, "a connection", |probe| probe.common.dest_port == Some(2323));
        let scan = ["nmap", "-n", "-Pn", "-sS", "-p", "2324", guard];
        lab.scanner.read(&[&scan[..], version(family)].concat());
        // The closed port of the family before may have been touched more than once.
        let found = probe(&mut trap, "the half-open scan", |probe| probe.common.dest_port != Some(9));
        let of = (found.common.dest_port, found.body.kind, found.body.signature.as_deref());
        assert_eq!(of, (Some(2324), Kind::Syn, Some("nmap")));

        lab.scanner.is_shut_out(guard, 9);
        probe(&mut trap, "a probe of a closed port", |probe| probe.common.dest_port == Some(9));
        assert!(lab.scanner.is_shut_out(guard, SERVICE));
        lab.scanner.touch(guard, 2323);
        probe(&mut listen, "a proof", |probe| probe.common.dest_port == Some(2323) && probe.body.handshake);
    }
}
