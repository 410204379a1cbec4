//! Why somebody is not shut out, in sentences. Pure.

use psentry_records::{Action, Prefix};
use psentry_stage::printable;
use serde::Deserialize;

use crate::cli::Mode;
use crate::clock::Clock;
use crate::history::Known;
use crate::rows::short;

/// What a verdict on somebody would come to, as psentry-block says.
#[derive(Clone, Debug, Default, Deserialize)]
pub(crate) struct Prospect {
    pub(crate) may_block: bool,
    pub(crate) why: Option<String>,
}

/// All that bears on it.
pub(crate) struct Free<'a> {
    pub(crate) asked: Prefix,
    /// The line of the ignore file that names it, and what it says.
    pub(crate) ignored: Option<(usize, Prefix)>,
    /// `None`: no psentry-block answers.
    pub(crate) prospect: Option<Prospect>,
    pub(crate) mode: Mode,
    pub(crate) known: &'a Known,
}

/// Each reason as a sentence, the answer first.
pub(crate) fn reasons(free: &Free<'_>, clock: &Clock) -> Vec<String> {
    let asked = short(free.asked);
    let mut text = vec![if free.asked.is_host() {
        format!("{asked} is not shut out.")
    } else {
        format!("Nothing of {asked} is shut out.")
    }];
    if let Some((line, prefix)) = free.ignored {
        text.push(format!(
            "No stage acts on it: {} is in line {line} of /etc/psentry/ignore.",
            short(prefix)
        ));
    }
    match &free.prospect {
        Some(Prospect { may_block: false, why }) if free.ignored.is_none() => {
            text.push(format!("Nor can it be: {}.", reason(why.as_deref())));
        }
        Some(Prospect { may_block: true, why: Some(why) }) => {
            text.push(format!("A verdict could block it, but {}.", reason(Some(why))));
        }
        None => text.push("No psentry-block answers, so nobody is being blocked.".to_owned()),
        Some(_) => {}
    }
    let observes = free.mode == Mode::Observe;
    if let Some(verdict) = &free.known.verdict {
        let body = &verdict.body;
        let until = verdict.until();
        let rule = printable(body.rule.as_deref().unwrap_or("unknown"));
        let end = until
            .map_or_else(|| "without an end".to_owned(), |until| format!("until {}", clock.moment(until)));
        let is_over = until.is_some_and(|until| until <= clock.now);
        let what = match (body.action, observes, is_over) {
            (Action::Watch, true, false) => "psentry observes: it would be blocked",
            (Action::Watch, true, true) => "psentry observes: it would have been blocked",
            (Action::Watch, ..) => "The last verdict on it only watched",
            (_, _, true) => "It was blocked",
            _ => "The last verdict was to block it",
        };
        let why =
            body.reason.as_deref().map_or_else(|| ".".to_owned(), |why| format!(": {}", printable(why)));
        text.push(format!("{what} {end} by rule {rule}{why}"));
    } else if observes {
        text.push("psentry observes, and shuts out nobody; nor would it be blocked by now.".to_owned());
    }
    match &free.known.last {
        Some(last) => text.push(format!(
            "It touched {} {}, and {} times in all of the log; what that weighs: psentry explain {}",
            last.port,
            clock.ago(last.at),
            free.known.probes,
            free.asked.addr(),
        )),
        None => text.push("The log has no probe of it: it touched nothing that psentry watches.".to_owned()),
    }
    text
}

fn reason(why: Option<&str>) -> String {
    printable(why.unwrap_or("it is not known why").trim_end_matches('.'))
}
