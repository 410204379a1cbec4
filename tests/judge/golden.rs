//! Golden cases: `cases/NAME.events` through psentry-judge gives `cases/NAME.verdicts`, byte for byte, with the flags
//! of `cases/NAME.flags` if there is one, and `cases/NAME.complaints` on standard error. A name that begins with `quiet-` is a story of innocents: no verdict at all.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::lab::{bin, complaints};

/// A story and what is to come of it.
struct Case {
    events: PathBuf,
    flags: String,
    verdicts: String,
    complaints: String,
}

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/cases")
}

fn cases() -> Vec<Case> {
    let entries = fs::read_dir(folder()).unwrap().map(|entry| entry.unwrap().path());
    let cases: Vec<Case> = entries
        .filter(|path| path.extension().is_some_and(|extension| extension == "events"))
        .map(|events| Case {
            flags: fs::read_to_string(events.with_extension("flags")).unwrap_or_default(),
            verdicts: fs::read_to_string(events.with_extension("verdicts")).unwrap_or_default(),
            complaints: fs::read_to_string(events.with_extension("complaints")).unwrap_or_default(),
            events,
        })
        .collect();
    assert!(cases.len() >= 35, "only {} cases", cases.len());
    cases
}

/// What was written but for the counters, which bear the machine's name.
fn decisions(output: &[u8]) -> String {
    let lines = std::str::from_utf8(output).unwrap().split_inclusive('\n');
    lines.filter(|line| !line.contains(r#""event_type":"stats""#)).collect()
}

impl Case {
    /// Judges it, in pieces of at most so many bytes; no piece holds the end of one record and the start of the next.
    fn judge(&self, piece: usize) {
        let name = self.events.display();
        let mut judge = Command::new(bin("psentry-judge"))
            .args(self.flags.split_whitespace())
            .current_dir(folder())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut input = judge.stdin.take().unwrap();
        for record in fs::read(&self.events).unwrap().split_inclusive(|&byte| byte == b'\n') {
            record.chunks(piece).for_each(|piece| input.write_all(piece).unwrap());
        }
        drop(input);
        let output = judge.wait_with_output().unwrap();
        let error = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success() && complained(&error) == self.complaints, "{name}, {piece}: {error}");
        let verdicts = decisions(&output.stdout);
        assert_eq!(verdicts, self.verdicts, "{name}, in pieces of {piece} bytes");
    }
}

/// What it complains of: not that it is ready, nor what it did.
fn complained(error: &str) -> String {
    let lines: Vec<String> = error.lines().map(str::to_owned).collect();
    complaints(&lines).iter().map(|line| format!("{line}\n")).collect()
}

#[test]
fn only_a_quiet_case_has_no_verdicts() {
    for case in cases() {
        let quiet = case.events.file_name().unwrap().to_str().unwrap().starts_with("quiet-");
        assert_eq!(quiet, case.verdicts.is_empty(), "{}", case.events.display());
    }
}

/// With the file itself as standard input, all at once.
#[test]
fn every_case_gives_its_verdicts() {
    for case in cases() {
        let output = Command::new(bin("psentry-judge"))
            .args(case.flags.split_whitespace())
            .current_dir(folder())
            .stdin(fs::File::open(&case.events).unwrap())
            .output()
            .unwrap();
        let error = String::from_utf8_lossy(&output.stderr);
        assert!(
            output.status.success() && complained(&error) == case.complaints,
            "{}: {error}",
            case.events.display()
        );
        assert_eq!(decisions(&output.stdout), case.verdicts, "{}", case.events.display());
    }
}

/// The same records give the same verdicts however they come: through a pipe, record by record or cut anywhere.
#[test]
fn a_replay_in_pieces_gives_the_same_verdicts() {
    for case in cases() {
        [7, 64, usize::MAX].into_iter().for_each(|piece| case.judge(piece));
    }
}

/// Nor does it matter whether one judge reads them or many, one after another, that keep a state.
#[test]
fn a_replay_over_restarts_gives_the_same_verdicts() {
    for case in cases() {
        let state = tempfile::tempdir().unwrap();
        let events = fs::read_to_string(&case.events).unwrap();
        let lines: Vec<&str> = events.split_inclusive('\n').collect();
        let mut verdicts = String::new();
        for piece in lines.chunks(lines.len().div_ceil(4)) {
            let mut judge = Command::new(bin("psentry-judge"))
                .args(case.flags.split_whitespace())
                .arg("--state")
                .arg(state.path())
                .current_dir(folder())
                .stdin(Stdio::piped())
                .stdout(Stdio::piped())
                .spawn()
                .unwrap();
            judge.stdin.take().unwrap().write_all(piece.concat().as_bytes()).unwrap();
            let output = judge.wait_with_output().unwrap();
            assert!(output.status.success(), "{}", case.events.display());
            verdicts.push_str(&decisions(&output.stdout));
        }
        assert_eq!(verdicts, case.verdicts, "{}", case.events.display());
    }
}
