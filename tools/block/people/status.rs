//! `status`: whether everything that is wanted is enforced. A running psentry-block says what it wants and reads what
//! stands; without one, or with one that hangs, the memory says what is wanted, and what stands is read here.

use std::collections::HashSet;
use std::io::{self, IsTerminal};

use psentry_records::Prefix;
use psentry_stage::{Exit, Failure, printable};
use serde::Serialize;

use super::Report;
use crate::cli::Flags;
use crate::control::client::{Silence, TELLING, What, ask};
use crate::control::{self, line};
use crate::error::Error;
use crate::memory::recall::Recall;
use crate::panic::{Order, Panic};
use crate::people::commands::{print, readers, say, worst};
use crate::people::listing::lined_up;
use crate::run::brake::Holding;
use crate::run::room::Full;

/// The last line: all of it in one word.
#[derive(Serialize)]
struct Summary<'a> {
    /// Whether all that is wanted stands, and nothing keeps it from being wanted.
    enforced: bool,
    /// Whether what is wanted is remembered where it is to be, so that it outlives a reboot.
    remembered: bool,
    /// Whether what happens is written: no record is being lost for a full disk.
    recorded: bool,
    /// Whether a psentry-block answers: "answers", "hangs", "dead", "absent".
    daemon: &'a str,
    /// The panic that holds.
    #[serde(skip_serializing_if = "Option::is_none")]
    panic: Option<&'a Order>,
    /// That the brake holds.
    #[serde(skip_serializing_if = "Option::is_none")]
    brake: Option<Holding>,
    /// That there is no room for another block.
    #[serde(skip_serializing_if = "Option::is_none")]
    full: Option<Full>,
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
    let (mut reports, mut trouble): (Vec<Report>, _) = (answered, None);
    if reports.is_empty() {
        let what = match daemon {
            "absent" => "no psentry-block answers",
            "dead" => "the psentry-block that listened here is dead",
            _ => "psentry-block hangs, and does not answer",
        };
        say(&format!("{}: {what}; this is what is remembered, and what stands", path.display()));
        (reports, trouble) = read(flags);
    }
    reports.sort_by(|a, b| a.backend.cmp(&b.backend));
    // Whoever may ask need not be able to look.
    let told = || reports.iter().find_map(|report| report.panic.clone());
    let panic = Panic::of(flags).holds().or_else(told);
    let brake = reports.iter().find_map(|report| report.brake);
    let full = reports.iter().find_map(|report| report.full);
    let mut reasons: Vec<String> = Vec::new();
    reasons.extend(panic.as_ref().map(Order::sentence));
    reasons.extend(brake.map(Holding::sentence));
    reasons.extend(full.filter(|full| full.refused > 0).map(Full::sentence));
    let short = reports.iter().filter(|report| !report.is_whole());
    reasons.extend(short.map(|report| format!("not everything is enforced: {}", report.shortage())));
    reasons.extend(match daemon {
        "hangs" => Some(format!("{}: psentry-block hangs, and applies no verdict", path.display())),
        "dead" => Some(format!("{}: psentry-block is dead, and nobody applies verdicts", path.display())),
        _ => None,
    });
    let enforced = reasons.is_empty() && trouble.is_none();
    let forgets = |report: &Report| {
        let why = report.memory.as_ref()?;
        Some(format!("what is blocked on {} does not outlive a reboot: {why}", report.backend))
    };
    let forgotten: Vec<String> = reports.iter().filter_map(forgets).collect();
    let remembered = forgotten.is_empty() && trouble.is_none();
    reasons.extend(forgotten);
    let unwritten = reports.iter().find_map(|report| report.unwritten.as_ref());
    let recorded = unwritten.is_none();
    reasons.extend(unwritten.map(|why| format!("what happens is not recorded: {why}")));
    let text = if io::stdout().is_terminal() {
        let rows: Vec<Vec<String>> =
            std::iter::once(Report::head()).chain(reports.iter().map(Report::row)).collect();
        lined_up(&rows).into_bytes()
    } else {
        let summary = Summary { enforced, remembered, recorded, daemon, panic: panic.as_ref(), brake, full };
        reports.iter().map(Report::line).chain([line(&summary)]).flatten().collect()
    };
    print(&text)?;
    // That there is no right to read it is worth more than that it was not read.
    if let Some(trouble) = trouble {
        return Err(trouble);
    }
    let mut reasons = reasons.into_iter().map(|reason| printable(&reason));
    let first = reasons.next();
    reasons.for_each(|reason| say(&reason));
    first.map_or(Ok(()), |reason| Err(Error::No(reason)))
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
            // It is told once, of all of them.
            Err(error) if error.exit() == Exit::NoPermission => {
                trouble = worst(trouble, error);
            }
            Err(error) => {
                report.error = Some(error.to_string());
                trouble = worst(trouble, error);
            }
        }
        let of_use = report.wanted.unwrap_or(0) > 0 || stands.is_some_and(|stands| !stands.is_empty());
        if of_use || report.error.is_some() || chosen.contains(&which) {
            reports.push(report);
        }
    }
    (reports, trouble)
}
