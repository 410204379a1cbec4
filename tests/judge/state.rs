//! The state on disk: a judge that is killed goes on where it was, and `explain` reads what one at work remembers.

use std::fs;
use std::io::Write;
use std::process::Command;

use nix::sys::signal::Signal;

use super::{judge, name, probe, text, verdict};
use crate::lab::{Program, bin, complaints, wait_until};

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
    let other = super::judge(&flags, "");
    assert_eq!(other.status.code(), Some(78));
    assert!(text(&other.stderr).contains("another psentry-judge uses"), "{}", text(&other.stderr));
    judge.signal(Signal::SIGKILL);
    judge.end();
    // Its last line is cut off, as by a power failure.
    let whole = fs::read_to_string(&file).unwrap();
    fs::write(&file, &whole[..whole.len() - 5]).unwrap();
    let output = super::judge(&flags, &probe("15:00:01", "192.0.2.7", 445));
    assert!(
        text(&output.stderr).contains("the last line of the state was cut off"),
        "{}",
        text(&output.stderr)
    );
    assert!(text(&output.stdout).contains(r#""scope":"192.0.2.7/32""#), "{}", text(&output.stdout));
    // And what stands now is known to the next one: nothing is said twice.
    let output = super::judge(&flags, &probe("15:00:02", "192.0.2.7", 446));
    let errors: Vec<String> = text(&output.stderr).lines().map(str::to_owned).collect();
    assert_eq!((text(&output.stdout), complaints(&errors)), (String::new(), vec![]));
    assert!(
        errors[0].contains("psentry-judge: ready: 0 rules in the policy, 1 source remembered in "),
        "{errors:?}"
    );
    assert!(
        errors[1].ends_with("ended: 1 record, 1 probe, 0 blocks, 0 watches, 0 unblocks"),
        "of this run alone: {errors:?}"
    );
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
    let told = super::judge(&["explain", "192.0.2.7", "--state", name(&state)], "");
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
    let said = text(&super::judge(&flags, "").stdout);
    assert!(said.lines().count() == 3 && said.ends_with("\n") && said.contains(r#""ports":[],"#), "{said}");
    assert!(judge.terminate().0.success());
    let told = super::judge(&["explain", "192.0.2.7", "--state", "/nonexistent"], "");
    assert_eq!(told.status.code(), Some(74));
    assert!(text(&told.stderr).contains("--state: cannot read /nonexistent"), "{}", text(&told.stderr));
}
