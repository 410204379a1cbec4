//! The log of all records, for its readers: line by line from the oldest file to what is being written, and on as it grows.
//! A reader that keeps its [`Cursor`] goes on after a restart where it was, whatever was rotated or compressed meanwhile; what
//! was removed before it was read is reported.
//!
//! This is how every reader of all records gets them: stages write to one log only, and have no second output. Who writes the log and rotates it is psentry-log's.
//!
//! | file | what it holds |
//! |---|---|
//! | `follower.rs` | [`Follower`]: the next line, across rotations |
//! | `cursor.rs` | [`Cursor`]: where a reader is |
//! | `files.rs` | the files of a log, and which of them a cursor is in |
//! | `lines.rs` | whole lines of one file, of bounded length |
//! | `decompress.rs` | gzip and zstd, told by their first bytes |
//! | `watch.rs` | that something was written |
//! | `records.rs` | [`Records`]: the records from a moment on, and about some scopes |
//! | `archive.rs` | files that somebody names, from the oldest on |

#![forbid(unsafe_code)]

mod archive;
mod cursor;
mod decompress;
mod files;
mod follower;
mod lines;
mod records;
mod watch;

use std::io;
use std::path::{Path, PathBuf};

pub use archive::from_oldest;
pub use cursor::Cursor;
pub use decompress::decompressed;
pub use follower::{Follower, Start, Step};
pub use records::{RecordStep, Records};

/// The longest line in bytes, with its newline: as long as PIPE_BUF lets a record be. Longer ones are passed over.
pub const LONGEST_LINE: usize = 4096;

/// The files of the log at this path, the oldest first; those that are compressed among them.
///
/// # Errors
/// Its directory cannot be read; that it is missing is none.
pub fn log_files(log: &Path) -> Result<Vec<PathBuf>, FollowError> {
    let newest_first = files::files(log).map_err(FollowError::of(log))?;
    Ok(newest_first.into_iter().rev().map(|file| file.path).collect())
}

/// Why a log cannot be read.
#[derive(Debug, thiserror::Error)]
#[error("cannot read {}: {source}", path.display())]
pub struct FollowError {
    /// The file.
    pub path: PathBuf,
    /// What the system says, or that a compressed file is damaged.
    pub source: io::Error,
}

impl FollowError {
    fn of(path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| FollowError { path, source }
    }
}
