//! What the judge says on standard error of itself: that it is ready, and at its end what this run did.

use std::path::Path;

use psentry_stage::counted;

use crate::{Counters, Policy, State};

/// That the judge is ready: with which policy, and with what it remembers in `folder`, if in one.
pub(crate) fn ready(policy: &Policy, state: &State, folder: Option<&Path>) -> String {
    let number = |count: usize| u64::try_from(count).unwrap_or(u64::MAX);
    let rules = counted(number(policy.named.len()), "rule", "rules");
    let observe = if policy.block.observe { ", only observing" } else { "" };
    let sources = counted(number(state.sources.held()), "source", "sources");
    let remembered = folder.map(|folder| format!(", {sources} remembered in {}", folder.display()));
    format!("ready: {rules} in the policy{observe}{}", remembered.unwrap_or_default())
}

/// What a run did that began with the counters `before` and ended with `after`.
pub(crate) fn ended(before: &Counters, after: &Counters) -> String {
    let parts = [
        (after.records - before.records.min(after.records), "record", "records"),
        (after.probes - before.probes.min(after.probes), "probe", "probes"),
        (after.blocks - before.blocks.min(after.blocks), "block", "blocks"),
        (after.watches - before.watches.min(after.watches), "watch", "watches"),
        (after.unblocks - before.unblocks.min(after.unblocks), "unblock", "unblocks"),
    ];
    let parts = parts.map(|(count, one, many)| counted(count, one, many));
    format!("ended: {}", parts.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_tells_what_it_did_itself() {
        let before = Counters { records: 100, probes: 90, blocks: 7, ..Counters::default() };
        let after = Counters { records: 103, probes: 92, blocks: 8, watches: 1, ..before };
        assert_eq!(ended(&before, &after), "ended: 3 records, 2 probes, 1 block, 1 watch, 0 unblocks");
        // A state that was damaged may have begun anew.
        assert!(ended(&after, &before).starts_with("ended: 0 records"));
    }

    #[test]
    fn a_state_is_named_where_there_is_one() {
        let (policy, state) = (Policy::from_text("").unwrap(), State::new(10));
        assert_eq!(ready(&policy, &state, None), "ready: 0 rules in the policy");
        let said = ready(&policy, &state, Some(Path::new("/var/lib/psentry-judge")));
        assert!(said.ends_with(", 0 sources remembered in /var/lib/psentry-judge"), "{said}");
    }
}
