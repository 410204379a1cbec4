//! The evidence against one source, added up: once with all of it, and once with completed handshakes alone, which
//! nobody can forge.

use psentry_records::{Prefix, Timestamp};

use crate::evidence::{Class, Classes, Totals};
use crate::memory::{Contact, Source};
use crate::policy::{Policy, Treatment};

/// What a port weighs that was touched at another address of this machine already.
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
        for (n, contact) in source.contacts().enumerate() {
            let treatment = policy.treatment(networks, contact.port(), contact.proto());
            let weight = weight(policy, contact, &treatment);
            let age = newest.map(|newest| newest.since(contact.last())).unwrap_or_default();
            if weight <= 0.0 && treatment.convict.is_none() {
                continue;
            }
            let fresh = |age| age <= policy.window;
            let slow = |age, contact: &Contact| age <= policy.slow.window && contact.classes().last_long();
            // Another address of this machine is as easily tried as another port, but the port is the same mistake:
            // fresh, fresh by handshake, slow, slow by handshake.
            let mut again = [false; 4];
            for before in source.contacts().take(n).filter(|before| before.same_port(contact)) {
                let age = newest.map(|newest| newest.since(before.last())).unwrap_or_default();
                let (fresh, slow) = (fresh(age), slow(age, before));
                let now = [fresh, fresh && before.handshake(), slow, slow && before.handshake()];
                again.iter_mut().zip(now).for_each(|(again, now)| *again |= now);
            }
            let (fresh, slow) = (fresh(age), slow(age, contact));
            let [again, again_proven, again_slow, again_slow_proven] = again;
            add(&mut tally.all, weight, fresh, slow && !again_slow, again, &treatment);
            signature |= fresh && contact.signature();
            if contact.handshake() {
                add(&mut tally.proven, weight, fresh, slow && !again_slow_proven, again_proven, &treatment);
                signature_proven |= fresh && contact.signature();
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
        tally.since = newest.map(|newest| before(newest, policy.window));
        tally
    }

    /// The contacts that a verdict rests on: those within the window, or all that are remembered for a slow scan.
    pub(crate) fn contacts<'a>(&self, source: &'a Source, slow: bool) -> impl Iterator<Item = &'a Contact> {
        let since = self.since.filter(|_| !slow);
        source.contacts().filter(move |contact| since.is_none_or(|since| contact.last() >= since))
    }
}

/// Adds one contact: within the window, within that of slow scans, and of a port that was added already.
fn add(totals: &mut Totals, weight: f64, fresh: bool, slow: bool, again: bool, treatment: &Treatment) {
    if fresh {
        totals.distinct += usize::from(!again);
        totals.contacts += 1;
        totals.score_without_signature += if again { weight * ELSEWHERE } else { weight };
        totals.first_touch = totals.first_touch.or(treatment.convict);
    }
    if slow {
        totals.slow += 1;
    }
}

fn before(moment: Timestamp, span: std::time::Duration) -> Timestamp {
    let micros = i64::try_from(span.as_micros()).unwrap_or(i64::MAX);
    Timestamp::from_micros(moment.micros().saturating_sub(micros).max(0)).unwrap_or(moment)
}

fn weight(policy: &Policy, contact: &Contact, treatment: &Treatment) -> f64 {
    if treatment.ignore || treatment.handshake && !contact.handshake() {
        return 0.0;
    }
    policy.weights.of(contact.classes()) * treatment.weight
}

/// Whether a touch is worth remembering at all.
#[must_use]
pub(crate) fn counts(policy: &Policy, class: Class, treatment: &Treatment, handshake: bool) -> bool {
    if treatment.ignore || treatment.handshake && !handshake {
        return false;
    }
    treatment.convict.is_some() || policy.weights.of(Classes::one(class)) * treatment.weight > 0.0
}
