//! Scans as they came in: the first packets of real runs of nmap and masscan, which `recorded/record` wrote down. Their
//! order and their timing are those programs' own, and differ from run to run.

use psentry_records::Kind;

/// A packet of a scan.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Packet {
    /// How long after the first one, in microseconds.
    pub after: u64,
    pub kind: Kind,
    pub port: u16,
}

/// What was recorded, each file with all of its runs.
pub struct Recorded {
    pub connect: Vec<Vec<Packet>>,
    pub syn: Vec<Vec<Packet>>,
    pub flags: Vec<Vec<Packet>>,
    pub udp: Vec<Vec<Packet>>,
    pub masscan: Vec<Vec<Packet>>,
}

impl Recorded {
    pub fn read() -> Self {
        Recorded {
            connect: runs(include_str!("recorded/nmap-connect.txt"), Kind::Connect),
            syn: runs(include_str!("recorded/nmap-syn.txt"), Kind::Syn),
            flags: runs(include_str!("recorded/nmap-flags.txt"), Kind::Syn),
            udp: runs(include_str!("recorded/nmap-udp.txt"), Kind::Syn),
            masscan: runs(include_str!("recorded/masscan.txt"), Kind::Syn),
        }
    }
}

/// The runs of a file: a line of `#` before each, then a packet a line. What a SYN is, a capture does not tell: the
/// kernel sends it to connect, nmap to see what comes back.
fn runs(text: &str, syn: Kind) -> Vec<Vec<Packet>> {
    let runs = text.split('#').skip(1);
    let read = |line| packet(line, syn).unwrap_or_else(|| panic!("{line}"));
    runs.map(|run| run.lines().skip(1).map(read).collect()).collect()
}

fn packet(line: &str, syn: Kind) -> Option<Packet> {
    let mut words = line.split(' ');
    let after = words.next()?.parse().ok()?;
    let kind = match (words.next()?, words.next()?) {
        ("udp", _) => Kind::Udp,
        ("tcp", "S") => syn,
        ("tcp", "F") => Kind::Fin,
        ("tcp", "FPU") => Kind::Xmas,
        ("tcp", "-") => Kind::Null,
        ("tcp", "A") => Kind::Ack,
        _ => return None,
    };
    Some(Packet { after, kind, port: words.next()?.parse().ok()? })
}

#[test]
fn recordings_are_of_scans_and_no_two_are_alike() {
    let Recorded { connect, syn, flags, udp, masscan } = Recorded::read();
    for runs in [&connect, &syn, &flags, &udp, &masscan] {
        assert!(runs.len() >= 3);
        for (n, run) in runs.iter().enumerate() {
            assert!(run.is_sorted_by_key(|packet| packet.after) && run[0].after == 0, "{run:?}");
            let ports = |run: &[Packet]| run.iter().map(|packet| packet.port).collect::<Vec<_>>();
            let mut different = ports(run);
            different.sort_unstable();
            different.dedup();
            assert!(different.len() >= 5, "{run:?}");
            assert!(runs[..n].iter().all(|other| ports(other) != ports(run)), "twice: {run:?}");
        }
    }
    // Each kind of scan that a file is named after is most of it.
    for (runs, kinds) in [
        (connect, &[Kind::Connect][..]),
        (syn, &[Kind::Syn]),
        (flags, &[Kind::Fin, Kind::Xmas, Kind::Null, Kind::Ack]),
        (udp, &[Kind::Udp]),
        (masscan, &[Kind::Syn]),
    ] {
        let of_kind = |run: &Vec<Packet>| run.iter().filter(|packet| kinds.contains(&packet.kind)).count();
        assert!(runs.iter().all(|run| of_kind(run) * 10 > run.len() * 8));
    }
}
