//! Golden cases: `tests/cases/list/NAME.answers` has what the tools answer and what the log knows, and `NAME.txt` what people read.

use std::fs;
use std::path::Path;

use psentry_local_time::Zone;
use psentry_records::{Common, Record, Verdict, VerdictBody};

use super::*;

fn clock() -> Clock {
    Clock { now: "2026-11-22T15:04:05Z".parse().unwrap(), zone: Zone::east(1) }
}

/// Each case is what the tools answered and what the log has, a line each with the tool's name before it, and the list of it.
#[test]
fn golden_cases() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/cases/list");
    let mut cases: Vec<_> = fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    cases.retain(|path| path.extension().is_some_and(|end| end == "answers"));
    assert!(cases.len() >= 3, "{cases:?}");
    for case in cases {
        let (mut outcomes, mut touches) = (Vec::new(), Touches::new());
        for line in fs::read_to_string(&case).unwrap().lines() {
            let (of, record) = line.split_once(' ').unwrap();
            match Record::parse(record).unwrap_or_else(|why| panic!("{}: {why}", case.display())) {
                Record::Outcome(outcome) if of == "psentry-trap" => outcomes.push(("psentry-trap", outcome)),
                Record::Outcome(outcome) => outcomes.push(("psentry-block", outcome)),
                Record::Probe(probe) => {
                    let port = psentry_show::port(&probe.common);
                    touches.insert(probe.common.src_ip.unwrap(), (probe.common.timestamp, port));
                }
                other => panic!("{other:?}"),
            }
        }
        let is = table(&merged(outcomes), &touches, &clock());
        let golden = case.with_extension("txt");
        if std::env::var("PSENTRY_GOLDEN").is_ok_and(|what| what == "write") {
            fs::write(&golden, &is).unwrap();
        }
        assert_eq!(is, fs::read_to_string(&golden).unwrap_or_default(), "{}", case.display());
    }
}

#[test]
fn who_is_not_shut_out_has_the_reasons() {
    let verdict = |action, duration| {
        let body = VerdictBody {
            duration: Some(duration),
            rule: Some("sequential".to_owned()),
            reason: Some("It touched 2 decoys.\u{1b}".to_owned()),
            ..VerdictBody::new(action, "192.0.2.7".parse().unwrap())
        };
        Some(Verdict { common: Common::at("2026-11-22T15:00:05Z".parse().unwrap()), body })
    };
    let touched = Touches::from([(
        "192.0.2.7".parse().unwrap(),
        ("2026-11-22T15:00:05Z".parse().unwrap(), "445/tcp".to_owned()),
    )]);
    let said =
        |observes, known: &Known| reasons("192.0.2.7".parse().unwrap(), observes, known, &clock()).join("\n");
    let never = Known::default();
    let seen =
        |verdict| Known { touches: touched.clone(), probes: 3, verdict, released: None, quarantine: None };
    let released =
        Known { released: "2026-11-22T15:00:06Z".parse().ok(), ..seen(verdict(Action::Block, 60)) };
    let it = "it touched 445/tcp 4 min ago, 3 probes in all; what they weigh: psentry explain 192.0.2.7";
    for (is, reasons) in [
        (said(false, &never), "the log has no probe of it: it was never seen"),
        (said(false, &seen(None)), it),
        (
            said(
                false,
                &Known { quarantine: Some(("2026-11-22T15:00:05Z".parse().unwrap(), 30)), ..seen(None) },
            ),
            &format!("the trap shut it out for 30 s at 16:00:05 +01\n{it}"),
        ),
        (
            said(true, &seen(None)),
            &format!("psentry observes, and shuts out nobody; it would not be blocked\n{it}"),
        ),
        (
            said(true, &seen(verdict(Action::Watch, 3600))),
            &format!(
                "psentry observes; it would be blocked until 17:00:05 +01 by rule sequential: It touched 2 decoys.\\u{{1b}}\n{it}"
            ),
        ),
        (
            said(true, &seen(verdict(Action::Watch, 60))),
            &format!(
                "psentry observes; it would have been blocked until 16:01:05 +01 by rule sequential: It touched 2 decoys.\\u{{1b}}\n{it}"
            ),
        ),
        (
            said(false, &seen(verdict(Action::Block, 60))),
            &format!(
                "it was blocked until 16:01:05 +01 by rule sequential: It touched 2 decoys.\\u{{1b}}\n{it}"
            ),
        ),
        (
            said(false, &released),
            &format!(
                "it was blocked until 16:01:05 +01 by rule sequential: It touched 2 decoys.\\u{{1b}}\nit was released at 16:00:06 +01\n{it}"
            ),
        ),
        (
            said(false, &seen(verdict(Action::Watch, 3600))),
            &format!(
                "the last verdict on it only watched it until 17:00:05 +01 by rule sequential: It touched 2 decoys.\\u{{1b}}\n{it}"
            ),
        ),
    ] {
        assert_eq!(is, reasons);
    }
}
