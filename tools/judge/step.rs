//! From a record to a verdict: the whole decision, in one function without a clock, a file or a socket.

use std::time::Duration;

use psentry_records::{Action, Common, Prefix, Probe, Proto, Record, Timestamp, Verdict, VerdictBody};

use crate::source::Conviction;
use crate::{Policy, Rule, Source, State, Weight};

/// Judges one record at the moment `now`, which is the record's own time. A verdict comes out when a source is
/// convicted, and once more when a conviction that could rest on forged packets is proven by handshakes.
pub fn step(state: &mut State, policy: &Policy, record: &Record, now: Timestamp) -> Option<Verdict> {
    let Record::Probe(probe) = record else { return None };
    let addr = probe.common.src_ip?;
    if policy.ignore.holds(addr) {
        return None;
    }
    let scope = policy.scope(addr);
    let source = state.source(scope);
    source.release(now);
    source.note(probe, now, policy.window, policy.max_contacts);

    let (touched, proven) = source.distinct();
    let (rule, weight) = policy.rules.iter().find_map(|rule| {
        let weight = rule.weigh(touched);
        weight.convicts.then_some((&**rule, weight))
    })?;
    let proven = rule.weigh(proven).convicts;
    if source.convicted.is_some_and(|standing| standing.proven || !proven) {
        return None;
    }
    let duration = if proven { policy.duration } else { policy.unproven };
    if source.convicted.is_none() {
        source.offences = source.offences.saturating_add(1);
    }
    source.convicted = Some(Conviction { until: now.plus(duration), proven });
    let action = if policy.observe { Action::Watch } else { Action::Block };
    Some(verdict(action, source, scope, probe, now, duration, proven, rule, weight))
}

#[allow(clippy::too_many_arguments)] // the parts of one record, named where it is put together
fn verdict(
    action: Action,
    source: &Source,
    scope: Prefix,
    probe: &Probe,
    now: Timestamp,
    duration: Duration,
    proven: bool,
    rule: &dyn Rule,
    weight: Weight,
) -> Verdict {
    let first = source.contacts.iter().map(|contact| contact.first).min();
    let last = source.contacts.iter().map(|contact| contact.last).max();
    let mut ports: Vec<u16> = source.contacts.iter().filter_map(|contact| contact.port).collect();
    ports.sort_unstable();
    ports.dedup();
    let body = VerdictBody {
        duration: Some(duration.as_secs()),
        score: Some(weight.score),
        rule: Some(rule.name().to_owned()),
        reason: Some(reason(source, rule)),
        offence: Some(source.offences),
        ports,
        kinds: source.kinds(),
        count: Some(source.probes()),
        first,
        last,
        handshake: Some(proven),
        ..VerdictBody::new(action, scope)
    };
    Verdict { common: Common { timestamp: now, ..probe.common.clone() }, body }
}

/// How many ports a sentence names before it says "and more".
const NAMED: usize = 5;

/// Why, in one sentence that a person can check against the probes.
fn reason(source: &Source, rule: &dyn Rule) -> String {
    let touched = source.contacts.len();
    let mut named: Vec<String> = source
        .contacts
        .iter()
        .take(NAMED)
        .map(|contact| match (contact.port, contact.proto) {
            (Some(port), Proto::Other) => port.to_string(),
            (Some(port), proto) => format!("{port}/{}", proto.name().to_ascii_lowercase()),
            (None, proto) => proto.name().to_owned(),
        })
        .collect();
    if touched > NAMED {
        named.push(format!("{} more", touched - NAMED));
    }
    let decoys = if touched == 1 { "decoy" } else { "different decoys" };
    let proof = match source.distinct().1 {
        0 => " by packets that could be forged".to_owned(),
        proven if proven == touched => " with completed handshakes".to_owned(),
        proven => format!(", {proven} of them with completed handshakes"),
    };
    format!("It touched {touched} {decoys} ({}){proof}; {}.", named.join(", "), rule.grounds())
}

#[cfg(test)]
mod tests;
