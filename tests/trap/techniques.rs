//! The table of techniques in psentry-trap(8): each is run against the trap with psentry-judge behind it, and the page says
//! what became of it. With PSENTRY_GOLDEN=write in the environment the page is written anew.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::io::Write as _;
use std::process::{Command, Stdio};
use std::time::Duration;

use psentry_records::{Action, Class, Prefix, Probe, Record, Timestamp, Verdict};

use super::kinds::BEHIND_OPTIONS;
use super::{probes, python, quarantined, stands};
use crate::lab::{GUARD, Lab, Program, bin, wait_until};

/// Where the table stands in the page.
const BEGIN: &str = ".\\\" The table of the techniques, which tests/trap/techniques.rs runs.\n";
const END: &str = ".\\\" The end of the techniques.\n";

/// Eight closed ports, of no service that anybody knows.
const PORTS: &str = "700-707";

/// How a technique is run, on the scanner.
enum Run {
    /// By nmap with these flags, at IPv4.
    Nmap(&'static [&'static str]),
    /// By Python, with these arguments.
    Python(&'static str, &'static [&'static str]),
    /// The packets of `nmap -sS` again, so many seconds after one another, by the time in their records.
    Slowly(u64),
}

struct Technique {
    name: &'static str,
    /// Flags of the trap.
    flags: &'static [&'static str],
    run: Run,
    /// What is to be said of it: why not all of it is seen, quarantined and convicted, at once.
    why: &'static str,
}

/// SYNs as scanners build them. Arguments: address, source or `-` for the own one, TTL, identification, window, ports with
/// commas. The kernel fills in the checksum of the IP header.
const RAW_SYNS: &str = r#"
import socket, struct, sys
to, me, (ttl, ident, window) = sys.argv[1], sys.argv[2], map(int, sys.argv[3:6])
if me == '-':
    udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    udp.connect((to, 9))
    me = udp.getsockname()[0]
