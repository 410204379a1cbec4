//! What a touch is evidence of, and what the evidence against one source amounts to.

mod class;
mod tally;

pub use class::{Class, Classes};
pub(crate) use tally::counts;
pub use tally::{Tally, View};
