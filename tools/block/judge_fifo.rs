//! What is said in the FIFO that the judge reads probes from: whom somebody released, so that the judge forgets the conviction and
//! new evidence counts at once. Else it would say nothing of that source until the conviction had ended.

use psentry_records::{Action, Common, Outcome, OutcomeBody, OutcomeResult, Prefix, Record, Timestamp};

use crate::outcomes::body;

/// Where psentry-events.socket has it.
pub(crate) const EVENTS: &str = "/run/psentry/events";

/// Why everybody counts as released once a panic is over: then the judge forgets whom it convicted before and meanwhile.
pub(crate) const PANIC_OVER: &str = "a panic is over: whoever was convicted before is judged anew";

/// All addresses: no block is as wide, so that they stand for everybody who is blocked.
const EVERYBODY: [&str; 2] = ["0.0.0.0/0", "::/0"];

/// That a block was released.
pub(crate) fn released(scope: Prefix) -> OutcomeBody {
    body(Action::Unblock, scope, None, OutcomeResult::Released)
}

/// An outcome of now as a record, in the name of `host`.
pub(crate) fn outcome(body: OutcomeBody, host: Option<&str>) -> Record {
    let common = Common { host: host.map(str::to_owned), ..Common::at(Timestamp::now()) };
    Record::Outcome(Outcome { common, body })
}

/// That everybody was released; why.
pub(crate) fn everybody(why: &str) -> impl Iterator<Item = OutcomeBody> {
    let scopes = EVERYBODY.into_iter().filter_map(|scope| scope.parse().ok());
    scopes.map(move |scope| OutcomeBody {
        error: Some(why.to_owned()),
        ..body(Action::Unblock, scope, None, OutcomeResult::Released)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everybody_is_all_addresses() {
        let scopes: Vec<String> = everybody("x").map(|body| body.scope.to_string()).collect();
        assert_eq!(scopes, EVERYBODY);
    }
}
