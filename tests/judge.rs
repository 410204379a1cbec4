//! psentry-judge beside its records: policy and lists that change under it, the state on disk, counters, explain and
//! replay.

mod golden;
mod replay;
mod state;

use std::fs;
use std::io::Write;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use nix::sys::signal::Signal;
use psentry_records::Record;

use crate::lab::{Program, bin};
use crate::surface::has_its_counters;

fn probe(at: &str, src: &str, port: u16) -> String {
    format!(
        r#"{{"timestamp":"2026-11-22T{at}.000000Z","event_type":"probe","src_ip":"{src}","dest_port":{port},"proto":"TCP","probe":{{"kind":"connect","handshake":true}}}}"#
    )
}

fn judge(flags: &[&str], input: &str) -> Output {
    let mut judge = Command::new(bin("psentry-judge"))
        .args(flags)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    judge.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    judge.wait_with_output().unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

fn name(path: &Path) -> &str {
    path.to_str().unwrap()
}

fn verdict(record: &Record) -> bool {
    matches!(record, Record::Verdict(_))
}

#[test]
fn a_policy_that_changes_is_read_again_and_nothing_is_forgotten() {
    let folder = tempfile::tempdir().unwrap();
    let policy = folder.path().join("policy.toml");
    fs::write(&policy, "[test]\ntrigger = 5\n").unwrap();
    let mut judge = Program::start_fed(Command::new(bin("psentry-judge")).args(["--policy", name(&policy)]));
    let mut input = judge.stdin();
    for port in 1..=3 {
        writeln!(input, "{}", probe("15:00:00", "192.0.2.7", port)).unwrap();
    }
    for port in 1..=5 {
        writeln!(input, "{}", probe("15:00:00", "192.0.2.9", port)).unwrap();
    }
    judge.record("verdict by the first policy", verdict);
    // It notices by itself; what it counted before counts on.
    fs::write(&policy, "[test]\ntrigger = 4 # as many as that\n").unwrap();
    judge.complaint("the policy was read again");
    writeln!(input, "{}", probe("15:00:01", "192.0.2.7", 4)).unwrap();
    judge.record("verdict by the new policy", verdict);
    // A bad one is refused with its place, and the old one stays.
    fs::write(&policy, "[test]\ntriger = 1\n").unwrap();
    let said = judge.complaint("what was last right counts");
    assert!(said.contains("policy.toml, line 2, column 1: unknown field `triger`"), "{said}");
    for port in 1..=4 {
        writeln!(input, "{}", probe("15:00:02", "192.0.2.8", port)).unwrap();
    }
    let Record::Verdict(second) = judge.record("verdict by the old policy", verdict) else { panic!() };
    assert_eq!(second.body.ports.len(), 4);
    let (status, ..) = judge.terminate();
    assert!(status.success());
}

#[test]
fn the_table_of_ports_is_followed_and_a_wrong_one_is_named() {
    // An /etc of its own; the test reaches it through /proc.
    let script = format!(
        "mount -t tmpfs none /etc; mkdir /etc/psentry; echo 'family mine tcp/8006 tcp/3128' >/etc/psentry/ports; exec {}",
        bin("psentry-judge")
    );
    let mut judge = Program::start_fed(Command::new("unshare").args(["--mount", "sh", "-ec", &script]));
    let mut input = judge.stdin();
    let mut touch = |src: &str, ports: &[u16]| {
        ports.iter().for_each(|port| writeln!(input, "{}", probe("15:00:00", src, *port)).unwrap());
    };
    let scope = |record| {
        if let Record::Verdict(verdict) = record { verdict.body.scope.to_string() } else { panic!() }
    };
    touch("192.0.2.7", &[8006, 3128]);
    touch("192.0.2.8", &[8006, 445]);
    assert_eq!(scope(judge.record("verdict by that table", verdict)), "192.0.2.8/32");
    let ports = format!("/proc/{}/root/etc/psentry/ports", judge.pid());
    fs::write(&ports, "family mine tcp/8006 tcp/445\n").unwrap();
    judge.complaint("the policy was read again");
    touch("192.0.2.9", &[8006, 445]);
    touch("192.0.2.10", &[8006, 3128]);
    assert_eq!(scope(judge.record("verdict by the new table", verdict)), "192.0.2.10/32");
    fs::write(&ports, "\nfamily mine\n").unwrap();
    let said = judge.complaint("what was last right counts");
    assert!(said.contains("/etc/psentry/ports, line 2: the ports are missing"), "{said}");
    touch("192.0.2.11", &[8006, 445]);
    touch("192.0.2.12", &[8006, 3128]);
    assert_eq!(scope(judge.record("verdict by the table before", verdict)), "192.0.2.12/32");
    assert!(judge.terminate().0.success());
}

#[test]
fn sighup_reads_the_list_of_the_ignored_again() {
    let folder = tempfile::tempdir().unwrap();
    let ignore = folder.path().join("ignore");
    fs::write(&ignore, "192.0.2.7\n").unwrap();
    let flags = ["--ignore", name(&ignore), "--trigger", "1"];
    let mut judge = Program::start_fed(Command::new(bin("psentry-judge")).args(flags));
    let mut input = judge.stdin();
    writeln!(input, "{}", probe("15:00:00", "192.0.2.7", 1)).unwrap();
    writeln!(input, "{}", probe("15:00:00", "192.0.2.8", 1)).unwrap();
    let first = judge.record("verdict", verdict);
    judge.signal(Signal::SIGHUP);
    judge.complaint("the policy was read again");
    fs::write(&ignore, "192.0.2.8\n").unwrap();
    judge.signal(Signal::SIGHUP);
    judge.complaint("the policy was read again");
    writeln!(input, "{}", probe("15:00:01", "192.0.2.7", 1)).unwrap();
    let second = judge.record("verdict", verdict);
    let scope =
        |record: Record| if let Record::Verdict(verdict) = record { verdict.body.scope } else { panic!() };
    assert_eq!(
        [scope(first), scope(second)].map(|scope| scope.to_string()),
        ["192.0.2.8/32", "192.0.2.7/32"]
    );
    assert!(judge.terminate().0.success());
}

#[test]
fn counters_are_told_every_minute_on_a_signal_and_to_prometheus() {
    let folder = tempfile::tempdir().unwrap();
    let metrics = folder.path().join("psentry.prom");
    let flags = ["--host", "gate", "--metrics", name(&metrics)];
    let events: Vec<String> = [("15:00:10", 23), ("15:00:50", 445), ("15:01:00", 446), ("15:02:30", 447)]
        .iter()
        .map(|(at, port)| probe(at, "192.0.2.7", *port))
        .collect();
    let output = judge(&flags, &(events.join("\n") + "\nno record\n"));
    let said = text(&output.stdout);
    let stats: Vec<&str> = said.lines().filter(|line| line.contains(r#""event_type":"stats""#)).collect();
    assert_eq!(stats.len(), 2, "{said}");
    let begins = r#"{"timestamp":"2026-11-22T15:01:00.000000Z","event_type":"stats","host":"gate","stats":{"stage":"judge","records":"#;
    assert!(stats[0].starts_with(begins), "{said}");
    let Ok(Record::Stats(first)) = Record::parse(stats[0]) else { panic!("{said}") };
    has_its_counters(&first);
    assert!(stats[1].contains(r#""stage":"judge""#) && stats[1].contains(r#""probes":4"#), "{said}");
    let text = fs::read_to_string(&metrics).unwrap();
    assert!(text.contains("psentry_judge_blocks_total 1\n"), "{text}");
    assert!(text.contains("psentry_judge_skipped_total 1\n"), "{text}");

    let mut judge = Program::start_fed(&mut Command::new(bin("psentry-judge")));
    let mut input = judge.stdin();
    writeln!(input, "{}", events[0]).unwrap();
    writeln!(input, "{}", events[1]).unwrap();
    judge.record("verdict", verdict);
    judge.signal(Signal::SIGUSR1);
    let stats = judge.line("counters", |line| line.contains(r#""event_type":"stats""#));
    assert!(stats.contains(r#""records":2"#) && stats.contains(r#""sources":1"#), "{stats}");
    assert!(judge.terminate().0.success());
}

#[test]
fn nothing_is_passed_on_that_decides_unless_this_judge_did() {
    // A /16 for ever, past policy, brake and --observe.
    let verdict = r#"{"timestamp":"2026-11-22T15:00:00Z","event_type":"verdict","verdict":{"action":"block","scope":"198.51.0.0/16"}}"#;
    let escaped = verdict.replace("verdict\",\"verdict", r#"\u0076erdict","verdict"#);
    let outcome = r#"{"timestamp":"2026-11-22T15:00:00Z","event_type":"outcome","outcome":{"action":"block","scope":"198.51.0.0/16","result":"applied"}}"#;
    let vouch =
        r#"{"timestamp":"2026-11-22T15:00:00Z","event_type":"vouch","src_ip":"192.0.2.9","vouch":{}}"#;
    let twice =
        verdict.replacen(r#""event_type":"verdict""#, r#""event_type":"probe","event_type":"verdict""#, 1);
    let other = r#"{"timestamp":"2026-11-22T15:00:00Z","event_type":"alert"}"#;
    let kept = [probe("15:00:01", "192.0.2.7", 23), vouch.to_owned(), other.to_owned()].join("\n") + "\n";
    let input =
        format!("{verdict}\n{escaped}\n{kept}{outcome}\n{twice}\n{}\n", probe("15:01:00", "192.0.2.8", 23));
    for flags in [&["--pass"][..], &["--pass", "--observe"]] {
        let output = judge(flags, &input);
        let said = text(&output.stdout);
        let passed: Vec<&str> =
            said.lines().filter(|line| !line.contains(r#""event_type":"stats""#)).collect();
        assert_eq!(passed[..3].join("\n") + "\n", kept);
        assert_eq!(passed[3..], [probe("15:01:00", "192.0.2.8", 23)], "{said}");
        assert!(said.contains(r#""rejected":3"#), "{said}");
        let complaints = text(&output.stderr);
        assert!(
            complaints.contains("line 1: a verdict is not passed on: this judge did not write it"),
            "{complaints}"
        );
    }
    // Without --pass nothing is passed on, and nothing to tell of.
    let output = judge(&[], &input);
    assert!(!text(&output.stdout).contains("198.51") && !text(&output.stderr).contains("passed on"));
}
