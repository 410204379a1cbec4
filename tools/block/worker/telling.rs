//! How the backend is, for people who ask: what is wanted of it, what of that stands, read from where it stands at that
//! moment, what fails, and what was last put back.

use std::collections::HashSet;

use psentry_records::{Prefix, Timestamp};

use super::Worker;
use crate::control::Answer;
use crate::people::Report;
use crate::schedule::State;

impl Worker {
    /// Answers whoever asked since it last looked.
    pub(super) fn tell_how_it_is(&mut self) {
        let questions = self.inbox.questions();
        if questions.is_empty() {
            return;
        }
        let line = self.report().line();
        for answers in questions {
            // Whoever asked may have left.
            let _ = answers.send(Answer::Line(Some(self.backend.name().to_owned()), line.clone()));
        }
    }

    fn report(&mut self) -> Report {
        let now = Timestamp::now();
        let wanted: HashSet<Prefix> = self
            .scopes_with(|plan| {
                !plan.is_over(now) && !matches!(plan.state, State::Leaving { .. } | State::LetIn)
            })
            .into_iter()
            .collect();
        let failing = self
            .scopes_with(|plan| matches!(plan.state, State::Failing { .. } | State::Leaving { .. }))
            .len();
        let standing = self.backend.standing(&wanted);
        let unread = standing.as_ref().err().map(|error| (now, error.to_string()));
        let latest = unread.or_else(|| self.schedule.latest_failure().cloned());
        let (error_at, error) = latest.unzip();
        let (repaired, repair) = self.repaired.clone().unzip();
        Report {
            backend: self.backend.name().to_owned(),
            since: Some(self.began),
            wanted: Some(wanted.len()),
            standing: standing.ok().map(|standing| standing.len()),
            failing,
            error,
            error_at,
            repair,
            repaired,
        }
    }
}
