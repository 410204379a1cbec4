//! What a touch is evidence of, and what the evidence against one source amounts to. It knows no source and no policy:
//! `tally.rs` adds the evidence up.

mod class;
mod totals;

pub use class::{Class, Classes};
pub use totals::Totals;
