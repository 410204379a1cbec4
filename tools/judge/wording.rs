//! What verdicts and warnings say, in sentences that a person can check against the probes. It decides nothing.

use psentry_records::{Prefix, Proto};

use crate::guard::Admission;
use crate::memory::Contact;
use crate::policy::BrakePolicy;

/// How many ports a sentence names before it says how many more there are.
const NAMED_PORTS: usize = 5;

/// What the source did, to begin a sentence that a person can check against the probes.
#[must_use]
pub(crate) fn evidence(contacts: &[Contact]) -> String {
    let mut ports: Vec<&Contact> = Vec::new();
    for contact in contacts {
        if !ports.iter().any(|port| port.same_port(contact)) {
            ports.push(contact);
        }
    }
    let touched = ports.len();
    let name = |contact: &Contact| match (contact.port(), contact.proto()) {
        (Some(port), Proto::Other) => port.to_string(),
        (Some(port), proto) => format!("{port}/{}", proto.name().to_ascii_lowercase()),
        (None, proto) => proto.name().to_owned(),
    };
    let mut named: Vec<String> = ports.iter().take(NAMED_PORTS).map(|port| name(port)).collect();
    if touched > NAMED_PORTS {
        named.push(format!("{} more", touched - NAMED_PORTS));
    }
    let decoys = contacts.iter().all(|contact| contact.classes().are_decoys());
    let what = match (decoys, touched) {
        (true, 1) => "decoy",
        (true, _) => "different decoys",
        (false, 1) => "port",
        (false, _) => "different ports",
    };
    let proof = match contacts.iter().filter(|contact| contact.handshake()).count() {
        0 => " by packets that could be forged".to_owned(),
        proven if proven == contacts.len() => " with completed handshakes".to_owned(),
        proven if touched == contacts.len() => format!(", {proven} of them with completed handshakes"),
        _ => ", some of them with completed handshakes".to_owned(),
    };
    // Not how many addresses: one contact is remembered of each, up to the bound.
    let places = if contacts.len() > touched { " at several addresses" } else { "" };
    format!("It touched {touched} {what} ({}){places}{proof}", named.join(", "))
}

/// What the brake does from now on, if this block tripped it; while it is on, that was reported already.
pub(crate) fn brake(policy: &BrakePolicy, proven: bool, admission: Admission) -> Option<String> {
    let Admission::Trips(until) = admission else { return None };
    let which = if proven { "proven" } else { "unproven" };
    let most = policy.blocks;
    Some(format!(
        "More than {most} new blocks of {which} sources within a minute: until {until} psentry only watches such \
         sources; then it blocks again."
    ))
}

/// Why a prefix is blocked as a whole, and whom else that hits: `others` of its `capacity` sources.
pub(crate) fn sweep(prefix: Prefix, convicted: usize, others: usize, capacity: u64) -> String {
    format!(
        "{convicted} sources of {prefix} were convicted and behaved alike, so all of it is blocked for a while: besides \
         them {others} of its {capacity} sources were seen and not convicted, and any of them may be innocent."
    )
}
