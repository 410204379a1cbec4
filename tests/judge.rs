//! psentry-judge beside its records: policy and lists that change under it, the state on disk, counters, explain and
//! replay.

use std::fs;
use std::io::Write;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use nix::sys::signal::Signal;
use psentry_records::Record;

use crate::lab::{Program, bin, wait_until};

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
    let said = judge.complaint("the old policy stays");
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
fn a_judge_that_is_killed_goes_on_where_it_was() {
    let folder = tempfile::tempdir().unwrap();
    let state = folder.path().join("state");
    let flags = ["--state", name(&state)];
    let mut judge = Program::start_fed(Command::new(bin("psentry-judge")).args(flags));
    let mut input = judge.stdin();
    writeln!(input, "{}", probe("15:00:00", "192.0.2.7", 23)).unwrap();
    let file = state.join("state.jsonl");
    wait_until("the probe is on the disk", || {
        fs::read_to_string(&file).is_ok_and(|text| text.contains("192.0.2.7"))
    });
    // Another judge is not let near it.
    let other = self::judge(&flags, "");
    assert_eq!(other.status.code(), Some(78));
    assert!(text(&other.stderr).contains("another psentry-judge uses"), "{}", text(&other.stderr));
    judge.signal(Signal::SIGKILL);
    judge.end();
    // Its last line is cut off, as by a power failure.
    let whole = fs::read_to_string(&file).unwrap();
    fs::write(&file, &whole[..whole.len() - 5]).unwrap();
    let output = self::judge(&flags, &probe("15:00:01", "192.0.2.7", 445));
    assert!(
        text(&output.stderr).contains("the last line of the state was cut off"),
        "{}",
        text(&output.stderr)
    );
    assert!(text(&output.stdout).contains(r#""scope":"192.0.2.7/32""#), "{}", text(&output.stdout));
    // And what stands now is known to the next one: nothing is said twice.
    let output = self::judge(&flags, &probe("15:00:02", "192.0.2.7", 446));
    assert_eq!((text(&output.stdout), text(&output.stderr)), (String::new(), String::new()));
}

#[test]
fn what_was_only_observed_is_no_block_that_stands() {
    let folder = tempfile::tempdir().unwrap();
    let touches = |second: u32| -> String {
        [23, 445].iter().map(|port| probe(&format!("15:00:0{second}"), "192.0.2.7", *port) + "\n").collect()
    };
    let observing = judge(&["--state", name(folder.path()), "--observe"], &touches(1));
    assert!(text(&observing.stdout).contains(r#""action":"watch""#), "{}", text(&observing.stdout));
    let blocking = judge(&["--state", name(folder.path())], &touches(2));
    assert!(text(&blocking.stdout).contains(r#""action":"block""#), "{}", text(&blocking.stdout));
}

#[test]
fn a_state_that_cannot_be_used_is_an_error_that_names_it() {
    let file = tempfile::NamedTempFile::new().unwrap();
    let output = judge(&["--state", name(file.path())], "");
    assert_eq!(output.status.code(), Some(74));
    assert!(text(&output.stderr).contains("--state: cannot make the folder"), "{}", text(&output.stderr));
}

#[test]
fn counters_are_told_every_minute_on_a_signal_and_to_prometheus() {
    let folder = tempfile::tempdir().unwrap();
    let metrics = folder.path().join("psentry.prom");
    let flags = ["--stats", "--metrics", name(&metrics)];
    let events: Vec<String> = [("15:00:10", 23), ("15:00:50", 445), ("15:01:00", 446), ("15:02:30", 447)]
        .iter()
        .map(|(at, port)| probe(at, "192.0.2.7", *port))
        .collect();
    let output = judge(&flags, &(events.join("\n") + "\nno record\n"));
    let said = text(&output.stdout);
    let stats: Vec<&str> = said.lines().filter(|line| line.contains(r#""event_type":"stats""#)).collect();
    assert_eq!(stats.len(), 2, "{said}");
    assert!(stats[0].starts_with(r#"{"timestamp":"2026-11-22T15:01:00.000000Z""#), "{said}");
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

/// A month of records, as logrotate leaves them.
fn archive(folder: &Path) -> Vec<String> {
    let (plain, gz, zst) = (folder.join("a"), folder.join("b.gz"), folder.join("c.zst"));
    fs::write(&plain, probe("15:00:00", "192.0.2.7", 23) + "\n").unwrap();
    for (program, file, line) in [
        ("gzip", &gz, probe("15:00:01", "192.0.2.7", 445)),
        ("zstd", &zst, probe("15:00:02", "192.0.2.9", 23)),
    ] {
        let script = format!("printf '%s\\n' '{line}' | {program} -c >> {}", file.display());
        if !Command::new("sh").args(["-ec", &script]).status().unwrap().success() {
            // Without the program the record comes as it is.
            fs::write(file, line + "\n").unwrap();
        }
    }
    [plain, gz, zst].iter().map(|path| name(path).to_owned()).collect()
}

#[test]
fn explain_tells_what_was_held_against_an_address() {
    let folder = tempfile::tempdir().unwrap();
    let mut flags = vec!["explain".to_owned(), "192.0.2.7".to_owned(), "--records".to_owned()];
    flags.extend(archive(folder.path()));
    let output = judge(&flags.iter().map(String::as_str).collect::<Vec<_>>(), "");
    let said = text(&output.stdout);
    assert!(output.status.success(), "{}", text(&output.stderr));
    let lines: Vec<&str> = said.lines().collect();
    assert_eq!(lines.len(), 3, "{said}");
    assert!(
        lines[0].contains(r#""what":"connect 23/tcp, handshake""#) && lines[0].contains(r#""score":4.5"#),
        "{said}"
    );
    assert!(
        lines[1].contains("block 192.0.2.7/32 until 2026-11-22T16:00:01.000000Z by sequential"),
        "{said}"
    );
    assert!(lines[2].contains(r#""undo":"psentry-block unblock 192.0.2.7/32""#), "{said}");
    assert!(lines[2].contains("It is blocked until 2026-11-22T16:00:01.000000Z."), "{said}");
    for (address, answer) in
        [("192.0.2.9", "the evidence is not enough"), ("192.0.2.99", "nothing is held against it")]
    {
        let output = judge(&["explain", address], &probe("15:00:00", "192.0.2.9", 23));
        assert!(text(&output.stdout).contains(answer), "{}", text(&output.stdout));
    }
    let output = judge(&["explain", "192.0.2.9", "--records", "/nonexistent"], "");
    assert_eq!(output.status.code(), Some(74));
    assert!(text(&output.stderr).contains("--records: cannot read /nonexistent"), "{}", text(&output.stderr));
}

#[test]
fn explain_tells_what_a_judge_at_work_remembers() {
    let folder = tempfile::tempdir().unwrap();
    let state = folder.path().join("state");
    let mut judge = Program::start_fed(Command::new(bin("psentry-judge")).args(["--state", name(&state)]));
    let mut input = judge.stdin();
    writeln!(input, "{}", probe("15:00:00", "192.0.2.7", 23)).unwrap();
    writeln!(input, "{}", probe("15:00:01", "192.0.2.7", 445)).unwrap();
    judge.record("verdict", verdict);
    let file = state.join("state.jsonl");
    wait_until("both probes are on the disk", || {
        fs::read_to_string(&file).is_ok_and(|text| text.contains("192.0.2.7"))
    });
    let before = fs::read(&file).unwrap();
    let told = self::judge(&["explain", "192.0.2.7", "--state", name(&state)], "");
    let said = text(&told.stdout);
    assert!(told.status.success() && said.lines().count() == 1, "{said} {}", text(&told.stderr));
    for want in [
        r#"{"remembered":{"#,
        r#""port":445,"#,
        r#""until":"2026-11-22T16:00:01.000000Z""#,
        r#""offences":1,"#,
    ] {
        assert!(said.contains(want), "{said}");
    }
    assert_eq!(fs::read(&file).unwrap(), before, "it only reads");
    // Beside records it comes after their story; of others nothing is remembered.
    let records = folder.path().join("records");
    fs::write(&records, probe("15:00:00", "192.0.2.9", 23) + "\n").unwrap();
    let flags = ["explain", "192.0.2.9", "--state", name(&state), "--records", name(&records)];
    let said = text(&self::judge(&flags, "").stdout);
    assert!(said.lines().count() == 3 && said.ends_with("\n") && said.contains(r#""ports":[],"#), "{said}");
    assert!(judge.terminate().0.success());
    let told = self::judge(&["explain", "192.0.2.7", "--state", "/nonexistent"], "");
    assert_eq!(told.status.code(), Some(74));
    assert!(text(&told.stderr).contains("--state: cannot read /nonexistent"), "{}", text(&told.stderr));
}

#[test]
fn explain_says_of_a_block_that_ended_that_it_ended() {
    let mut events =
        [("15:00:00", 23), ("15:00:01", 445)].map(|(at, port)| probe(at, "192.0.2.7", port)).to_vec();
    events.push(probe("17:00:00", "192.0.2.9", 23));
    let said = text(&judge(&["explain", "192.0.2.7"], &events.join("\n")).stdout);
    assert!(said.contains("It is not blocked: the evidence is not enough."), "{said}");
}

#[test]
fn explain_and_replay_are_tables_on_a_terminal() {
    let folder = tempfile::tempdir().unwrap();
    let files = archive(folder.path()).join(" ");
    for (command, want) in [
        (
            format!("explain 192.0.2.7 --records {files}"),
            "To let it in again: psentry-block unblock 192.0.2.7/32",
        ),
        (format!("replay --records {files}"), "blocked most"),
    ] {
        let script = format!("{} {command}", bin("psentry-judge"));
        let output =
            Command::new("script").args(["-qec", &script, "/dev/null"]).stdin(Stdio::null()).output();
        let said = text(&output.unwrap().stdout);
        assert!(said.contains(want) && !said.contains("{\""), "{said}");
    }
}

#[test]
fn replay_tells_what_another_policy_would_have_done() {
    let folder = tempfile::tempdir().unwrap();
    let (new, old) = (folder.path().join("new.toml"), folder.path().join("old.toml"));
    fs::write(&new, "[test]\ntrigger = 1\n[ignore]\nnetworks = [\"192.0.2.7\"]\n").unwrap();
    fs::write(&old, "").unwrap();
    let mut flags = vec!["replay", "--policy", name(&new), "--against", name(&old), "--records"];
    let files = archive(folder.path());
    flags.extend(files.iter().map(String::as_str));
    let output = judge(&flags, "");
    let said = text(&output.stdout);
    assert!(output.status.success(), "{}", text(&output.stderr));
    let want = [
        r#""scope":"192.0.2.9/32","#,
        r#"{"new":null,"old":{"forever":false,"rule":"sequential","seconds":3600,"times":1},"scope":"192.0.2.7/32"}"#,
        r#""less":1,"more":1"#,
    ];
    let want: Vec<bool> = want.iter().map(|want| said.contains(want)).collect();
    assert!(want[1] && want[2] && said.contains(r#""scope":"192.0.2.9/32""#), "{said}");
}
