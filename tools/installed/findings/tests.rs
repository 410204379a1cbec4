//! Golden cases: `tests/cases/status/NAME.json` has what is gathered, and `NAME.txt` the status that follows of it.

use std::fs;
use std::path::Path;

use psentry_local_time::Zone;

use super::*;
use crate::Status;

/// Each case is what was gathered at 2026-11-22T15:04:05Z, and what is printed of it.
#[test]
fn golden_cases() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/cases/status");
    let mut cases: Vec<_> = fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    cases.retain(|path| path.extension().is_some_and(|end| end == "json"));
    cases.sort();
    assert!(cases.len() >= 10, "{cases:?}");
    let clock = Clock { now: "2026-11-22T15:04:05Z".parse().unwrap(), zone: Zone::new(true) };
    for case in cases {
        let gathered: Gathered = serde_json::from_str(&fs::read_to_string(&case).unwrap())
            .unwrap_or_else(|why| panic!("{}: {why}", case.display()));
        let is = Status(findings(&gathered, &clock)).text();
        let golden = case.with_extension("txt");
        if std::env::var("PSENTRY_GOLDEN").is_ok_and(|what| what == "write") {
            fs::write(&golden, &is).unwrap();
        }
        assert_eq!(is, fs::read_to_string(&golden).unwrap_or_default(), "{}", case.display());
        assert_eq!(is.lines().count(), if gathered.installed { 10 } else { 2 });
    }
}
