//! `status`: whether all of it is well, in ten lines for people, in one object for programs, and as an exit code of Nagios.
//! What is the case is gathered first; what follows of it is pure.

mod findings;
mod gather;

use psentry_stage::{Exit, printable};
use serde_json::{Map, Value, json};

use self::findings::{Finding, Level, findings};
use crate::Error;
use crate::run::{Context, print};

/// Prints it. It is an error when anything is not well.
pub(crate) fn status(context: &Context) -> Result<(), Error> {
    let gathered = gather::gather(context)?;
    if !gathered.installed {
        print(&if context.json {
            json_text(Level::Unknown, &[])
        } else {
            "UNKNOWN: psentry is not installed here\n".to_owned()
        })?;
        return Err(Error::new(Exit::Unknown, ""));
    }
    let findings = findings(&gathered, &context.clock);
    let worst = findings.iter().map(|finding| finding.level).max().unwrap_or(Level::Unknown);
    print(&if context.json { json_text(worst, &findings) } else { text(worst, &findings) })?;
    match worst {
        Level::Ok => Ok(()),
        Level::Warning => Err(Error::no("")),
        Level::Critical => Err(Error::new(Exit::Critical, "")),
        Level::Unknown => Err(Error::new(Exit::Unknown, "")),
    }
}

/// The answer in one line, and a line for each finding.
fn text(worst: Level, findings: &[Finding]) -> String {
    let mut bad = findings.iter().filter(|finding| finding.level == worst);
    let head = match (worst, bad.next()) {
        (Level::Ok, _) | (_, None) => "OK: all of psentry is well".to_owned(),
        (_, Some(first)) => {
            let more = bad.count();
            let more = if more == 0 { String::new() } else { format!(" (and {more} more)") };
            format!("{}: {}: {}{more}", worst.name(), first.name, first.text)
        }
    };
    let mut text = printable(&head) + "\n";
    for Finding { name, level, text: found } in findings {
        text.push_str(&format!("{name:<10} {:<8}  {}\n", level.name(), printable(found)));
    }
    text
}

fn json_text(worst: Level, findings: &[Finding]) -> String {
    let parts: Map<String, Value> = findings
        .iter()
        .map(|finding| {
            (finding.name.to_owned(), json!({ "status": finding.level.name(), "text": finding.text }))
        })
        .collect();
    format!("{}\n", json!({ "status": worst.name(), "code": worst as u8, "parts": parts }))
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::Path;

    use jiff::tz::TimeZone;

    use super::*;
    use crate::clock::Clock;

    /// Each case is what was gathered at 2026-11-22T15:04:05Z, and what is printed.
    #[test]
    fn golden_cases() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/cases/status");
        let mut cases: Vec<_> = fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path()).collect();
        cases.retain(|path| path.extension().is_some_and(|end| end == "json"));
        cases.sort();
        assert!(cases.len() >= 10, "{cases:?}");
        let clock = Clock::at("2026-11-22T15:04:05Z".parse().unwrap(), TimeZone::UTC);
        for case in cases {
            let gathered = serde_json::from_str(&fs::read_to_string(&case).unwrap())
                .unwrap_or_else(|why| panic!("{}: {why}", case.display()));
            let findings = findings(&gathered, &clock);
            let worst = findings.iter().map(|finding| finding.level).max().unwrap();
            let is = text(worst, &findings);
            let golden = case.with_extension("txt");
            if std::env::var("PSENTRY_GOLDEN").is_ok_and(|what| what == "write") {
                fs::write(&golden, &is).unwrap();
            }
            assert_eq!(is, fs::read_to_string(&golden).unwrap_or_default(), "{}", case.display());
            assert_eq!(is.lines().count(), 10);
        }
    }
}
