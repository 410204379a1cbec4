//! `status`: whether everything that is wanted is enforced. A line for each backend, then all of it in one line; and on
//! standard error each reason why it is not so.

use std::path::Path;

use psentry_control::{Silence, json_line};
use psentry_local_time::Clock;
use psentry_records::Timestamp;
use psentry_stage::panic_file::{Order, PanicFile};
use psentry_stage::{counted, printable};
use serde::Serialize;

use super::client::{Answer, Client, TELLING};
use super::print::{first, lined_up, print};
use crate::brake::Holding;
use crate::cli::{Flags, Which};
use crate::desired::Full;
use crate::error::Error;
use crate::protocol::Report;
use psentry_control::Question;

/// The last line: all of it.
#[derive(Debug, Serialize)]
struct Summary {
    /// Whether all that is wanted is there and blocks, and nothing keeps it from being wanted.
    enforced: bool,
    /// Whether what is wanted is remembered where it is to be, so that it outlives a reboot.
    remembered: bool,
    /// Whether what happens is written: no record is being lost.
    recorded: bool,
    /// Whether a psentry-block answers.
    daemon: &'static str,
    /// The panic that holds.
    #[serde(skip_serializing_if = "Option::is_none")]
    panic: Option<Order>,
    /// That the brake holds.
    #[serde(skip_serializing_if = "Option::is_none")]
    brake: Option<Holding>,
    /// That there is no room for another block.
    #[serde(skip_serializing_if = "Option::is_none")]
    full: Option<Full>,
}

/// Says how it is. It is an error when anything is not as it should be.
pub(super) fn status(client: Client<'_>) -> Result<(), Error> {
    let (silence, answer) = match client.ask_running(&Question::Status, TELLING) {
        Ok(answer) => (None, Ok(answer)),
        Err(silence @ (Silence::Forbidden | Silence::Refused(_))) => return Err(client.unanswered(&silence)),
        Err(silence) => {
            let answer = client.read_beside(&silence, &Question::Status);
            (Some(silence), answer)
        }
    };
    let failed = |error| Answer { trouble: Some(error), ..Answer::default() };
    let mut answer = answer.unwrap_or_else(failed).selected(client.flags);
    let trouble = answer.trouble.take();
    // One that cannot be asked here is in the trouble.
    if trouble.is_none() {
        answer.errors.extend(unkept(&answer, client.flags));
    }
    let clock = client.clock();
    let (mut summary, reasons) =
        judge(&answer, silence.as_ref(), &client.path(), PanicFile::default().holds(), &clock);
    summary.enforced &= trouble.is_none();
    print(
        client.flags,
        || table(&answer.reports, &clock),
        || answer.reports.iter().map(json_line).chain([json_line(&summary)]).flatten().collect(),
    )?;
    first(trouble.into_iter().chain(reasons.into_iter().map(|reason| Error::No(printable(&reason)))))
}

/// The backends that `--backend` names and nobody keeps.
fn unkept(answer: &Answer, flags: &Flags) -> Vec<String> {
    let kept = |which: &Which| answer.reports.iter().any(|report| report.backend == which.name());
    let unkept = flags.chosen().into_iter().filter(|which| !kept(which));
    unkept.map(|which| format!("no psentry-block keeps {}", which.name())).collect()
}

