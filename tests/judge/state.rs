//! The state on disk: a judge that is killed goes on where it was, and `explain` reads what one at work remembers.

use std::fs;
use std::io::Write;
use std::process::Command;

use nix::sys::signal::Signal;
use psentry_records::Record;

use super::{judge, name, probe, text, verdict};
use crate::lab::{Program, bin, complaints, wait_until, without_stats};

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
    let lines: Vec<String> = text(&output.stdout).lines().map(str::to_owned).collect();
    assert_eq!((without_stats(&lines), complaints(&errors)), (vec![], vec![]));
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

/// It names the line, judges on with the copy and the lines that are right, and says so in its counters.
#[test]
fn beside_a_wrong_setting_it_starts_with_the_last_good_copy() {
    let folder = tempfile::tempdir().unwrap();
    let [policy, ignore, state] = ["policy.toml", "ignore", "state"].map(|name| folder.path().join(name));
    let flags = ["--policy", name(&policy), "--ignore", name(&ignore), "--state", name(&state)];
    let touches = [7, 8, 9].map(|host| probe("15:00:02", &format!("192.0.2.{host}"), 23)).join("\n") + "\n";
    fs::write(&policy, "[test]\ntriger = 1\n").unwrap();
    fs::write(&ignore, "192.0.2.7\n").unwrap();
    let first = judge(&flags, "");
    assert_eq!(first.status.code(), Some(78), "there is no copy: {}", text(&first.stderr));
    fs::write(&policy, "[test]\ntrigger = 1\n").unwrap();
    assert!(judge(&flags, "").status.success());

    fs::write(&policy, "[test]\ntriger = 1\n").unwrap();
    fs::write(&ignore, "office.example.org\n192.0.2.8\n").unwrap();
    let mut wrong = Program::start_fed(Command::new(bin("psentry-judge")).args(flags));
    wrong.complaint("policy.toml, line 2, column 1: unknown field `triger`");
    wrong.complaint("ignore, line 1: 'office.example.org' looks like a host name");
    let counted = |record: &Record| matches!(record, Record::Stats(stats) if stats.body.wrong_settings.contains("ignore, line 1: "));
    wrong.record("counters", counted);
    let mut input = wrong.stdin();
    write!(input, "{touches}").unwrap();
    let Record::Verdict(only) = wrong.record("verdict", verdict) else { panic!() };
    assert_eq!(
        only.body.scope.to_string(),
        "192.0.2.9/32",
        "neither by the copy nor by the right line is it another"
    );
    fs::write(&policy, "").unwrap();
    fs::write(&ignore, "").unwrap();
    wrong.complaint("the policy was read again");
    assert!(wrong.terminate().0.success());
    // A check is of the files alone.
    fs::remove_file(&ignore).unwrap();
    let check = judge(&[&flags[..], &["--check"]].concat(), "");
    assert_eq!(check.status.code(), Some(78), "{}", text(&check.stderr));
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
    let told = super::judge(&["explain", "--json", "192.0.2.7", "--state", name(&state)], "");
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
    let flags = ["explain", "--json", "192.0.2.9", "--state", name(&state), "--records", name(&records)];
    let said = text(&super::judge(&flags, "").stdout);
    assert!(said.lines().count() == 3 && said.ends_with("\n") && said.contains(r#""ports":[],"#), "{said}");
    assert!(judge.terminate().0.success());
    let told = super::judge(&["explain", "192.0.2.7", "--state", "/nonexistent"], "");
    assert_eq!(told.status.code(), Some(74));
    assert!(text(&told.stderr).contains("--state: cannot read /nonexistent"), "{}", text(&told.stderr));
}
