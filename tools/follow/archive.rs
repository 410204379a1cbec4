//! Files of records that somebody names, as psentry-block or logrotate leave them: plain, in gzip or in zstd, and read from the
//! oldest on, in whichever order their names are. Nothing here follows a log that is being written.

use std::fs::File;
use std::io::{self, BufReader};
use std::path::{Path, PathBuf};

use psentry_records::{Reader, Timestamp};

use crate::{FollowError, decompressed};

/// These files in the order of their first records: `FILE*` has the newest one of a rotated log first. What is no regular file comes
/// first.
///
/// # Errors
/// A file cannot be read.
pub fn from_oldest(files: &[PathBuf]) -> Result<Vec<&PathBuf>, FollowError> {
    let mut starts = Vec::with_capacity(files.len());
    for path in files {
        starts.push((first_time(path).map_err(FollowError::of(path))?, path));
    }
    starts.sort_by_key(|(start, _)| *start);
    Ok(starts.into_iter().map(|(_, path)| path).collect())
}

/// When the first record was written; `None`: there is none, or it cannot be read twice, as of a pipe.
fn first_time(path: &Path) -> io::Result<Option<Timestamp>> {
    if !path.metadata()?.is_file() {
        return Ok(None);
    }
    let mut reader = Reader::new(decompressed(BufReader::new(File::open(path)?))?);
    while let Some(item) = reader.next_item()? {
        if let Some(moment) = item.record.ok().and_then(|record| record.timestamp()) {
            return Ok(Some(moment));
        }
    }
    Ok(None)
}
