//! One probe under judgement, as every part of the decision is given it.

use psentry_records::Prefix;

use crate::clock::Tick;
use crate::observation::Observation;
use crate::policy::Policy;

pub(super) struct Case<'a> {
    pub(super) policy: &'a Policy,
    pub(super) seen: &'a Observation,
    /// The addresses that are judged as one with the probe's source.
    pub(super) scope: Prefix,
    /// The probe's own time, and that of the stream.
    pub(super) tick: Tick,
    /// Whether the source is behind this machine, and the policy does not block such.
    pub(super) only_watched: bool,
}
