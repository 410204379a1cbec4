//! The stream is a Unix stream: any stage can be stood in for by printf, jq, tee, head or another writer.

use std::fs::{self, OpenOptions};
use std::io::Write;
use std::process::{Command, Stdio};
use std::thread;

use nix::sys::stat::Mode;
use psentry_records::{Record, Timestamp};

use crate::lab::{Program, bin, complaints};

/// Runs a shell pipeline in which `$judge`, `$block` and `$show` are psentry's programs.
fn sh(script: &str) -> (String, String) {
    let output = Command::new("bash")
        .args(["-o", "pipefail", "-ec", script])
        .env("judge", bin("psentry-judge"))
        .env("block", bin("psentry-block"))
        .env("show", bin("psentry-show"))
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let error = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.success(), "{script}: {}: {error}", output.status);
    (String::from_utf8(output.stdout).unwrap(), error)
}

/// A probe of now, with a handshake.
pub fn probe(src: &str, port: u16) -> String {
    format!(
        r#"{{"timestamp":"{}","event_type":"probe","src_ip":"{src}","dest_port":{port},"proto":"TCP","probe":{{"kind":"connect","handshake":true}}}}"#,
        Timestamp::now()
    )
}

#[test]
fn a_probe_written_by_hand_is_judged() {
    let (verdicts, _) = sh(r#"
        now=$(date -u +%FT%TZ)
        for port in 23 445; do
            printf '{"timestamp":"%s","event_type":"probe","src_ip":"192.0.2.7","dest_port":%d,"probe":{}}\n' $now $port
        done | $judge"#);
    let Ok(Record::Verdict(verdict)) = Record::parse(&verdicts) else { panic!("{verdicts}") };
    assert_eq!(verdict.body.scope.to_string(), "192.0.2.7/32");
    assert_eq!(verdict.body.handshake, Some(false), "a probe that claims no handshake proves nothing");
}

#[test]
fn jq_stands_between_two_stages() {
    let events =
        [probe("192.0.2.7", 23), probe("192.0.2.7", 445), probe("192.0.2.9", 23), probe("192.0.2.9", 445)];
    let (outcomes, _) = sh(&format!(
        "printf '%s\\n' {} | $judge --duration 2h | jq --unbuffered -c 'select(.src_ip != \"192.0.2.9\")' |
         $block --backend dry-run | jq -r '.outcome | [.result, .scope] | @tsv'",
        events.map(|event| format!("'{event}'")).join(" ")
    ));
    assert_eq!(outcomes, "applied\t192.0.2.7/32\n");
}

#[test]
fn two_writers_share_one_fifo() {
    let folder = tempfile::tempdir().unwrap();
    let fifo = folder.path().join("events");
    nix::unistd::mkfifo(&fifo, Mode::from_bits_truncate(0o600)).unwrap();
    // Read and write, as systemd holds it: no writer's end is the end of the stream.
    let held = OpenOptions::new().read(true).write(true).open(&fifo).unwrap();
    let mut judge = Program::start_piped(
        Command::new(bin("psentry-judge"))
            .args(["--trigger", "100"])
            .stdin(Stdio::from(held.try_clone().unwrap())),
    );
    let verdicts = judge.stdout();
    let writers: Vec<_> = ["192.0.2.1", "192.0.2.2"]
        .into_iter()
        .map(|src| {
            let fifo = fifo.clone();
            thread::spawn(move || {
                let mut fifo = OpenOptions::new().write(true).open(fifo).unwrap();
                for port in 1..=100 {
                    // As long as a line may be, so that a mixed line would be likely.
                    let line = format!("{}\n", probe(src, port));
                    let line =
                        line.replace(r#""probe":{"#, &format!(r#""x":"{}","probe":{{"#, "y".repeat(3800)));
                    fifo.write_all(line.as_bytes()).unwrap();
                }
            })
        })
        .collect();
    for writer in writers {
        writer.join().unwrap();
    }
    let (status, _, errors) = judge.terminate();
    assert!(status.success(), "{errors:?}");
    assert_eq!(complaints(&errors), [""; 0], "no line was broken");
    let verdicts = std::io::read_to_string(verdicts).unwrap();
    let scopes: Vec<&str> =
        ["192.0.2.1/32", "192.0.2.2/32"].into_iter().filter(|s| verdicts.contains(s)).collect();
    assert_eq!(scopes.len(), 2, "{verdicts}");
    drop(held);
}

#[test]
fn a_stream_cut_in_mid_line_loses_that_line_only() {
    let events = [probe("192.0.2.7", 23), probe("192.0.2.7", 445), probe("192.0.2.9", 23)];
    let whole: usize = events[..2].iter().map(|event| event.len() + 1).sum();
    let (verdicts, errors) = sh(&format!(
        "printf '%s\\n' {} | head -c {} | $judge",
        events.each_ref().map(|event| format!("'{event}'")).join(" "),
        whole + 40
    ));
    assert_eq!(verdicts.lines().count(), 1, "{verdicts}");
    assert!(errors.contains("line 3 of the input skipped"), "{errors}");
}

#[test]
fn show_passes_records_on_unchanged_and_says_them() {
    let event = probe("192.0.2.7", 23).replace(r#""probe":{"#, r#""later":[1,{"a":null}],"probe":{"#);
    let (on, said) = sh(&format!("printf '%s\\n' '{event}' | $show --tee --utc"));
    assert_eq!(on, format!("{event}\n"));
    assert!(said.contains("192.0.2.7 touched 23/tcp"), "{said}");
    assert!(!said.contains('\u{1b}'), "colours are for terminals: {said:?}");
}

/// In the order in which they were written, whatever their names are; `| head` is no error.
#[test]
fn show_reads_files_plain_and_packed_from_the_oldest_on() {
    let folder = tempfile::tempdir().unwrap();
    let place = folder.path().display();
    let (first, second) = (probe("192.0.2.7", 23), probe("192.0.2.8", 445));
    let files = format!(
        "printf '%s\\n' '{second}' > {place}/a; printf '%s\\nnothing\\n' '{first}' | gzip > {place}/b.gz"
    );
    let (lines, errors) = sh(&format!("{files}; $show {place}/a {place}/b.gz --utc"));
    let of = |port: &str| lines.lines().position(|line| line.contains(port)).unwrap();
    assert!(of(" touched 23/tcp") < of(" touched 445/tcp"), "{lines}");
    assert!(errors.contains("line 2 of the input skipped"), "{errors}");
    let (codes, _) =
        sh(&format!("set +e; $show {place}/a {place}/b.gz | true; echo ${{PIPESTATUS[0]}}; exit 0"));
    assert_eq!(codes, "0\n");
}

#[test]
fn a_stage_whose_reader_is_gone_says_so_and_exits_74() {
    let events: String =
        (0..2000).map(|n| probe(&format!("192.0.{}.{}", n / 250, n % 250), 23) + "\n").collect();
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("events");
    fs::write(&file, events).unwrap();
    let (codes, errors) = sh(&format!(
        "set +e; $judge --trigger 1 < {} | true; echo ${{PIPESTATUS[0]}}; exit 0",
        file.display()
    ));
    assert_eq!(codes, "74\n", "{errors}");
    assert!(errors.contains("is its reader gone?"), "{errors}");
}

#[test]
fn what_is_passed_on_makes_one_log_that_judges_the_same_again() {
    let events =
        [probe("192.0.2.7", 23), probe("192.0.2.7", 445)].map(|event| format!("'{event}'")).join(" ");
    let (log, _) =
        sh(&format!("printf '%s\\n' {events} | $judge --pass | $block --pass --backend dry-run 2>/dev/null"));
    let kinds: Vec<&str> = log
        .lines()
        .map(|line| match Record::parse(line) {
            Ok(Record::Probe(_)) => "probe",
            Ok(Record::Verdict(_)) => "verdict",
            Ok(Record::Outcome(_)) => "outcome",
            other => panic!("{line}: {other:?}"),
        })
        .collect();
    assert_eq!(kinds, ["probe", "probe", "verdict", "outcome"]);
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("log");
    fs::write(&file, &log).unwrap();
    let (again, _) = sh(&format!("$judge < {}", file.display()));
    assert_eq!(again.trim_end(), log.lines().nth(2).unwrap());
}
