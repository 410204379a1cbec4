//! What verdicts and warnings say, in sentences that a person can check against the probes. It decides nothing.

use psentry_records::Proto;

use crate::brake::Admission;
use crate::memory::Contact;
use crate::policy::{BrakePolicy, Identity, Policy};
use crate::sweeps::DuePrefix;

/// How many ports a sentence names before it says how many more there are.
const NAMED_PORTS: usize = 5;

/// What the source did, to begin a sentence that a person can check against the probes.
#[must_use]
pub(crate) fn evidence(policy: &Policy, contacts: &[Contact]) -> String {
    // What is one contact is named together, and each of its ports once.
    let mut groups: Vec<(Identity, Vec<String>)> = Vec::new();
    for contact in contacts {
        let (identity, name) = (policy.identity(contact), port(contact.port(), contact.proto()));
        match groups.iter_mut().find(|(known, _)| *known == identity) {
            Some((_, names)) if names.contains(&name) => {}
            Some((_, names)) => names.push(name),
            None => groups.push((identity, vec![name])),
        }
    }
    let touched = groups.len();
    let mut named: Vec<String> = groups
        .iter()
        .take(NAMED_PORTS)
        .map(|(identity, names)| match policy.families.name(*identity) {
            Some(family) if names.len() > 1 => format!("{family}: {}", names.join(" + ")),
            _ => names.join(" + "),
        })
        .collect();
    if touched > NAMED_PORTS {
        named.push(format!("{} more", touched - NAMED_PORTS));
    }
    let decoys = contacts.iter().all(|contact| contact.classes().are_decoys());
    let portless = contacts.iter().filter(|contact| contact.port().is_none()).count();
    let what = match (portless, decoys, touched) {
        (0, true, 1) => "decoy",
        (0, true, _) => "different decoys",
        (0, false, 1) => "port",
        (0, false, _) => "different ports",
        (_, _, 1) => "protocol",
        (n, ..) if n == contacts.len() => "different protocols",
        _ => "different ports and protocols",
    };
    let proof = match contacts.iter().filter(|contact| contact.handshake()).count() {
        0 => " by packets that could be forged".to_owned(),
        proven if proven == contacts.len() => " with completed handshakes".to_owned(),
        proven if touched == contacts.len() => format!(", {proven} of them with completed handshakes"),
        _ => ", some of them with completed handshakes".to_owned(),
    };
    // Not how many machines: of each a hash is remembered.
    let elsewhere = |(n, contact): (usize, &Contact)| {
        let alike = |other: &&Contact| policy.identity(other) == policy.identity(contact);
        contacts.iter().take(n).filter(alike).any(|other| other.host() != contact.host())
    };
    let places = if contacts.iter().enumerate().any(elsewhere) { " on several machines" } else { "" };
    // Of more contacts than are remembered it is not known how many more.
    let at_least = if contacts.len() >= policy.max_contacts { "at least " } else { "" };
    format!("It touched {at_least}{touched} {what} ({}){places}{proof}", named.join(", "))
}

/// A port and its protocol as people write it: `23/tcp`, `ICMP`, `protocol 47`.
#[must_use]
pub(crate) fn port(port: Option<u16>, proto: Proto) -> String {
    match (port, proto) {
        (Some(port), Proto::Other) => port.to_string(),
        (Some(port), proto) => format!("{port}/{}", proto.name().to_ascii_lowercase()),
        (None, Proto::Number(number)) => format!("protocol {number}"),
        (None, proto) => proto.name().to_owned(),
    }
}

/// Why a block was turned down by the brake, with a space before it.
pub(crate) fn turned_down(admission: Admission) -> &'static str {
    match admission {
        Admission::Crowded(_) => {
            " It is only watched, because as many other sources of its network were blocked within a minute as may be."
        }
        _ => " It is only watched, because the brake is on.",
    }
}

/// What the brake does from now on, if this block tripped it; while it is on, that was reported already.
pub(crate) fn brake(policy: &BrakePolicy, proven: bool, admission: Admission) -> Option<String> {
    let Admission::Trips(until) = admission else { return None };
    let which = if proven { "by handshakes" } else { "by packets that could be forged" };
    let most = policy.most(proven);
    Some(format!(
        "Sources in more than {most} networks were convicted {which} within a minute: until {until} psentry only watches \
         such sources; then it blocks again."
    ))
}

/// Why a prefix is blocked as a whole, and which other sources that affects: `others` of its `capacity` sources.
pub(crate) fn sweep(due: &DuePrefix, others: usize, capacity: u64) -> String {
    let DuePrefix { prefix, sources, parts: (parts, len) } = *due;
    let single = len == if prefix.is_ipv4() { 32 } else { 64 };
    let spread = if single { String::new() } else { format!(", in {parts} different /{len}s,") };
    format!(
        "{sources} sources of {prefix}{spread} were convicted and behaved alike, so all of it is blocked for a while: besides \
         them {others} of its {capacity} sources were seen and not convicted, and any of them may be innocent."
    )
}
