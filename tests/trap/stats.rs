//! The trap's `stats` records: one flat record for both processes, whose counters add up, with what the machine is.

use std::process::Stdio;
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use psentry_records::{Record, Stats};

use super::life::worker;
use super::{counter, probe, probes, stands, stats, trap};
use crate::lab::{GUARD, Lab, Program, bin, wait_until};

/// Asks for a record, and waits for it.
fn asked(trap: &mut Program) -> Stats {
    trap.signal(Signal::SIGUSR1);
    match trap.record("stats", |record| matches!(record, Record::Stats(_))) {
        Record::Stats(stats) => stats,
        _ => panic!(),
    }
}

fn networks(stats: &Stats) -> [Vec<String>; 2] {
    let machine = stats.body.machine.as_ref().unwrap();
    [&machine.own_networks, &machine.inside_networks]
        .map(|list| list.iter().map(ToString::to_string).collect())
}

#[test]
fn an_orderly_end_writes_one_flat_record_that_adds_up() {
    let lab = Lab::new();
    for signal in [Signal::SIGTERM, Signal::SIGINT] {
        let mut trap = trap(&lab, &["--host", "guard"]);
        // One port again and again, and others.
        for port in [9, 9, 9, 10, 11] {
            lab.scanner.run(&[
                "nmap",
                "-n",
                "-Pn",
                "-sS",
                "--max-retries",
                "0",
                "-p",
                &port.to_string(),
                GUARD[0],
            ]);
        }
        // As a terminal and systemd do, to both.
        let _ = kill(Pid::from_raw(worker(&trap)), signal);
        trap.signal(signal);
        let (status, lines, errors) = trap.end();
        assert!(status.success(), "{errors:?}");
        let line = lines.last().unwrap();
        let (head, body) = line.split_once(r#","stats":{"#).unwrap();
        assert!(head.contains(r#""event_type":"stats","host":"guard""#), "{line}");
        assert!(body.starts_with(r#""stage":"trap","seen":"#) && !body.contains('{'), "{line}");
        assert!(body.ends_with(r#""client_ports":[32768,60999]}}"#), "{line}");
        assert_eq!(stats(&lines).len(), 1, "{lines:#?}");

        let of = |name| counter(&lines, name);
        assert!(of("seen") >= 5 && of("quarantined") == 3, "{line}");
        assert_eq!(of("refused"), of("seen"), "{line}");
        assert_eq!(of("seen"), of("logged") + of("over_source_rate") + of("over_rate"), "{line}");
        assert_eq!(of("logged"), of("received") + of("kernel_drops"), "{line}");
        let settled = of("probes") + of("duplicates") + of("decoy_packets") + of("veil_packets");
        assert_eq!(of("received"), settled + of("unreadable") + of("pending"), "{line}");
        assert_eq!(of("probes"), probes(&lines).len() as u64, "{line}");
    }
}

#[test]
fn a_record_is_written_when_asked_for_and_says_what_the_machine_is() {
    let lab = Lab::new();
    let mut trap = trap(&lab, &[]);
    let own = ["192.0.2.0/24", "203.0.113.0/24", "2001:db8:1::/64", "fe80::/64"];
    let first = asked(&mut trap);
    assert!(first.common.host.is_some());
    // Nothing says on which side the rest of the world is.
    assert_eq!(networks(&first), [own.map(str::to_owned).to_vec(), vec![]]);
    assert_eq!(first.body.machine.unwrap().client_ports, (32768, 60999));

    lab.scanner.is_shut_out(GUARD[0], 9);
    probe(&mut trap, "a probe", |_| true);
    lab.guard.sh("ip route add default via 203.0.113.7
         ip link add docker0 type bridge
         ip address add 172.17.0.1/16 dev docker0
         ip link set docker0 up
         echo 20000 29999 > /proc/sys/net/ipv4/ip_local_port_range");
    // `systemctl kill --signal=USR1` asks both processes; the worker leaves that to its parent.
    kill(Pid::from_raw(worker(&trap)), Signal::SIGUSR1).unwrap();
    let second = asked(&mut trap);
    let [own, inside] = networks(&second);
    assert_eq!(own, ["172.17.0.0/16", "192.0.2.0/24", "203.0.113.0/24", "2001:db8:1::/64", "fe80::/64"]);
    assert_eq!(inside, ["172.17.0.0/16", "192.0.2.0/24", "2001:db8:8::/48"]);
    assert_eq!(second.body.machine.as_ref().unwrap().client_ports, (20000, 29999));
    assert!(second.body.counter("seen") > 0 && second.body.counter("probes") > 0, "{second:?}");

    let (status, lines, errors) = trap.terminate();
    assert!(status.success(), "{errors:?}");
    // Those that were asked for have been read from the output already.
    assert_eq!(stats(&lines).len(), 1, "{lines:#?}");
}

/// A reader that has stalled is waited for, whoever asks for a record meanwhile.
#[test]
fn being_asked_while_the_reader_stalls_ends_nothing() {
    let lab = Lab::new();
    let mut command = lab.guard.command(bin("psentry-trap"));
    let mut trap = Program::start_piped(command.args(["--source-rate", "10000"]).stdin(Stdio::null()));
    wait_until("the rules are loaded", || stands(&lab));
    let worker = Pid::from_raw(worker(&trap));
    lab.scanner.run(&["nmap", "-n", "-Pn", "-sS", "-T5", "--max-retries", "0", "-p1-1000", GUARD[0]]);
    // More than a pipe holds: 260 probes.
    kill(worker, Signal::SIGUSR1).unwrap();
    trap.signal(Signal::SIGUSR1);
    // Whoever is asked to end waits two seconds for its reader.
    std::thread::sleep(Duration::from_secs(3));
    assert!(kill(worker, None).is_ok(), "the worker has ended");
    trap.read_output();
    trap.record("stats", |record| matches!(record, Record::Stats(_)));
    assert!(trap.terminate().0.success());
}
