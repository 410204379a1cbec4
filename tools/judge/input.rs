//! Files of records, as psentry-block or logrotate leave them: plain, in gzip or in zstd, told apart by their first bytes,
//! and read from the oldest on, in whichever order their names are.

use std::fs::File;
use std::io::{self, BufReader, Read};
use std::path::{Path, PathBuf};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use psentry_follow::{FollowError, decompressed, from_oldest};
use psentry_records::{Reader, Record};

use crate::JudgeError;

/// Reads every record of the files, one after another, the file whose first record is the oldest first; `each` gets them with the text of their lines. Tells how far
/// it is on a terminal. Lines that are no records are counted.
///
/// # Errors
/// A file that cannot be read.
pub(crate) fn each_record(files: &[PathBuf], mut each: impl FnMut(&Record)) -> Result<u64, JudgeError> {
    let sizes = files.iter().map(|path| path.metadata().map_or(0, |meta| meta.len()));
    let bar = ProgressBar::with_draw_target(Some(sizes.sum()), ProgressDrawTarget::stderr());
    let style = ProgressStyle::with_template("{wide_bar} {bytes}/{total_bytes} {eta}");
    bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
    let mut skipped = 0;
    let unread = |FollowError { path, source }| JudgeError::Records { path, source };
    for path in from_oldest(files).map_err(unread)? {
        let failed = |source| JudgeError::Records { path: path.clone(), source };
        let source = open(path, &bar).map_err(failed)?;
        skipped += records_of(source, &mut each).map_err(failed)?;
    }
    bar.finish_and_clear();
    Ok(skipped)
}

/// The same for one stream.
pub(crate) fn records_of(source: impl Read, mut each: impl FnMut(&Record)) -> io::Result<u64> {
    let mut reader = Reader::new(source);
    let mut skipped = 0;
    while let Some(item) = reader.next_item()? {
        match item.record {
            Ok(record) => each(&record),
            Err(_) => skipped += 1,
        }
    }
    Ok(skipped)
}

fn open(path: &Path, bar: &ProgressBar) -> io::Result<Box<dyn Read>> {
    decompressed(BufReader::with_capacity(1 << 16, bar.wrap_read(File::open(path)?)))
}
