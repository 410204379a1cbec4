//! Whether a file is another than before, without reading it: for configuration that is followed as it changes.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

/// What differs between two contents of a file, or between two of its modes: when its inode changed, and which that is.
/// `None`: there is no file, or it cannot be looked at.
pub type FileStamp = Option<(i64, i64, u64, u64)>;

/// The stamp of a file. Take it before the file is read: one that changes meanwhile is then read once more.
#[must_use]
pub fn file_stamp(path: &Path) -> FileStamp {
    let meta = fs::metadata(path).ok()?;
    Some((meta.ctime(), meta.ctime_nsec(), meta.dev(), meta.ino()))
}
