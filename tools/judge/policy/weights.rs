//! What each kind of evidence weighs: the logarithm of how much likelier a scanner does it than an innocent.

use super::sections::Odds;
use crate::evidence::{Class, Classes};

/// The weights, worked out once for every set of classes.
#[derive(Clone, Debug, PartialEq)]
pub struct Weights {
    sets: [f64; Classes::SETS],
    worm: f64,
    protocol: f64,
    signature: f64,
}

impl Weights {
    /// Of a scanner's first contacts, all but `theta1` are evidence. No weight is below zero: nothing that is as cheap
    /// as a packet clears a source.
    #[must_use]
    pub fn new(odds: &Odds, theta1: f64) -> Self {
        let weight = |odds: f64| ((1.0 - theta1) * odds).ln().max(0.0);
        let of = |class| match class {
            Class::Decoy => weight(odds.decoy),
            Class::Udp => weight(odds.udp),
            Class::Packet => weight(odds.packet),
            Class::Closed => weight(odds.closed),
            Class::Flags => weight(odds.flags),
            Class::Stray => weight(odds.stray),
        };
        let mut sets = [0.0; Classes::SETS];
        for (bits, weight) in (0..).zip(&mut sets) {
            let set = Classes::from_bits(bits);
            *weight = Class::ALL.into_iter().filter(|&class| set.has(class)).map(of).fold(0.0, f64::max);
        }
        let signature = odds.signature.ln().max(0.0);
        Weights { sets, worm: weight(odds.worm), protocol: weight(odds.protocol), signature }
    }

    /// What a contact of these classes weighs: as much as the heaviest of them.
    #[must_use]
    pub fn of(&self, classes: Classes) -> f64 {
        self.sets.get(usize::from(classes.bits())).copied().unwrap_or(0.0)
    }

    /// What a contact with a port that worms know weighs, if it is of these classes: more where the port is closed.
    #[must_use]
    pub fn of_worm(&self, classes: Classes) -> f64 {
        let weight = self.of(classes);
        if classes.has(Class::Closed) { weight.max(self.worm) } else { weight }
    }

    /// What a protocol without ports weighs.
    #[must_use]
    pub fn protocol(&self) -> f64 {
        self.protocol
    }

    /// What a recognized scanner weighs, once a source.
    #[must_use]
    pub fn signature(&self) -> f64 {
        self.signature
    }
}
