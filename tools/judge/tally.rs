//! The evidence against one source, added up: once with all of it, and once with completed handshakes alone, which
//! nobody can forge.

use std::iter;

use psentry_records::{Prefix, Proto, Timestamp};

use crate::evidence::{Class, Classes, Totals};
use crate::memory::{Contact, Source};
use crate::observation::Observation;
use crate::policy::{Networks, Policy, Treatment};

/// What a port weighs that was touched on another machine already.
const ELSEWHERE: f64 = 0.5;

/// The sums of both kinds, and which contacts are in them.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Tally {
    /// Of all evidence.
    pub(crate) all: Totals,
    /// Of completed handshakes alone.
    pub(crate) proven: Totals,
    /// From when on a touch counts as within the window.
    since: Option<Timestamp>,
}

/// A touched port that is evidence.
struct Weighed<'a> {
    contact: &'a Contact,
    weight: f64,
    /// Within the window.
    fresh: bool,
    /// Within that of slow scans.
    slow: bool,
    /// It is a port, or a `[[rule]]` names its protocol: rules that count ports count it.
    counts: bool,
    /// Which rule convicts at the first touch.
    convict: Option<usize>,
}

impl Tally {
    /// Adds up what is known of the source of that scope.
    #[must_use]
    pub(crate) fn of(source: &Source, scope: Prefix, policy: &Policy) -> Self {
        let newest = source.newest();
        let networks = policy.networks_of(scope);
        let threshold_factor = policy.threshold_of(networks);
        let mut tally = Tally::default();
        (tally.all.threshold_factor, tally.proven.threshold_factor) = (threshold_factor, threshold_factor);
        let (mut certain, mut uncertain) = (0, 0);
        let (mut signature, mut signature_proven) = (false, false);
        let several = source.contact_count() > 1;
        // Clients that give up within a second, and come again, touch veiled ports and nothing else.
        if source.contacts().all(Contact::veiled) {
            return tally;
        }
        let weigh = |contact| weigh(policy, networks, newest, contact);
        for (n, contact) in source.contacts().enumerate() {
            let Some(one) = weigh(contact) else { continue };
            // Those that are one contact with it, or would be on the same machine, and whether they come before it.
            let alike = || {
                let others = source.contacts().enumerate().filter(move |&(m, _)| m != n);
                let others = others.filter(|(_, other)| policy.identity(other) == policy.identity(contact));
                others.filter_map(|(m, other)| Some((m < n, weigh(other)?)))
            };
            // Most sources have touched one port, and every first record of theirs comes by here.
            if several {
                add(&mut tally.all, &one, alike());
            } else {
                add(&mut tally.all, &one, iter::empty());
            }
            signature |= one.fresh && contact.signature();
            // A stray is what an honest client sends again and again.
            let touches =
                if one.fresh && one.counts && !contact.classes().are_strays() { contact.count() } else { 0 };
            tally.all.touches = tally.all.touches.max(touches);
            if contact.handshake() {
                tally.proven.touches = tally.proven.touches.max(touches);
                if several {
                    add(&mut tally.proven, &one, alike().filter(|(_, other)| other.contact.handshake()));
                } else {
                    add(&mut tally.proven, &one, iter::empty());
                }
                signature_proven |= one.fresh && contact.signature();
                if contact.certain() { certain += 1 } else { uncertain += 1 }
            }
        }
        // One handshake by SYN cookie can be guessed with some hundred million packets; two are beyond reason.
        if certain == 0 && uncertain == 1 {
            tally.proven = Totals { threshold_factor, ..Totals::default() };
        }
        let bonus = policy.weights.signature();
        tally.all.score = tally.all.score_without_signature + if signature { bonus } else { 0.0 };
        tally.proven.score =
            tally.proven.score_without_signature + if signature_proven { bonus } else { 0.0 };
        tally.since = newest.map(|newest| newest.minus(policy.window));
        tally
    }

    /// The contacts that a verdict rests on: those within the window, or all that are remembered for a slow scan.
    pub(crate) fn contacts<'a>(&self, source: &'a Source, slow: bool) -> impl Iterator<Item = &'a Contact> {
        let since = self.since.filter(|_| !slow);
        source.contacts().filter(move |contact| since.is_none_or(|since| contact.last() >= since))
    }
}

/// Adds a touched port beside those that are `alike`: on its machine it is one contact with them, of which the first is
/// counted, at the weight of the heaviest; one that was counted on another machine makes it weigh less.
fn add<'a>(totals: &mut Totals, one: &Weighed, alike: impl Iterator<Item = (bool, Weighed<'a>)>) {
    let (mut first, mut first_slow, mut elsewhere, mut weight) = (true, true, false, one.weight);
    for (earlier, other) in alike {
        first_slow &= !(earlier && other.slow);
        let here = other.contact.host() == one.contact.host();
        if other.fresh && here {
            first &= !earlier;
            weight = weight.max(other.weight);
        }
        elsewhere |= other.fresh && !here && earlier;
    }
    if one.fresh {
        totals.first_touch = totals.first_touch.or(one.convict);
        if first {
            totals.distinct += usize::from(!elsewhere && one.counts);
            totals.contacts += 1;
            totals.score_without_signature += if elsewhere { weight * ELSEWHERE } else { weight };
        }
    }
    totals.slow += usize::from(one.slow && first_slow);
}

/// What a touched port is evidence of; `None`: of nothing.
fn weigh<'a>(
    policy: &Policy,
    networks: Networks,
    newest: Option<Timestamp>,
    contact: &'a Contact,
) -> Option<Weighed<'a>> {
    let treatment = policy.treatment(networks, contact.port(), contact.proto());
    let (port, proto, classes) = (contact.port(), contact.proto(), contact.classes());
    let weight = weight(policy, (port, proto), classes, &treatment, contact.handshake());
    if weight <= 0.0 && treatment.convict.is_none() {
        return None;
    }
    let counts = port.is_some() || treatment.named;
    let age = newest.map(|newest| newest.since(contact.last())).unwrap_or_default();
    Some(Weighed {
        contact,
        weight,
        fresh: age <= policy.window,
        slow: counts && age <= policy.slow.window && classes.last_long(),
        counts,
        convict: treatment.convict,
    })
}

/// What a contact weighs with that port and protocol, of these classes.
fn weight(
    policy: &Policy,
    (port, proto): (Option<u16>, Proto),
    classes: Classes,
    treatment: &Treatment,
    handshake: bool,
) -> f64 {
    if treatment.ignore || treatment.handshake && !handshake {
        return 0.0;
    }
    let weight = match port {
        Some(port) if policy.worms.holds(proto, port) => policy.weights.of_worm(classes),
        None if !treatment.named => policy.weights.protocol(),
        _ => policy.weights.of(classes),
    };
    weight * treatment.weight
}

/// Whether a touch is worth remembering at all.
#[must_use]
pub(crate) fn counts(policy: &Policy, seen: &Observation, class: Class, treatment: &Treatment) -> bool {
    let excluded = treatment.ignore || treatment.handshake && !seen.handshake;
    let weight = weight(policy, (seen.port, seen.proto), Classes::one(class), treatment, seen.handshake);
    !excluded && (treatment.convict.is_some() || weight > 0.0)
}
