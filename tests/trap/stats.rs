//! The trap's `stats` records: one flat record for both processes, whose counters add up.

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use psentry_records::{Record, Stats};

use super::life::worker;
use super::{counter, probe, probes, stats, trap};
use crate::lab::{GUARD, Lab, Program};

/// Asks for a record, and waits for it.
fn asked(trap: &mut Program) -> Stats {
    trap.signal(Signal::SIGUSR1);
    match trap.record("stats", |record| matches!(record, Record::Stats(_))) {
        Record::Stats(stats) => stats,
        _ => panic!(),
    }
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
        assert_eq!(stats(&lines).len(), 1, "{lines:#?}");

        let of = |name| counter(&lines, name);
        assert!(of("seen") >= 5 && of("quarantined") == 1, "{line}");
        assert_eq!(of("refused"), of("seen"), "{line}");
        assert_eq!(of("seen"), of("logged") + of("over_source_rate") + of("over_rate"), "{line}");
        assert_eq!(of("logged"), of("received") + of("kernel_drops"), "{line}");
        assert_eq!(of("received"), of("probes") + of("duplicates") + of("decoy_packets") + of("unreadable"));
        assert_eq!(of("probes"), probes(&lines).len() as u64, "{line}");
    }
}

#[test]
fn a_record_is_written_when_asked_for() {
    let lab = Lab::new();
    let mut trap = trap(&lab, &[]);
    assert!(asked(&mut trap).common.host.is_some());
    lab.scanner.is_shut_out(GUARD[0], 9);
    probe(&mut trap, "a probe", |_| true);
    // `systemctl kill --signal=USR1` asks both processes; the worker leaves that to its parent.
    kill(Pid::from_raw(worker(&trap)), Signal::SIGUSR1).unwrap();
    let second = asked(&mut trap);
    assert!(second.body.counter("seen") > 0 && second.body.counter("probes") > 0, "{second:?}");

    let (status, lines, errors) = trap.terminate();
    assert!(status.success(), "{errors:?}");
    // Those that were asked for have been read from the output already.
    assert_eq!(stats(&lines).len(), 1, "{lines:#?}");
}