/// All of it in one, and why it is not as it should be, each reason as a sentence. `panic` is what the file says: whoever may ask
/// need not be able to look.
fn judge(
    answer: &Answer,
    silence: Option<&Silence>,
    path: &Path,
    panic: Option<Order>,
    clock: &Clock,
) -> (Summary, Vec<String>) {
    let reports = &answer.reports;
    let panic = panic.or_else(|| reports.iter().find_map(|report| report.panic.clone()));
    let brake = reports.iter().find_map(|report| report.brake);
    let full = reports.iter().find_map(|report| report.full);
    let mut reasons: Vec<String> = Vec::new();
    reasons.extend(panic.as_ref().map(|order| order.sentence_at(|moment| clock.moment(moment))));
    reasons.extend(brake.map(Holding::sentence));
    reasons.extend(full.filter(|full| full.refused > 0).map(Full::sentence));
    reasons
        .extend(reports.iter().filter_map(shortage).map(|why| format!("not everything is enforced: {why}")));
    for report in reports {
        reasons.extend(report.shadowed.iter().map(|why| format!("{} does not block: {why}", report.backend)));
    }
    reasons.extend(answer.errors.iter().cloned());
    let (daemon, why) = match silence {
        None => ("answers", None),
        Some(Silence::Hangs) => ("hangs", Some("psentry-block hangs, and applies no verdict")),
        Some(Silence::Dead) => ("dead", Some("psentry-block is dead, and verdicts are not applied")),
        Some(_) => ("absent", None),
    };
    reasons.extend(why.map(|why| format!("{}: {why}", path.display())));
    let enforced = reasons.is_empty();
    let forgets = |report: &Report| {
        let why = report.memory.as_ref()?;
        Some(format!("what is blocked on {} does not outlive a reboot: {why}", report.backend))
    };
    let forgotten: Vec<String> = reports.iter().filter_map(forgets).collect();
    let remembered = forgotten.is_empty();
    reasons.extend(forgotten);
    let unwritten = reports.iter().find_map(|report| report.unwritten.as_ref());
    let recorded = unwritten.is_none();
    reasons.extend(unwritten.map(|why| format!("what happens is not recorded: {why}")));
    let wrong = reports.iter().find_map(|report| report.wrong_settings.as_ref());
    reasons.extend(wrong.map(|why| format!("a setting is wrong: {why}")));
    (Summary { enforced, remembered, recorded, daemon, panic, brake, full }, reasons)
}

fn table(reports: &[Report], clock: &Clock) -> String {
    let head = ["BACKEND", "ENFORCED", "FAILING", "WAITING", "SINCE", "LAST REPAIR", "LATEST ERROR"];
    let rows: Vec<_> = std::iter::once(head.map(str::to_owned))
        .chain(reports.iter().map(|report| row(report, clock)))
        .collect();
    lined_up(&rows)
}

fn row(report: &Report, clock: &Clock) -> [String; 7] {
    let when = |text: &Option<String>, at: Option<Timestamp>| match (text, at) {
        (Some(text), Some(at)) => format!("{} {}", clock.moment(at), printable(text)),
        (Some(text), None) => printable(text),
        (None, _) => "-".to_owned(),
    };
    [
        printable(&report.backend),
        enforced(report),
        report.failing.to_string(),
        report.waiting.to_string(),
        report.since.map_or_else(|| "-".to_owned(), |since| clock.moment(since)),
        when(&report.repair, report.repaired),
        when(&report.error, report.error_at),
    ]
}

/// How much of what is wanted is there.
fn enforced(report: &Report) -> String {
    let number = |number: Option<usize>| number.map_or_else(|| "?".to_owned(), |n| n.to_string());
    format!("{} of {}", number(report.standing), number(report.wanted))
}

