//! Whether a file is another than before, without reading it: for configuration that is followed as it changes.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::SystemTime;

/// What differs between two contents of a file: where every file has the same time, as in Nix's store, another file in
/// its place is another inode. `None`: there is no file, or it cannot be looked at.
pub type FileStamp = Option<(SystemTime, u64, u64, u64)>;

/// The stamp of a file. Take it before the file is read: one that changes meanwhile is then read once more.
#[must_use]
pub fn file_stamp(path: &Path) -> FileStamp {
    let meta = fs::metadata(path).ok()?;
    Some((meta.modified().ok()?, meta.len(), meta.dev(), meta.ino()))
}
