//! What the judge is told: that somebody was released before his time, so that new evidence counts at once. In a bare pipe
//! nobody can tell it; then whoever asked hears until when the judge says nothing more of that source.

use std::time::Instant;

use psentry_records::{Common, Prefix, Timestamp};

use super::{Engine, Reply};
use crate::block::Block;
use crate::judge_fifo::{EVENTS, JudgeFifo, everybody, outcome, released};
use crate::note::moment;
use crate::protocol::{BY_HAND, note};

impl Engine {
    /// A block was released.
    pub(super) fn tell_judge(&mut self, scope: Prefix, block: &Block, reply: Option<&Reply>) {
        let record = outcome(released(scope), self.outcomes.host());
        let Some(judge) = &mut self.judge else { return };
        if !judge.tell(&record) && is_judged(block) {
            self.not_heard(&format!("it says nothing more of {scope}"), block.until, reply);
        }
    }

    /// Everybody was released; why.
    pub(super) fn tell_judge_of_all(&mut self, why: &str, latest: Option<&Block>, reply: Option<&Reply>) {
        let Some(judge) = &mut self.judge else { return };
        if judge.is_read() {
            for body in everybody(why) {
                let record = self.outcomes.outcome(&Common::at(Timestamp::now()), body);
                judge.tell(&record);
            }
        } else if let Some(latest) = latest {
            self.not_heard(
                "it says nothing more of whom it had blocked, of the last one",
                latest.until,
                reply,
            );
        }
    }

    fn not_heard(&self, so: &str, until: Option<Timestamp>, reply: Option<&Reply>) {
        // Where no engine runs, no judge waits for one either.
        let Some(reply) = reply.filter(|_| !self.is_once()) else { return };
        let until =
            until.map_or_else(String::new, |until| format!(" until {}", moment(self.clock.wall(until))));
        reply.send(note(&format!("the judge is not told, for none reads {EVENTS}: {so}{until}")));
    }

    /// The block of the judge's that ends last.
    pub(super) fn latest_judged(&self) -> Option<Block> {
        let judged = self.desired.iter().map(|(_, block)| block).filter(|block| is_judged(block));
        judged.max_by_key(|block| block.until.map_or((true, None), |until| (false, Some(until)))).cloned()
    }

    /// Tells what waited for room.
    pub(super) fn tell_judge_the_rest(&mut self) {
        let Some(judge) = &mut self.judge else { return };
        if judge.waits() {
            judge.write();
        }
        let given_up = judge.given_up();
        if given_up > 0 {
            self.outcomes.complain(&format!(
                "{EVENTS}: the judge does not read, and does not know of {given_up} releases: it says nothing more of \
                 those sources until their blocks would have ended"
            ));
        }
    }

    /// Whether something waits to be told.
    pub(super) fn has_to_tell(&self) -> bool {
        self.judge.as_ref().is_some_and(JudgeFifo::waits)
    }

    /// When that is tried again.
    pub(super) fn next_telling(&self, now: Instant) -> Option<Instant> {
        self.judge.as_ref().and_then(|judge| judge.next(now))
    }
}

/// Whether the judge may have convicted somebody for it: a person's block it knows nothing of.
fn is_judged(block: &Block) -> bool {
    block.rule.as_deref() != Some(BY_HAND)
}
