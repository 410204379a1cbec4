//! Files of records, as psentry-block or logrotate leave them: plain, in gzip or in zstd, told apart by their first bytes,
//! and read from the oldest on, in whichever order their names are.

use std::fs::File;
use std::io::{self, BufReader, Read};
use std::path::{Path, PathBuf};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use psentry_follow::decompressed;
use psentry_records::{Outcome, Probe, Reader, Record, Stats, Timestamp, Verdict, Vouch};

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
    for path in from_oldest(files)? {
        let failed = |source| JudgeError::Records { path: path.clone(), source };
        let source = open(path, &bar).map_err(failed)?;
        skipped += records_of(source, &mut each).map_err(failed)?;
    }
    bar.finish_and_clear();
    Ok(skipped)
}

/// The files in the order of their first records: FILE* has the newest one of a rotated log first.
fn from_oldest(files: &[PathBuf]) -> Result<Vec<&PathBuf>, JudgeError> {
    let mut starts = Vec::with_capacity(files.len());
    for path in files {
        let start = first_time(path).map_err(|source| JudgeError::Records { path: path.clone(), source })?;
        starts.push((start, path));
    }
    starts.sort_by_key(|(start, _)| *start);
    Ok(starts.into_iter().map(|(_, path)| path).collect())
}

/// When the first record was written; `None`: there is none, or it cannot be read twice, as of a pipe.
fn first_time(path: &Path) -> io::Result<Option<Timestamp>> {
    if !path.metadata()?.is_file() {
        return Ok(None);
    }
    let mut reader = Reader::new(open(path, &ProgressBar::hidden())?);
    while let Some(item) = reader.next_item()? {
        match item.record {
            Ok(Record::Probe(Probe { common, .. }))
            | Ok(Record::Verdict(Verdict { common, .. }))
            | Ok(Record::Outcome(Outcome { common, .. }))
            | Ok(Record::Vouch(Vouch { common, .. }))
            | Ok(Record::Stats(Stats { common, .. })) => return Ok(Some(common.timestamp)),
            Ok(Record::Other(_)) | Err(_) => {}
        }
    }
    Ok(None)
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
