//! `unblock` and `flush` beside a running psentry-block: what waits there for its turn or until somebody has logged out,
//! or is tried again because it failed, stands nowhere and is in no memory. Only whoever runs can take it back, and only
//! the control socket reaches it.

use psentry_records::{
    Action, Common, OutcomeBody, OutcomeResult, Prefix, Record, Timestamp, Verdict, VerdictBody,
};
use psentry_stage::printable;

use super::{Report, running};
use crate::cli::Flags;
use crate::control;
use crate::control::client::{DOING, Silence, TELLING, What, ask};
use crate::people::commands::say;
use crate::report::body;

/// Has a running psentry-block give up what it still wants of `scope`; one outcome for each backend on which that did not
/// stand, or that has not confirmed it. Comes after what stood was let in: that waits for nobody.
pub(crate) fn take_back(flags: &Flags, scope: Prefix) -> Vec<OutcomeBody> {
    let path = control::path(flags);
    let taken = ask(&path, &What::Why(scope), TELLING).and_then(|lines| {
        let (mut wanted, late) = told(&lines);
        wanted.retain(|outcome| outcome.scope == scope);
        // Whoever does not say what it wants may want this.
        if wanted.is_empty() && late.is_empty() {
            return Ok(Vec::new());
        }
        let body = VerdictBody::new(Action::Unblock, scope);
        let done = ask(&path, &What::Do(&Verdict { common: Common::at(Timestamp::now()), body }), DOING)?;
        let failed = |outcome: &OutcomeBody| {
            !matches!(outcome.result, OutcomeResult::Released | OutcomeResult::Already)
        };
        let outcome = |outcome: OutcomeBody| {
            let was = wanted.iter().find(|wanted| wanted.backend == outcome.backend);
            let stood = was.is_some_and(|was| was.result == OutcomeResult::Already);
            match outcome.result {
                _ if failed(&outcome) => Some(outcome),
                // It stood where only the running one looks: with another --state a command's roll is elsewhere.
                OutcomeResult::Released if stood => Some(outcome),
                _ => released(was?),
            }
        };
        Ok(told(&done).0.into_iter().filter_map(outcome).collect())
    });
    taken.unwrap_or_else(|silence| {
        unanswered(flags, silence);
        Vec::new()
    })
}

/// Has a running psentry-block give up all that does not stand yet on the chosen backends; an outcome for each block.
pub(super) fn take_all_back(flags: &Flags) -> Vec<OutcomeBody> {
    let backends = flags.chosen().iter().map(|which| which.name().to_owned()).collect();
    let lines = ask(&control::path(flags), &What::TakeBack(backends), TELLING).unwrap_or_else(|silence| {
        unanswered(flags, silence);
        Vec::new()
    });
    let (taken, late) = told(&lines);
    for why in late {
        say(&why);
    }
    if !taken.is_empty() {
        say(&format!("given up, as it did not stand yet: {}", blocks(taken.len())));
    }
    taken
}

/// The outcomes of an answer, and of each backend that did not answer in time, that it did not.
fn told(lines: &[String]) -> (Vec<OutcomeBody>, Vec<String>) {
    let (mut outcomes, mut late) = (Vec::new(), Vec::new());
    for line in lines {
        match (Record::parse(line), serde_json::from_str::<Report>(line)) {
            (Ok(Record::Outcome(outcome)), _) => outcomes.push(outcome.body),
            (_, Ok(Report { error: Some(why), .. })) => late.push(printable(&why)),
            _ => {}
        }
    }
    (outcomes, late)
}

/// Says that a running psentry-block may go on trying.
fn unanswered(flags: &Flags, silence: Silence) {
    let path = control::path(flags);
    let path = path.display();
    match silence {
        Silence::Absent | Silence::Dead | Silence::Forbidden => {
            // Where none runs, nobody wants anything.
            if let Some(process) = running::another() {
                say(&format!(
                    "{path}: the psentry-block that runs (process {process}) cannot be asked here; what it has not \
                     blocked yet may still be blocked"
                ));
            }
        }
        Silence::Hangs => {
            say(&format!(
                "{path}: psentry-block does not answer; what it still tries is blocked once it can be"
            ));
        }
        Silence::Refused(why) => say(&format!("{path}: {why}; what is not blocked yet may still be blocked")),
    }
}

/// What did not stand is not wanted any more.
fn released(wanted: &OutcomeBody) -> Option<OutcomeBody> {
    let OutcomeBody { scope, backend, result, error, .. } = wanted;
    let backend = backend.as_ref().filter(|_| *result == OutcomeResult::Failed)?;
    let why = printable(error.as_deref().unwrap_or_default());
    say(&format!("{scope} did not stand on {backend}, and is not tried any more: {why}"));
    Some(body(Action::Unblock, *scope, Some(backend), OutcomeResult::Released))
}

fn blocks(count: usize) -> String {
    format!("{count} block{}", if count == 1 { "" } else { "s" })
}
