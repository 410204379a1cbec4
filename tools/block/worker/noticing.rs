//! What others did to the blocks of this backend, told apart: what they decided stands, and is told; what they damaged
//! waits for its repair.
//!
//! Pending damage is why something is missing that nobody chose to end. So it outweighs somebody's choice of what is to
//! stand beside it, but not that psentry-block took everything away: then nothing is left to be repaired.

use std::collections::HashSet;
use std::time::{Duration, Instant};

use psentry_records::{OutcomeResult, Prefix, Timestamp};

use super::Worker;
use crate::backend::{Block, Cleared, Entry, Noticed};
use crate::inbox::Found;
use crate::worker::schedule::{Plan, State};

/// How much earlier than planned a block may end: the kernel's clock, a note and ours are not the same.
const SLACK: Duration = Duration::from_secs(2);

impl Worker {
    /// Takes in what others did. Backends hear of it while they work, too, and then nothing is left to wake anybody:
    /// so this comes before every waiting.
    pub(super) fn notice(&mut self) {
        self.hear();
        self.glance();
    }

    /// Takes in what was told of others. In the middle of a repair that is all: its blocks are still missing, and whoever
    /// looked there would take them for let in.
    pub(super) fn hear(&mut self) {
        match self.backend.noticed() {
            Ok(noticed) => self.take_in(noticed),
            Err(error) => {
                let name = self.backend.name();
                self.reporter.tell(&format!(
                    "{name} does not hear of changes any more, and will not mend what others damage: {error}"
                ));
            }
        }
    }

    /// Looks whether its blocks stand, if it is time to and nobody tells. Not in the middle of a repair that waits.
    fn glance(&mut self) {
        let due = |every: Duration| self.damage.is_none() && self.looked.elapsed() >= every;
        if !self.backend.look_every().is_some_and(due) {
            return;
        }
        let should = self.schedule.standing(Timestamp::now().plus(SLACK));
        // As long as there is anything: what is about to end may be let in, too.
        let looked =
            if self.schedule.is_empty() { Ok(Noticed::default()) } else { self.backend.look(should) };
        match looked {
            Ok(mut noticed) => {
                // What the kernel ended before its time nobody let in.
                if let Some(who) = noticed.edited.take_if(|_| self.behind) {
                    noticed.damaged.get_or_insert(who);
                }
                self.take_in(noticed);
            }
            Err(error) => {
                let name = self.backend.name();
                self.reporter.say(&format!("{name}: whether its blocks stand is not known: {error}"));
            }
        }
        self.looked = Instant::now();
    }

    /// When it looks next.
    pub(super) fn next_glance(&self) -> Option<Timestamp> {
        let every = self.backend.look_every()?;
        if self.damage.is_some() || self.schedule.is_empty() {
            return None;
        }
        Some(Timestamp::now().plus(every.saturating_sub(self.looked.elapsed())))
    }

    fn take_in(&mut self, noticed: Noticed) {
        // Whoever changed it may have mended it.
        self.waits_for_mending &= noticed == Noticed::default();
        let Noticed { mut let_in, decided, cleared, edited, damaged, told } = noticed;
        for sentence in told {
            self.reporter.tell(&format!("{}: {sentence}", self.backend.name()));
        }
        for entry in decided.into_values() {
            self.adopt(entry);
        }
        if let Some(Cleared { who, since }) = cleared {
            self.damage = None;
            let gone = self.standing().into_iter().filter(|scope| !since.contains(scope));
            let_in.extend(gone.map(|scope| (scope, who.clone())));
        }
        if let Some(who) = damaged {
            self.is_damaged(who);
        }
        // With damage beside it, what is missing was not chosen.
        if let (Some(who), None) = (edited, &self.damage) {
            // What the kernel is about to end may have ended: nobody let it in.
            let soon = self.backend.ends_by_itself().then(|| Timestamp::now().plus(SLACK));
            let lasts = |plan: &Plan| {
                plan.stands().is_some_and(|block| !soon.is_some_and(|soon| block.is_over(soon)))
            };
            let_in.extend(self.scopes_with(lasts).into_iter().map(|scope| (scope, who.clone())));
        }
        self.let_all_in(let_in);
        self.commit();
    }

