//! What a stranger can have for nothing: a forged SYN has few answers, and a flood few records, while the first contact of
//! everybody else stands in the stream at once.

use std::net::SocketAddr;

use psentry_records::{Kind, Record, Stats};

use super::{listening, probe_at};
use crate::lab::{GUARD, INNOCENT, Lab, Program, SCANNER, bin, wait_until};
use crate::trap::load::FORGE;

/// Datagrams for a second and a half, to one port, and then connections. With pauses, for all hosts of this machine share
/// the queue of what the kernel has received.
const FLOOD: &str = "
import socket, sys, time
to, port = sys.argv[1], int(sys.argv[2])
udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
sent, end = 0, time.monotonic() + 1.5
while time.monotonic() < end:
    udp.sendto(b'x', (to, port))
    sent += 1
    if sent % 20 == 0: time.sleep(0.0005)
made, end = 0, time.monotonic() + 1.5
while time.monotonic() < end:
    tcp = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    try: tcp.connect((to, port))
    except ConnectionResetError: pass
    tcp.close()
    made += 1
print(sent, made)
";

fn python(lab: &Lab, script: &str, args: &[&str]) -> String {
    lab.scanner.read(&[&["python3", "-c", script], args].concat())
}

/// The kernel gives a SYN up one, two and four seconds after its answers; by its own default it answers for 63 seconds.
#[test]
fn a_forged_syn_has_two_answers_from_whoever_opened_the_socket() {
    let lab = Lab::new();
    lab.guard.sh("ip route add 198.18.0.0/15 dev scanner
        nft 'add table inet count; add chain inet count out { type filter hook output priority 0; };
             add counter inet count answers;
             add rule inet count out ip daddr 198.18.0.0/15 tcp flags & (syn | ack) == (syn | ack) counter name answers'");
    let _listen = Program::start(
        lab.guard
            .command("systemd-socket-activate")
            .args(["-l", "2323"])
            .arg(bin("psentry-listen"))
            .args(["--tcp", "2324", "--mirage", "2325"]),
    );
    listening(&lab, 2323);
    // The first connection starts psentry-listen.
    lab.scanner.touch(GUARD[0], 2323);
    listening(&lab, 2325);
    python(&lab, FORGE, &[GUARD[0], "2323", "3", "0", "3"]);
    let waiting = || lab.guard.read(&["ss", "-Htn", "state", "syn-recv"]);
    assert_eq!(waiting().lines().count(), 3, "{}", waiting());
    wait_until("the kernel has given them up", || waiting().is_empty());
    let counted = lab.guard.sh("nft list counter inet count answers");
    assert!(counted.contains("packets 6 "), "{counted}");
}

#[test]
fn a_flood_at_one_decoy_is_a_few_records_and_hides_nobody() {
    let lab = Lab::new();
    let mut listen = Program::start(lab.guard.command(bin("psentry-listen")).args([
        "--tcp",
        "2323,2324",
        "--udp",
        "2323",
    ]));
    listening(&lab, 2324);
    let flood = python(&lab, FLOOD, &[GUARD[0], "2323"]);
    lab.innocent.touch(GUARD[0], 2324);
    assert_eq!(probe_at(&mut listen, 2324).common.src_ip.unwrap().to_string(), INNOCENT[0]);
    let said = listen.said().to_vec();
    let (status, rest, errors) = listen.terminate();
    assert!(status.success(), "{errors:?}");
    let records: Vec<Record> = said.iter().chain(&rest).map(|line| Record::parse(line).unwrap()).collect();
    let Some(Record::Stats(Stats { body: stats, .. })) = records.last() else { panic!("{records:?}") };
    let of = |kind: Kind| -> Vec<u32> {
        let probes = records.iter().filter_map(|record| match record {
            Record::Probe(probe) if probe.common.dest_port == Some(2323) && probe.body.kind == kind => {
                Some(probe)
            }
            _ => None,
        });
        let counts = probes.map(|probe| {
            assert_eq!(probe.common.src_ip.unwrap().to_string(), SCANNER[0]);
            assert_eq!(probe.body.handshake, kind == Kind::Connect);
            probe.body.count
        });
        counts.collect()
    };
    let sent: Vec<u64> = flood.split_whitespace().map(|number| number.parse().unwrap()).collect();
    println!("sent {sent:?}, {stats:?}");
    assert!(sent[0] > 2_000 && sent[1] > 200, "the flood is none: {sent:?}");
    for (kind, came) in
        [(Kind::Udp, stats.counter("datagrams")), (Kind::Connect, stats.counter("connections") - 1)]
    {
        let counts = of(kind);
        // A first one and its repeats a second; on a busy machine it lasts longer.
        assert!((2..=20).contains(&counts.len()), "{kind:?}: {counts:?}");
        assert_eq!(counts.iter().map(|count| u64::from(*count)).sum::<u64>(), came, "{kind:?}: {counts:?}");
        assert_eq!(counts[0], 1, "the first is written at once");
    }
    assert_eq!(sent[1], stats.counter("connections") - 1, "no connection is unaccounted for");
}

/// Beyond the rates it is counted, and nobody has to wait for the end of the second to be recorded.
#[test]
fn what_is_beyond_the_rates_is_counted() {
    let lab = Lab::new();
    let ports = "4001-4040";
    let mut listen =
        Program::start(lab.guard.command(bin("psentry-listen")).args(["--tcp", ports, "--source-rate", "5"]));
    listening(&lab, 4040);
    let to: SocketAddr = format!("{}:0", GUARD[0]).parse().unwrap();
    let script = format!(
        "import socket
for port in range(4001, 4041):
    tcp = socket.socket(); tcp.settimeout(5)
    try: tcp.connect(('{}', port))
    except ConnectionResetError: pass
    tcp.close()",
        to.ip()
    );
    python(&lab, &script, &[]);
    let (_, rest, errors) = listen.terminate();
    let Ok(Record::Stats(stats)) = Record::parse(rest.last().unwrap()) else { panic!("{rest:?}") };
    let (probes, over) = (stats.body.counter("probes"), stats.body.counter("over_source_rate"));
    assert_eq!((stats.body.counter("connections"), probes + over), (40, 40), "{rest:?}");
    assert!(probes >= 5 && over > 0, "{rest:?}");
    let ended = errors.iter().find(|line| line.contains(": ended: ")).unwrap();
    assert!(
        ended.contains(&format!("40 connections, 0 datagrams, {probes} probes, {over} beyond --source-rate")),
        "{ended}"
    );
    assert!(errors[0].ends_with(": ready: 40 decoy ports (TCP 4001-4040) on all addresses"), "{errors:?}");
}
