//! Golden cases: `tests/cases/status/NAME.json` has what is gathered, and `NAME.txt` the status that follows of it.

use std::fs;
use std::path::Path;

use jiff::tz::TimeZone;

use super::*;
use crate::rows::Clock;

/// Each case is what was gathered at 2026-11-22T15:04:05Z, and what is printed of it.
#[test]
fn golden_cases() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/cases/status");
    let mut cases: Vec<_> = fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    cases.retain(|path| path.extension().is_some_and(|end| end == "json"));
    cases.sort();
    assert!(cases.len() >= 10, "{cases:?}");
    let clock = Clock { now: "2026-11-22T15:04:05Z".parse().unwrap(), zone: TimeZone::UTC };
    for case in cases {
        let gathered: Gathered = serde_json::from_str(&fs::read_to_string(&case).unwrap())
            .unwrap_or_else(|why| panic!("{}: {why}", case.display()));
        let findings = findings(&gathered, &clock);
        let worst = findings.iter().map(|(_, level, _)| *level).max().unwrap();
        let is = text(worst, &findings);
        let golden = case.with_extension("txt");
        if std::env::var("PSENTRY_GOLDEN").is_ok_and(|what| what == "write") {
            fs::write(&golden, &is).unwrap();
        }
        assert_eq!(is, fs::read_to_string(&golden).unwrap_or_default(), "{}", case.display());
        assert_eq!(is.lines().count(), if gathered.installed { 10 } else { 2 });
    }
}

#[test]
fn units_are_read_as_systemctl_shows_them() {
    let units = units(
        "Id=psentry-judge.service\nLoadState=loaded\nNRestarts=2\nResult=\n\nId=psentry-x.timer\nLoadState=not-found\n",
    );
    assert_eq!(units.keys().collect::<Vec<_>>(), ["psentry-judge.service", "psentry-x.timer"]);
    assert_eq!(units["psentry-judge.service"]["NRestarts"], "2");
    assert_eq!(units["psentry-judge.service"]["Result"], "");
}
