//! `status`: whether everything that is wanted is enforced. A running psentry-block says what it wants and reads what
//! stands; without one, or with one that hangs, the memory says what is wanted, and what stands is read here.

use std::collections::HashSet;
use std::io::{self, IsTerminal};

use psentry_records::Prefix;
use serde::Serialize;

use super::Report;
use crate::cli::Flags;
use crate::control::client::{Silence, TELLING, What, ask};
use crate::control::{self, line};
use crate::error::Error;
use crate::memory::recall::Recall;
use crate::panic::{Order, Panic};
use crate::people::commands::{print, readers, say};
use crate::people::listing::lined_up;
use crate::run::brake::Holding;

/// The last line: all of it in one word.
#[derive(Serialize)]
struct Summary<'a> {
    /// Whether all that is wanted stands, and nothing keeps it from being wanted.
    enforced: bool,
    /// Whether a psentry-block answers: "answers", "hangs", "dead", "absent".
    daemon: &'a str,
    /// The panic that holds.
    #[serde(skip_serializing_if = "Option::is_none")]
    panic: Option<&'a Order>,
    /// That the brake holds.
    #[serde(skip_serializing_if = "Option::is_none")]
    brake: Option<Holding>,
}

/// Says how it is.
pub(crate) fn status(flags: &Flags) -> Result<(), Error> {
    let path = control::path(flags);
    let (daemon, answered) = match ask(&path, &What::Status, TELLING) {
        Ok(lines) => ("answers", lines.iter().filter_map(|line| report(line)).collect()),
        Err(Silence::Absent) => ("absent", Vec::new()),
        Err(Silence::Dead) => ("dead", Vec::new()),
        Err(Silence::Forbidden) => {
            return Err(Error::Forbidden(format!(
                "{}: you may not ask here; run this as root",
                path.display()
            )));
        }
        Err(Silence::Hangs) => ("hangs", Vec::new()),
        Err(Silence::Refused(why)) => {
            say(&format!("{}: {why}", path.display()));
            ("hangs", Vec::new())
        }
    };
    let mut trouble = None;
    let mut reports: Vec<Report> = answered;
    if reports.is_empty() {
        let what =
            if daemon == "absent" { "no psentry-block answers" } else { "psentry-block does not answer" };
        say(&format!("{}: {what}; this is what is remembered, and what stands", path.display()));
        (reports, trouble) = read(flags);
    }
    reports.sort_by(|a, b| a.backend.cmp(&b.backend));
    // Whoever may ask need not be able to look.
    let told = || reports.iter().find_map(|report| report.panic.clone());
    let panic = Panic::of(flags).holds().or_else(told);
    let brake = reports.iter().find_map(|report| report.brake);
    let short: Vec<&Report> = reports.iter().filter(|report| !report.is_whole()).collect();
    let held = panic.is_some() || brake.is_some();
    let enforced = short.is_empty() && trouble.is_none() && !held && !matches!(daemon, "hangs" | "dead");
    let text = if io::stdout().is_terminal() {
        let rows: Vec<Vec<String>> =
            std::iter::once(Report::head()).chain(reports.iter().map(Report::row)).collect();
        lined_up(&rows).into_bytes()
    } else {
        let summary = Summary { enforced, daemon, panic: panic.as_ref(), brake };
        reports.iter().map(Report::line).chain([line(&summary)]).flatten().collect()
    };
    print(&text)?;
    let why = match (panic.map(|order| order.sentence()).or(brake.map(Holding::sentence)), short.first()) {
        _ if enforced => return Ok(()),
        (Some(why), _) => why,
        (None, Some(report)) => {
            let error = report.error.as_ref().map_or_else(String::new, |error| format!(": {error}"));
            format!("not everything is enforced: {} {}{error}", report.backend, report.enforced())
        }
        (None, None) => match trouble {
            Some(error) => return Err(error),
            None => format!("{}: psentry-block does not answer, and applies no verdict", path.display()),
        },
    };
    // That there is no right to read it is worth more than that it was not read.
    trouble.map_or(Err(Error::No(why)), Err)
}

fn report(line: &str) -> Option<Report> {
    serde_json::from_str(line).ok().filter(|report: &Report| !report.backend.is_empty())
}

/// What is remembered, and what of that stands.
fn read(flags: &Flags) -> (Vec<Report>, Option<Error>) {
    let (readers, mut trouble) = readers(flags);
    let (recall, chosen) = (Recall::of(flags), flags.chosen());
    let mut reports = Vec::new();
    for (which, reader) in readers {
        let remembered = recall.blocks(which);
        let stands: Option<HashSet<Prefix>> =
            reader.map(|(_, entries)| entries.into_iter().map(|entry| entry.scope).collect());
        let mut report = Report { backend: which.name().to_owned(), ..Report::default() };
        match remembered {
            Ok(blocks) if recall.directory().is_some() => {
                report.wanted = Some(blocks.len());
                report.standing =
                    stands.as_ref().map(|stands| blocks.keys().filter(|s| stands.contains(s)).count());
            }
            // Without a memory all that is known to be wanted is what stands.
            Ok(_) => {
                report.standing = stands.as_ref().map(HashSet::len);
                report.wanted = report.standing;
            }
            Err(error) => {
                report.error = Some(error.to_string());
                trouble = crate::people::commands::worst(trouble, error);
            }
        }
        let of_use = report.wanted.unwrap_or(0) > 0 || stands.is_some_and(|stands| !stands.is_empty());
        if of_use || report.error.is_some() || chosen.contains(&which) {
            reports.push(report);
        }
    }
    (reports, trouble)
}
