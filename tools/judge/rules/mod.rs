//! What convicts. A rule sees the different ports that one source touched within the window, and weighs them; it
//! knows no clock, no address and no other source.
//!
//! To add a rule: a file here, a `pub use` below, and a place in `policy.rs`.

mod sequential;
mod trigger;

pub use sequential::Sequential;
pub use trigger::Trigger;

use std::fmt::Debug;

/// A way to weigh evidence.
pub trait Rule: Debug + Send {
    /// What verdicts call it.
    fn name(&self) -> &'static str;

    /// What `distinct` different ports weigh. It must not convict on none.
    fn weigh(&self, distinct: usize) -> Weight;

    /// Why that many ports convict, to end a sentence that says what the source did.
    fn grounds(&self) -> String;
}

/// What evidence weighs.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Weight {
    /// In the rule's own units; grows with the evidence.
    pub score: f64,
    /// Whether that is enough.
    pub convicts: bool,
}
