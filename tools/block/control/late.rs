//! How long it is waited for an answer, and what is said of a backend that has not given one by then.

use std::time::Duration;

use psentry_records::Verdict;

use super::serving::failed;
use super::words::{Question, line};
use crate::people::Report;

/// How long it is waited until a verdict is carried out.
const DOING: Duration = Duration::from_secs(10);

/// How long it is waited until backends say how they are.
const TELLING: Duration = Duration::from_secs(3);

/// What is said of a backend that has not answered in time.
pub(super) enum Late {
    Doing(Box<Verdict>),
    Telling,
    TakingBack,
    LettingIn,
}

impl Late {
    pub(super) fn of(question: &Question) -> Self {
        match question {
            Question::Verdict(verdict) => Late::Doing(verdict.clone()),
            Question::Status | Question::Why(_) => Late::Telling,
            Question::TakeBack(_) => Late::TakingBack,
            Question::LetIn(..) => Late::LettingIn,
        }
    }

    /// How long it is waited.
    pub(super) fn limit(&self) -> Duration {
        if matches!(self, Late::Doing(_) | Late::LettingIn) { DOING } else { TELLING }
    }

    /// The line for that backend.
    pub(super) fn line(&self, backend: &str) -> Vec<u8> {
        let why = format!("{backend} has not answered within {} s", self.limit().as_secs());
        let report = |why| line(&Report::without(backend, why));
        match self {
            Late::Doing(verdict) => failed(verdict, backend, why + ", and may still do it"),
            Late::Telling | Late::LettingIn => report(why),
            Late::TakingBack => report(why + "; what does not stand there yet may still be blocked"),
        }
    }
}
