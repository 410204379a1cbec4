//! What the judge remembers of sources, bounded: [`Table`] of [`Source`]s of [`Contact`]s.

mod contact;
mod key;
mod slot;
mod source;
mod table;

pub use contact::Contact;
pub(crate) use contact::ContactEntry;
pub use source::{Conviction, Source};
pub use table::Table;
