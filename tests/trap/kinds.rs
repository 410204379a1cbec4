//! Every scan of nmap's is told of by its kind, on both versions of IP, and each packet of it, as a capture of the same
//! run shows.

use std::collections::BTreeMap;

use psentry_records::Kind;

use super::{probe, probes, trap, version};
use crate::lab::{GUARD, Lab, Program, SCANNER};

/// Every packet from an address on an interface, but for resets: its TCP flags (-1: UDP) and its destination port. A
/// capture that has nothing of psentry's in it. Arguments: interface, address.
const CAPTURE: &str = r#"
import socket, struct, sys
s = socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM, socket.htons(3))
s.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 22)
s.bind((sys.argv[1], 3))
print('ready', flush=True)
while True:
    packet, (_, _, direction, _, _) = s.recvfrom(2000)
    if direction == 4: continue # our own
    v6 = packet[0] >> 4 == 6
    family, at, size = (socket.AF_INET6, 8, 16) if v6 else (socket.AF_INET, 12, 4)
    if socket.inet_ntop(family, packet[at:at + size]) != sys.argv[2]: continue
    protocol, rest = (packet[6], packet[40:]) if v6 else (packet[9], packet[(packet[0] & 15) * 4:])
    if protocol == 17: print(-1, struct.unpack('!H', rest[2:4])[0], flush=True)
    if protocol == 6 and not rest[13] & 4: print(rest[13], struct.unpack('!H', rest[2:4])[0], flush=True)
"#;

/// nmap's scans, and what each sends. A window scan sends ACKs and reads the answers in its own way.
const SCANS: [(&str, Kind); 9] = [
    ("-sS", Kind::Syn),
    ("-sT", Kind::Syn),
    ("-sF", Kind::Fin),
    ("-sN", Kind::Null),
    ("-sX", Kind::Xmas),
    ("-sA", Kind::Ack),
    ("-sM", Kind::Maimon),
    ("-sW", Kind::Ack),
    ("-sU", Kind::Udp),
];

/// How many packets of which kind went to which port.
type Seen = BTreeMap<(Kind, u16), u32>;

/// A line of the capture.
fn captured(line: &str) -> Option<(Kind, u16)> {
    let (flags, port) = line.split_once(' ')?;
    let kind = match flags.parse().ok()? {
        -1 => Kind::Udp,
        0x02 => Kind::Syn,
        0x01 => Kind::Fin,
        0x00 => Kind::Null,
        0x29 => Kind::Xmas,
        0x10 => Kind::Ack,
        0x11 => Kind::Maimon,
        _ => Kind::Other,
    };
    Some((kind, port.parse().ok()?))
}

#[test]
fn every_scan_has_its_kind_and_no_packet_is_missing() {
    let lab = Lab::new();
    for (family, guard) in GUARD.into_iter().enumerate() {
        let mut trap = trap(&lab, &["--observe", "--source-rate", "1000"]);
        let capture = ["-c", CAPTURE, "scanner", SCANNER[family]];
        let mut dump = Program::start(lab.guard.command("python3").args(capture));
        dump.line("the capture", |line| line == "ready");
        // Each scan has ports of its own, by which its packets are known; the last has one more.
        let port = |at: usize| 100 + 10 * u16::try_from(at).unwrap();
        for (at, (scan, _)) in SCANS.into_iter().enumerate() {
            let ports = format!("{}-{}", port(at), port(at) + 2);
            let flags = ["nmap", "-n", "-Pn", "--max-retries", "0", "-p", &ports, scan, guard];
            lab.scanner.read(&[&flags[..], version(family)].concat());
        }
        let last = port(SCANS.len());
        lab.scanner.run(&["nc", "-z", "-n", "-w", "1", guard, &last.to_string()]);
        dump.line("the last packet", |line| captured(line) == Some((Kind::Syn, last)));
        probe(&mut trap, "the last probe", |probe| probe.common.dest_port == Some(last));

        let mut want = Seen::new();
        let lines = dump.said().iter();
        lines.filter_map(|line| captured(line)).for_each(|seen| *want.entry(seen).or_default() += 1);
        let mut lines = trap.terminate().1;
        lines.extend_from_slice(trap.said());
        let mut seen = Seen::new();
        for probe in probes(&lines) {
            *seen.entry((probe.body.kind, probe.common.dest_port.unwrap())).or_default() += probe.body.count;
            assert_eq!(probe.common.src_ip.unwrap().to_string(), SCANNER[family]);
            assert_eq!(probe.common.dest_ip.unwrap().to_string(), guard);
            assert!(!probe.body.handshake);
            let nmap = (port(0)..port(1)).contains(&probe.common.dest_port.unwrap());
            assert_eq!(probe.body.signature.as_deref(), nmap.then_some("nmap"));
        }
        assert_eq!(seen, want, "left told, right captured");
        for (at, (scan, kind)) in SCANS.into_iter().enumerate() {
            for port in port(at)..port(at) + 3 {
                assert!(seen.contains_key(&(kind, port)), "{scan} of {port}: {seen:?}");
            }
        }
    }
}

