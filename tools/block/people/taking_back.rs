//! `unblock` beside a running psentry-block: what waits there until somebody has logged out, or is tried again because it
//! failed, stands nowhere and is in no memory. Only whoever runs can take it back, and only the control socket reaches it.

use psentry_records::{
    Action, Common, OutcomeBody, OutcomeResult, Prefix, Record, Timestamp, Verdict, VerdictBody,
};

use crate::cli::Flags;
use crate::commands::say;
use crate::control;
use crate::control::client::{DOING, Silence, TELLING, What, ask};
use crate::report::body;

/// Has a running psentry-block give up what it still wants of `scope`; one outcome for each backend on which that did not
/// stand. Comes after what stood was let in: that waits for nobody.
pub(crate) fn take_back(flags: &Flags, scope: Prefix) -> Vec<OutcomeBody> {
    let path = control::path(flags);
    let wanted = ask(&path, &What::Why(scope), TELLING).map(|lines| {
        let wanted = lines.iter().filter_map(|line| match Record::parse(line) {
            Ok(Record::Outcome(outcome)) => Some(outcome.body),
            _ => None,
        });
        wanted.filter(|outcome| outcome.scope == scope).collect::<Vec<_>>()
    });
    let taken = wanted.and_then(|wanted| {
        if !wanted.is_empty() {
            let body = VerdictBody::new(Action::Unblock, scope);
            ask(&path, &What::Do(&Verdict { common: Common::at(Timestamp::now()), body }), DOING)?;
        }
        Ok(wanted)
    });
    match taken {
        Ok(wanted) => wanted.into_iter().filter_map(released).collect(),
        // Nobody runs who could want it, or may be asked.
        Err(Silence::Absent | Silence::Dead | Silence::Forbidden) => Vec::new(),
        Err(Silence::Hangs) => {
            say(&format!(
                "{}: psentry-block does not answer; what it still tries is blocked once it can be",
                path.display()
            ));
            Vec::new()
        }
        Err(Silence::Refused(why)) => {
            say(&format!("{}: {why}", path.display()));
            Vec::new()
        }
    }
}

/// What did not stand is not wanted any more.
fn released(wanted: OutcomeBody) -> Option<OutcomeBody> {
    let OutcomeBody { scope, backend, result, error, .. } = wanted;
    let backend = backend.filter(|_| result == OutcomeResult::Failed)?;
    let why = psentry_stage::printable(&error.unwrap_or_default());
    say(&format!("{scope} did not stand on {backend}, and is not tried any more: {why}"));
    Some(body(Action::Unblock, scope, Some(&backend), OutcomeResult::Released))
}
