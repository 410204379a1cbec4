//! The evidence against one source, added up, as the rules see it.

/// The sums of one kind of evidence: of all of it, or of completed handshakes alone.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Totals {
    /// How many different ports within the window; of protocols without ports, those that a `[[rule]]` names.
    pub distinct: usize,
    /// How often the port was touched that was touched most, without a pause longer than the window.
    pub touches: u32,
    /// How many contacts within the window: ports on different machines count each.
    pub contacts: usize,
    /// What they weigh, in natural logarithms of a likelihood ratio.
    pub score: f64,
    /// What they would weigh had no scanner been recognized by its packets.
    pub score_without_signature: f64,
    /// How many different ports within the window of slow scans.
    pub slow: usize,
    /// Which `[[rule]]` convicts at the first touch, by its place in the policy.
    pub first_touch: Option<usize>,
    /// What the threshold of this source is multiplied by; 1 where no `[[rule]]` says otherwise.
    pub threshold_factor: f64,
}
