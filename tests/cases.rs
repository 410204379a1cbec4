//! Golden cases: `cases/NAME.events` through psentry-judge gives `cases/NAME.verdicts`, byte for byte, with the flags
//! of `cases/NAME.flags` if there is one. A name that begins with `quiet-` is a story of innocents: no verdict at all.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::lab::bin;

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/cases")
}

fn judge(events: &Path, flags: &str) -> String {
    let output = Command::new(bin("psentry-judge"))
        .args(flags.split_whitespace())
        .current_dir(folder())
        .stdin(fs::File::open(events).unwrap())
        .stderr(Stdio::piped())
        .output()
        .unwrap();
    assert!(output.status.success(), "{}: {}", events.display(), String::from_utf8_lossy(&output.stderr));
    assert_eq!(String::from_utf8_lossy(&output.stderr), "", "{}", events.display());
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn every_case_gives_its_verdicts() {
    let mut cases = 0;
    for entry in fs::read_dir(folder()).unwrap() {
        let events = entry.unwrap().path();
        if events.extension().is_none_or(|extension| extension != "events") {
            continue;
        }
        let flags = fs::read_to_string(events.with_extension("flags")).unwrap_or_default();
        let want = fs::read_to_string(events.with_extension("verdicts")).unwrap_or_default();
        let quiet = events.file_name().unwrap().to_str().unwrap().starts_with("quiet-");
        assert_eq!(quiet, want.is_empty(), "{}: only a quiet case has no verdicts", events.display());
        assert_eq!(judge(&events, &flags), want, "{}", events.display());
        cases += 1;
    }
    assert!(cases >= 8, "only {cases} cases");
}

/// The same records give the same verdicts, whether they come at once or one by one over two runs of a month.
#[test]
fn a_replay_gives_the_same_verdicts() {
    let events = folder().join("nmap-connect-scan.events");
    assert_eq!(judge(&events, ""), judge(&events, ""));
}