raw = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_RAW)
def checksum(data):
    total = sum(struct.unpack('!%dH' % (len(data) // 2), data))
    while total >> 16: total = (total & 0xffff) + (total >> 16)
    return ~total & 0xffff
for port in map(int, sys.argv[6].split(',')):
    tcp = struct.pack('!HHIIBBHHH', 40000, port, 1, 0, 5 << 4, 2, window, 0, 0)
    pseudo = socket.inet_aton(me) + socket.inet_aton(to) + struct.pack('!BBH', 0, 6, len(tcp))
    tcp = tcp[:16] + struct.pack('!H', checksum(pseudo + tcp)) + tcp[18:]
    ip = struct.pack('!BBHHHBBH4s4s', 0x45, 0, 40, ident, 0, ttl, 6, 0, socket.inet_aton(me), socket.inet_aton(to))
    raw.sendto(ip + tcp, (to, 0))
"#;

/// A connection to each of the ports, each from an address of its own. Arguments: the address, the sources with % for the
/// number of the port.
const ROTATING: &str = r#"
import socket, subprocess, sys
to, source = sys.argv[1:]
family = socket.AF_INET6 if ':' in to else socket.AF_INET
for n in range(8):
    mine = source.replace('%', str(20 + n))
    subprocess.run(['ip', 'address', 'add', mine, 'dev', 'eth0'] + (['nodad'] if ':' in to else []), check=True)
    s = socket.socket(family, socket.SOCK_STREAM)
    s.bind((mine.split('/')[0], 0))
    s.setblocking(False)
    try: s.connect((to, 700 + n))
    except BlockingIOError: pass
"#;

/// A TCP connection behind 520 bytes of destination options to each of the ports.
const OPTIONS: &str = "for port in range(700, 708):\n    import subprocess\n    \
                       subprocess.run(['python3', '-c', sys.argv[3], sys.argv[1], '520', 'no', str(port)], check=True)\n";

const EIGHT: &str = "700,701,702,703,704,705,706,707";

const STRAYS: &str = "These packets are strays, which an honest peer may send: the source may touch three ports in a minute before it is in quarantine.";
const PROTOCOLS: &str = "Protocols that have no ports are not watched by default. With --protocols they are seen, each by its \
                         number, and put nobody into quarantine; ten of them convict.";

/// In the order of the page.
const TECHNIQUES: [Technique; 28] = [
    nmap("nmap -sS", &["-sS", "-p", PORTS], ""),
    nmap("nmap -sT", &["-sT", "-p", PORTS], ""),
    nmap("nmap -sA", &["-sA", "-p", PORTS], STRAYS),
    nmap("nmap -sW", &["-sW", "-p", PORTS], STRAYS),
    nmap("nmap -sM", &["-sM", "-p", PORTS], STRAYS),
    nmap("nmap -sF", &["-sF", "-p", PORTS], STRAYS),
    nmap("nmap -sN", &["-sN", "-p", PORTS], ""),
    nmap("nmap -sX", &["-sX", "-p", PORTS], ""),
    nmap("nmap -sU", &["-sU", "-p", PORTS], ""),
    nmap("nmap -sO", &["-sO", "-p", "140-151"], PROTOCOLS),
    Technique {
        flags: &["--protocols"],
        ..nmap("nmap -sO (--protocols)", &["-sO", "-p", "140-151"], PROTOCOLS)
    },
    nmap("nmap -sY", &["-sY", "-p", PORTS], PROTOCOLS),
    nmap(
        "nmap -sn",
        &["-sn"],
        "Of its four packets, two are pings, which are seen with --icmp and put nobody into quarantine; the other two touch a \
         port each.",
    ),
    script(
        "nmap -sI",
        RAW_SYNS,
        // What an idle scan sends to its target: SYNs that bear the address of the idle host.
        &[GUARD[0], "203.0.113.99", "50", "1", "1024", EIGHT],
        "The source is the idle host, whose address the packets have. The real sender is not known; it learns nothing, since the \
         idle host gets no answer.",
    ),
    nmap("nmap -f", &["-sS", "-f", "-p", PORTS], ""),
    nmap("nmap -sS -g 53", &["-sS", "-g", "53", "-p", PORTS], ""),
    nmap("nmap -sU -g 53", &["-sU", "-g", "53", "-p", PORTS], STRAYS),
    nmap(
        "nmap -D",
        &["-sS", "-D", "203.0.113.101,203.0.113.102,ME", "-p", PORTS],
        "The sources are all addresses that the scanner uses: its own, and those that it forges.",
    ),
    nmap("nmap --ip-options", &["-sS", "--ip-options", "R", "-p", PORTS], ""),
    nmap("nmap --badsum", &["-sS", "--badsum", "-p", PORTS], ""),
    slowly("nmap -T1", 15, ""),
    slowly(
        "nmap -T0",
        300,
        "Each quarantine has ended before the next packet, which may therefore reach an open port; the judge remembers the \
         closed ones.",
    ),
    script("IPv6 extension headers", OPTIONS, &[GUARD[1], "-", BEHIND_OPTIONS], ""),
    script(
        "IPv4 rotation",
        ROTATING,
        &[GUARD[0], "198.18.%.7/32"],
        "Each address touches one port: it is in quarantine, and one contact convicts nobody.",
    ),
    script(
        "IPv6 rotation",
        ROTATING,
        &[GUARD[1], "2001:db8:7:%::7/64"],
        "The third /64 of a /56 puts that into quarantine as a whole, and so does the third /56 of a /48; one contact convicts no \
         /64.",
    ),
    script("masscan", RAW_SYNS, &[GUARD[0], "-", "255", "4711", "1024", EIGHT], ""),
    script(
        "zmap, one port",
        RAW_SYNS,
        &[GUARD[0], "-", "255", "54321", "65535", "700"],
        "One contact convicts nobody.",
    ),
    script("a worm at 23 and 2323", RAW_SYNS, &[GUARD[0], "-", "64", "1", "5840", "23,2323"], ""),
];

const fn nmap(name: &'static str, flags: &'static [&'static str], why: &'static str) -> Technique {
    Technique { name, flags: &[], run: Run::Nmap(flags), why }
}

const fn script(
    name: &'static str,
    script: &'static str,
    arguments: &'static [&'static str],
    why: &'static str,
) -> Technique {
    Technique { name, flags: &[], run: Run::Python(script, arguments), why }
}

const fn slowly(name: &'static str, seconds: u64, why: &'static str) -> Technique {
    Technique { name, flags: &[], run: Run::Slowly(seconds), why }
}

/// What became of it, in the words of the page.
#[derive(Clone, Debug)]
struct Outcome {
    seen: String,
    quarantined: String,
    convicted: String,
    probes: Vec<Probe>,
}

/// The trap, and the judge behind it.
struct Pipeline {
    trap: Program,
    judge: Program,
}

impl Pipeline {
    fn start(lab: &Lab, flags: &[&str]) -> Self {
        let command = &mut lab.guard.command(bin("psentry-trap"));
        let mut trap =
            Program::start_piped(command.args(["--source-rate", "1000"]).args(flags).stdin(Stdio::null()));
        let mut judge =
            Program::start_piped(Command::new(bin("psentry-judge")).arg("--pass").stdin(trap.stdout()));
        judge.read_output();
        wait_until("the trap stands", || stands(lab));
        judge.record("what the machine is", |record| matches!(record, Record::Stats(_)));
        Pipeline { trap, judge }
    }

    /// What they made of what `act` does.
    fn outcome(lab: &Lab, flags: &[&str], act: impl FnOnce()) -> Outcome {
        let Pipeline { mut trap, mut judge } = Pipeline::start(lab, flags);
        act();
        let shut = quarantined(lab).contains(&true);
        let (status, _, errors) = trap.terminate();
        assert!(status.success(), "{errors:?}");
        let (status, lines, errors) = judge.end();
        assert!(status.success(), "{errors:?}");
        Outcome::of(&lines, shut)
    }
}

impl Outcome {
    fn of(lines: &[String], shut: bool) -> Self {
        let or_no = |set: BTreeSet<String>| match set.is_empty() {
            true => "no".to_owned(),
            false => set.into_iter().collect::<Vec<_>>().join("; "),
        };
        let probes = probes(lines);
        let seen: BTreeSet<String> = probes
            .iter()
            .map(|probe| {
                let class = probe.body.class.map(Class::name);
                let proto = probe.common.proto.filter(|_| class.is_none()).map(|_| "protocol");
                format!("{}, {}", class.or(proto).unwrap_or("packet"), probe.body.kind.name())
            })
            .collect();
        let at_once = probes.first().is_some_and(|probe| probe.body.quarantine.is_some());
        let quarantined = match (shut, at_once) {
            (true, true) => "at once",
            (true, false) => "at the fourth port",
            (false, _) => "no",
        };
        let verdict = |line: &String| match Record::parse(line) {
            Ok(Record::Verdict(Verdict { body, .. })) if body.action == Action::Block => Some(body),
            _ => None,
        };
        let blocks: BTreeMap<Prefix, String> = lines
            .iter()
            .filter_map(verdict)
            .map(|body| {
                let time = body.duration.map_or("for ever".to_owned(), |seconds| format!("for {seconds} s"));
                match body.scope.is_host() {
                    true => (body.scope, time),
                    false => (body.scope, format!("{time}, as a /{}", body.scope.len())),
                }
            })
            .collect();
        let mut convicted = or_no(blocks.values().cloned().collect());
        if blocks.len() > 1 {
            let _ = write!(convicted, ", {} sources", blocks.len());
        }
        Outcome { seen: or_no(seen), quarantined: quarantined.to_owned(), convicted, probes }
    }

    /// The same packets, `pause` after one another. The first of them puts the source into quarantine in any case.
    fn slowly(&self, pause: Duration) -> Self {
        let mut judge = Program::start_fed(Command::new(bin("psentry-judge")).arg("--pass"));
        let mut stdin = judge.stdin();
        let mut time = Timestamp::from_secs(1_800_000_000).unwrap();
        for probe in &self.probes {
            let mut probe = probe.clone();
            probe.common.timestamp = time;
            time = time.plus(pause);
            let mut line = Vec::new();
            Record::Probe(probe).encode(&mut line).unwrap();
            stdin.write_all(&line).unwrap();
        }
        drop(stdin);
        let (status, lines, errors) = judge.end();
        assert!(status.success(), "{errors:?}");
        Outcome::of(&lines, true)
    }
}

fn run_all() -> Vec<Outcome> {
    let lab = Lab::new();
    // Somebody far away.
    lab.guard.sh("ip route add 198.18.0.0/15 via 203.0.113.7 dev scanner");
    let mut outcomes: Vec<Outcome> = Vec::new();
    for technique in &TECHNIQUES {
        let outcome = match technique.run {
            Run::Nmap(flags) => Pipeline::outcome(&lab, technique.flags, || {
                let fast = [
                    "nmap",
                    "-n",
                    "--max-retries",
                    "0",
                    "--initial-rtt-timeout",
                    "100ms",
                    "--max-rtt-timeout",
                    "100ms",
                ];
                let alive: &[&str] = if flags == ["-sn"] { &[] } else { &["-Pn"] };
                lab.scanner.read(&[&fast[..], alive, flags, &[GUARD[0]]].concat());
            }),
            Run::Python(script, arguments) => Pipeline::outcome(&lab, technique.flags, || {
                python(&lab.scanner, &format!("import sys\n{script}"), arguments);
            }),
            Run::Slowly(pause) => outcomes.first().unwrap().slowly(Duration::from_secs(pause)),
        };
        outcomes.push(outcome);
    }
    outcomes
}

/// Flags as groff is to print them (groff_char(7)).
fn dashes(text: &str) -> String {
    text.replace(" --", " \\-\\-").replace("(--", "(\\-\\-").replace(" -", " \\-")
}

fn table(outcomes: &[Outcome]) -> String {
    let mut text = format!(
        "{BEGIN}.Bl -column \"IPv6 extension headers\" \"probe, maimon\" \"at the fourth port\" \"for 60 s, as a /48\"\n\
         .It Em technique Ta Em seen as Ta Em quarantined Ta Em blocked by the judge\n"
    );
    for (technique, outcome) in TECHNIQUES.iter().zip(outcomes) {
        let Outcome { seen, quarantined, convicted, .. } = outcome;
        // Writing to a String cannot fail.
        let _ = writeln!(text, ".It {} Ta {seen} Ta {quarantined} Ta {convicted}", dashes(technique.name));
    }
    text.push_str(".El\n.Pp\nNotes on some of them:\n.Bl -tag -width Ds\n");
    let mut notes: Vec<(Vec<String>, &str)> = Vec::new();
    for technique in TECHNIQUES.iter().filter(|technique| !technique.why.is_empty()) {
        match notes.iter_mut().find(|(_, why)| *why == technique.why) {
            Some((names, _)) => names.push(dashes(technique.name)),
            None => notes.push((vec![dashes(technique.name)], technique.why)),
        }
    }
    for (names, why) in notes {
        let _ = writeln!(text, ".It {}\n{}", names.join(", "), dashes(why).replace(". ", ".\n"));
    }
    text + ".El\n" + END
}

#[test]
fn the_manual_says_what_becomes_of_each_technique() {
    let outcomes = run_all();
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/man/psentry-trap.8");
    let page = std::fs::read_to_string(path).unwrap();
    let (before, rest) = page.split_once(BEGIN).unwrap();
    let (now, after) = rest.split_once(END).unwrap();
    let want = table(&outcomes);
    if std::env::var_os("PSENTRY_GOLDEN").is_some() {
        std::fs::write(path, format!("{before}{want}{after}")).unwrap();
    } else {
        let now = format!("{BEGIN}{now}{END}");
        assert!(now == want, "PSENTRY_GOLDEN=write writes the table anew:\n{want}");
    }
    for (technique, outcome) in TECHNIQUES.iter().zip(&outcomes) {
        let missed =
            [&outcome.seen, &outcome.quarantined, &outcome.convicted].iter().any(|what| *what == "no");
        assert!(!missed || !technique.why.is_empty(), "{} is missed, and nobody says why", technique.name);
    }
}