/// Odd flags, fragments, a source port that firewalls like, decoy sources, a slow scan: what is seen of each.
#[test]
fn tricks_of_nmap_are_seen_through() {
    let lab = Lab::new();
    let mut trap = trap(&lab, &["--source-rate", "1000"]);
    for (flags, port, kind, sources) in [
        (&["-sS", "--scanflags", "SYNFIN"][..], 200, Kind::Other, 1),
        (&["-sS", "--scanflags", "URGACKPSHRSTSYNFIN"], 201, Kind::Other, 1),
        (&["-sS", "-f"], 202, Kind::Syn, 1),
        (&["-sN", "-f", "-f"], 203, Kind::Null, 1),
        (&["-sS", "-g", "53"], 204, Kind::Syn, 1),
        (&["-sU", "-g", "53"], 205, Kind::Udp, 1),
        (&["-sS", "-D", "192.0.2.101,192.0.2.102,ME"], 206, Kind::Syn, 3),
        (&["-sS", "--ip-options", "R"], 207, Kind::Syn, 1),
        (&["-sS", "--ttl", "3", "--badsum"], 208, Kind::Syn, 1),
        (&["-sS", "-T1", "--scan-delay", "1s"], 209, Kind::Syn, 1),
    ] {
        let port_text = port.to_string();
        let head = ["nmap", "-n", "-Pn", "--max-retries", "0", "-p", &port_text];
        lab.scanner.read(&[&head[..], flags, &[GUARD[0]]].concat());
        let mut seen = std::collections::BTreeSet::new();
        while seen.len() < sources {
            let found = probe(&mut trap, &format!("{flags:?}"), |probe| probe.common.dest_port == Some(port));
            assert_eq!(found.body.kind, kind, "{flags:?}");
            seen.insert(found.common.src_ip);
        }
    }
}

/// Connects, and sends a datagram, to a port, behind extension headers of IPv6: destination options, or hop-by-hop ones as
/// well. Arguments: address, length of one such header, which is a multiple of 8, `yes` for both kinds, port.
pub const BEHIND_OPTIONS: &str = r#"
import socket, sys
address, length, both, port = sys.argv[1], int(sys.argv[2]), sys.argv[3] == 'yes', int(sys.argv[4])
options = b''
while len(options) < length - 2:
    # An option that a receiver passes over (RFC 4727), of up to 255 bytes; no single byte may be left.
    left = min(length - 2 - len(options), 250)
    options += bytes([0x1e, left - 2]) + bytes(left - 2)
header = bytes([0, length // 8 - 1]) + options
for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM):
    s = socket.socket(socket.AF_INET6, kind)
    s.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_DSTOPTS, header)
    if both: s.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_HOPOPTS, header)
    s.settimeout(0.2)
    try:
        s.connect((address, port))
        s.send(b'x')
    except OSError: pass
"#;

/// Whatever stands between the headers of IPv6 and of TCP or UDP, the record has the port.
#[test]
fn extension_headers_hide_no_port() {
    let lab = Lab::new();
    let mut trap = trap(&lab, &["--source-rate", "1000"]);
    for (port, (length, both)) in (700..).zip([(120, "no"), (120, "yes"), (520, "no"), (248, "yes")]) {
        super::python(
            &lab.scanner,
            BEHIND_OPTIONS,
            &[GUARD[1], &length.to_string(), both, &port.to_string()],
        );
        for kind in [Kind::Syn, Kind::Udp] {
            probe(&mut trap, &format!("{kind:?} behind {length}, {both}"), |probe| {
                assert!(probe.common.dest_port.is_some(), "{probe:?}");
                (probe.body.kind, probe.common.dest_port) == (kind, Some(port))
            });
        }
    }
    let (_, lines, errors) = trap.terminate();
    assert_eq!(super::counter(&lines, "unreadable"), 0, "{errors:?}");
}

/// What is told only when asked for, and never shuts anybody out.
#[test]
fn pings_and_other_protocols_are_told_on_request() {
    let lab = Lab::new();
    for (flags, told) in [(&[][..], false), (&["--icmp", "--protocols"][..], true)] {
        let mut trap = trap(&lab, flags);
        for (family, guard) in GUARD.into_iter().enumerate() {
            lab.scanner.read(&["ping", "-n", "-c", "1", guard]);
            let scan = ["nmap", "-n", "-Pn", "-sO", "--max-retries", "0", "-p", "47,132,253", guard];
            lab.scanner.read(&[&scan[..], version(family)].concat());
        }
        assert_eq!(super::quarantined(&lab), [false, false]);
        let names: std::collections::BTreeSet<&str> =
            probes(&trap.terminate().1).iter().map(|probe| probe.common.proto.unwrap().name()).collect();
        let want: &[&str] = if told { &["253", "47", "ICMP", "IPv6-ICMP", "SCTP"] } else { &[] };
        assert_eq!(names.into_iter().collect::<Vec<_>>(), want);
    }
}
