//! How a finding is written down as a verdict, and counted.

use psentry_records::{Action, Common, Kind, Prefix, Timestamp, Verdict, VerdictBody};

use super::case::Case;
use super::finding::Finding;
use crate::memory::Contact;
use crate::policy::BlockDuration;
use crate::state::State;

/// When a block that begins now ends.
pub(super) fn end(duration: BlockDuration, now: Timestamp) -> Timestamp {
    match duration {
        BlockDuration::For(span) => now.plus(span),
        BlockDuration::Forever => Timestamp::MAX,
    }
}

pub(super) fn count(state: &mut State, action: Action) {
    match action {
        Action::Block => state.counters.blocks += 1,
        Action::Watch => state.counters.watches += 1,
        Action::Unblock => state.counters.unblocks += 1,
    }
}

/// The verdict on a scope, which is the probe's own or the prefix around it.
pub(super) fn verdict(
    case: &Case,
    action: Action,
    scope: Prefix,
    finding: &Finding,
    duration: Option<BlockDuration>,
    reason: String,
) -> Verdict {
    let contacts = &finding.contacts;
    let mut ports: Vec<u16> = contacts.iter().filter_map(Contact::port).collect();
    ports.sort_unstable();
    ports.dedup();
    let kinds: Vec<Kind> = Contact::kinds(contacts.iter());
    let body = VerdictBody {
        duration: match duration {
            Some(BlockDuration::For(span)) => Some(span.as_secs()),
            Some(BlockDuration::Forever) | None => None,
        },
        level: Some(finding.level),
        score: Some(finding.score),
        rule: Some(finding.rule.clone()),
        reason: Some(reason),
        offence: finding.offence,
        ports,
        kinds,
        count: Some(contacts.iter().map(|contact| u64::from(contact.count())).sum()),
        first: contacts.iter().map(Contact::first).min(),
        last: contacts.iter().map(Contact::last).max(),
        handshake: Some(finding.proven),
        ..VerdictBody::new(action, scope)
    };
    let seen = case.seen;
    let common = Common {
        src_ip: Some(seen.src),
        src_port: seen.src_port,
        dest_port: seen.port,
        proto: Some(seen.proto),
        ..Common::at(case.tick.at)
    };
    Verdict { common, body }
}