    fn is_damaged(&mut self, who: String) {
        self.pace.disturbed(Instant::now());
        self.damage = Some(who);
    }

    /// The scopes that stand, as far as is known.
    fn standing(&self) -> Vec<Prefix> {
        self.scopes_with(|plan| plan.stands().is_some())
    }

    /// Some may stand again already. Where that cannot be asked, all has to be looked at.
    fn let_all_in(&mut self, let_in: Vec<(Prefix, String)>) {
        let Some((_, who)) = let_in.last() else { return };
        let named: HashSet<Prefix> = let_in.iter().map(|(scope, _)| *scope).collect();
        let standing = match self.backend.standing(&named) {
            Ok(standing) => standing,
            Err(error) => {
                let name = self.backend.name();
                self.reporter.say(&format!("{name}: whom {who} let in is not known: {error}"));
                return self.is_damaged(who.clone());
            }
        };
        let some_ports = |scope: &Prefix| {
            let block = self.schedule.get(*scope).and_then(Plan::stands);
            standing.contains(scope) && block.is_some_and(|block| !block.ports.is_empty())
        };
        let opened: Vec<Prefix> = named.into_iter().filter(some_ports).collect();
        let who = who.clone();
        if !opened.is_empty() && self.opened(&opened).is_err() {
            self.is_damaged(who);
        }
        for (scope, who) in let_in {
            if !standing.contains(&scope) {
                self.let_in(scope, &who);
            }
        }
    }

    /// Somebody let a scope in: that is a decision, and it is told.
    fn let_in(&mut self, scope: Prefix, who: &str) {
        let Some(plan) = self.schedule.get(scope).filter(|plan| plan.stands().is_some()).cloned() else {
            return;
        };
        // What would not go has gone: its end is told when it is tried again.
        if matches!(plan.state, State::Leaving { .. }) {
            return;
        }
        self.lets_in(scope);
        self.note(scope, None);
        // Before it is told: a kill right after must not bring it back.
        self.commit();
        let why = format!("let in by {who}");
        self.reporter.say(&format!("{}: {scope} was {why}", self.backend.name()));
        self.tell_end_because(scope, &plan, OutcomeResult::Released, Some(why));
    }

    /// Another process of psentry blocked a scope of ours anew: its end counts, unless a longer one is being tried.
    fn adopt(&mut self, entry: Entry) {
        let Some(Plan { block, state, .. }) = self.schedule.get(entry.scope) else { return };
        if matches!(state, State::Failing { .. }) && block.outlasts(entry.until) {
            return;
        }
        // What it shut beside ours does not replace ours.
        let beside = !entry.ports.is_empty() && !block.ports.is_empty() && !Block::from(&entry).shuts(block);
        let (ports, proto, until) = (block.ports.clone(), block.proto, block.until);
        let entry =
            if beside { entry.joined(&Entry { ports, proto, until, ..entry.clone() }) } else { entry };
        let Entry { until, rule, ports, proto, unproven, .. } = entry;
        // Without ports the transport is only told.
        let proto = if ports.is_empty() { proto.or(block.proto) } else { proto };
        let is = Block { until, rule, ports, proto, unproven, ..block.clone() };
        self.stands_as(entry.scope, is);
    }

    /// Somebody decided how a block stands.
    pub(super) fn stands_as(&mut self, scope: Prefix, is: Block) {
        let Some(Plan { block: was, common, .. }) = self.schedule.get(scope).cloned() else { return };
        self.note(scope, Some(&is));
        self.schedule.stands(scope, is.clone(), common, Timestamp::now(), self.backend.longest());
        self.inbox.tell(Found { scope, was, is });
    }
}
