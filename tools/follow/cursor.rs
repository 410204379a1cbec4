//! Where a reader of the log is.

use serde::{Deserialize, Serialize};

/// A place in the log: a file, known by its first line, and how many bytes of its text come before it.
///
/// A file is not known by its inode, since another file may get that, and since a file that is compressed gets another one. First
/// lines differ: each holds the microsecond in which it was written.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cursor {
    /// The first line of the file, without its newline; empty: the place is before all that there is.
    pub(crate) first_line: String,
    /// The offset in bytes, in the text as it was before it was compressed.
    pub(crate) offset: u64,
}
