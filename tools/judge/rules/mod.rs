//! What convicts. A rule sees the evidence against one source, added up, and says whether it is enough; it knows no
//! clock, no address, no policy and no other source.
//!
//! To add a rule: a file here, a `pub use` below, and a place in `policy/compile.rs`.

mod rule;
mod sequential;
mod slow;
mod touches;
mod trigger;

pub(crate) use rule::rounded;
pub use rule::{Evaluation, Rule};
pub use sequential::Sequential;
pub use slow::SlowScan;
pub use touches::Touches;
pub use trigger::Trigger;
