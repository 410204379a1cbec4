//! What convicts. A rule sees the evidence against one source, added up, and says whether it is enough; it knows no
//! clock, no address and no other source.
//!
//! To add a rule: a file here, a `pub use` below, and a place in `policy/mod.rs`.

mod sequential;
mod slow;
mod trigger;

pub use sequential::Sequential;
pub use slow::SlowScan;
pub use trigger::Trigger;

use std::fmt::Debug;

use crate::evidence::View;

/// A way to decide.
pub trait Rule: Debug + Send {
    /// What verdicts call it.
    fn name(&self) -> &'static str;

    /// What that evidence weighs. It must not convict on none.
    fn weigh(&self, evidence: &View) -> Weight;

    /// Why it convicts, to end a sentence that says what the source did.
    fn grounds(&self) -> String;

    /// Whether it looks back beyond the window.
    fn is_slow(&self) -> bool {
        false
    }
}

/// What evidence weighs.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Weight {
    /// In the rule's own units; grows with the evidence.
    pub score: f64,
    /// Whether that is enough.
    pub convicts: bool,
}

/// A score as verdicts tell it.
pub(crate) fn rounded(score: f64) -> f64 {
    (score * 1000.0).round() / 1000.0
}