/// Why not all that is wanted is there, as the end of a sentence; `None`: it is.
fn shortage(report: &Report) -> Option<String> {
    if report.is_whole() {
        return None;
    }
    let some = |count: usize, one, many| {
        let count = u64::try_from(count).ok().filter(|count| *count > 0);
        count.map_or_else(String::new, |count| format!(", {}", counted(count, one, many)))
    };
    let queued = some(report.queued, "waits for its turn", "wait for their turn");
    let failing = some(report.failing, "fails", "fail");
    let error = report.error.as_ref().map_or_else(String::new, |error| format!(": {error}"));
    Some(format!("{} {}{queued}{failing}{error}", report.backend, enforced(report)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::commands::print::tests::clock;

    fn nft(wanted: Option<usize>, standing: Option<usize>) -> Report {
        Report { backend: "nft".to_owned(), wanted, standing, ..Report::default() }
    }

    fn judged(reports: Vec<Report>, silence: Option<Silence>) -> (Summary, Vec<String>) {
        judge(
            &Answer { reports, ..Answer::default() },
            silence.as_ref(),
            Path::new("/run/control"),
            None,
            &clock(),
        )
    }

    #[test]
    fn only_what_is_known_to_be_there_is_enforced() {
        let failing =
            |report, failing, error: &str| Report { failing, error: Some(error.to_owned()), ..report };
        for (report, reason) in [
            (nft(Some(0), Some(0)), None),
            (nft(Some(412), Some(412)), None),
            (nft(Some(412), Some(411)), Some("nft 411 of 412")),
            (nft(Some(412), None), Some("nft ? of 412")),
            (nft(None, Some(1)), Some("nft 1 of ?")),
            (failing(nft(Some(1), Some(1)), 1, "no"), Some("nft 1 of 1, 1 fails: no")),
            (failing(nft(Some(0), Some(0)), 3, "no"), Some("nft 0 of 0, 3 fail: no")),
            (Report { queued: 1, ..nft(Some(2), Some(1)) }, Some("nft 1 of 2, 1 waits for its turn")),
            (Report { queued: 5, ..nft(Some(6), Some(1)) }, Some("nft 1 of 6, 5 wait for their turn")),
        ] {
            let (summary, reasons) = judged(vec![report], None);
            let expected: Vec<String> =
                reason.iter().map(|reason| format!("not everything is enforced: {reason}")).collect();
            assert_eq!((summary.enforced, reasons), (expected.is_empty(), expected));
        }
    }

    #[test]
    fn what_does_not_block_or_will_not_last_is_a_reason_of_its_own() {
        let shadowed =
            Report { shadowed: vec!["a rule before it accepts".to_owned()], ..nft(Some(3), Some(3)) };
        let (summary, reasons) = judged(vec![shadowed], None);
        assert_eq!(
            (summary.enforced, reasons),
            (false, vec!["nft does not block: a rule before it accepts".to_owned()])
        );
        let forgets = Report {
            memory: Some("the disk is full".to_owned()),
            unwritten: Some("the disk is full".to_owned()),
            ..nft(Some(3), Some(3))
        };
        let (summary, reasons) = judged(vec![forgets], None);
        assert_eq!((summary.enforced, summary.remembered, summary.recorded), (true, false, false));
        assert_eq!(
            reasons,
            [
                "what is blocked on nft does not outlive a reboot: the disk is full",
                "what happens is not recorded: the disk is full"
            ]
        );
        assert!(judged(Vec::new(), Some(Silence::Absent)).0.enforced, "where nothing runs nothing is wanted");
        let (summary, reasons) = judged(Vec::new(), Some(Silence::Hangs));
        assert_eq!(
            (summary.enforced, reasons),
            (false, vec!["/run/control: psentry-block hangs, and applies no verdict".to_owned()])
        );
        assert!(!judged(Vec::new(), Some(Silence::Dead)).0.enforced);
        let order = Order::now(None);
        let (summary, reasons) =
            judge(&Answer::default(), None, Path::new(""), Some(order.clone()), &clock());
        assert_eq!(
            (summary.enforced, reasons),
            (false, vec![order.sentence_at(|moment| clock().moment(moment))])
        );
    }

    #[test]
    fn programs_read_lines_and_people_a_table() {
        let report = Report {
            error: Some("no\u{1b}".to_owned()),
            error_at: "2026-11-22T15:04:05Z".parse().ok(),
            ..nft(Some(3), Some(2))
        };
        let (summary, _) = judged(vec![report.clone()], None);
        let lines = [json_line(&report), json_line(&summary)].concat();
        assert_eq!(
            String::from_utf8(lines).unwrap(),
            "{\"backend\":\"nft\",\"wanted\":3,\"standing\":2,\"failing\":0,\"waiting\":0,\"queued\":0,\
             \"error\":\"no\\u001b\",\"error_at\":\"2026-11-22T15:04:05.000000Z\"}\n\
             {\"enforced\":false,\"remembered\":true,\"recorded\":true,\"daemon\":\"answers\"}\n"
        );
        assert_eq!(
            table(&[report], &clock()),
            "BACKEND  ENFORCED  FAILING  WAITING  SINCE  LAST REPAIR  LATEST ERROR\n\
             nft      2 of 3    0        0        -      -            16:04:05 +01 no\\u{1b}\n"
        );
    }
}
