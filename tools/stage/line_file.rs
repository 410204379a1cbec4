//! Lines into a regular file whose disk may be full or broken. What the disk does not take is lost and counted, and the
//! program goes on: a full disk stops no block. A line that was cut off is ended before the next one, so that no two run
//! together.
//!
//! It prints nothing itself, and neither opens files nor rotates them.

use std::fs::File;
use std::io::{self, ErrorKind, Write};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::os::unix::fs::FileExt;
use std::time::{Duration, Instant};

use nix::errno::Errno;

use crate::counted;

/// How often losses are reported at most.
const EVERY: Duration = Duration::from_secs(60);

/// Whether a program goes on after this error of writing to a regular file, and only counts what it could not write: the
/// disk or a quota is full (ENOSPC, EDQUOT), the file is as long as it may be (EFBIG), the disk fails (EIO), or the kernel
/// made it read-only because it did (EROFS). It holds for regular files alone: EIO of a terminal, for one, is the end.
#[must_use]
pub fn is_survivable(error: &io::Error) -> bool {
    let errno = error.raw_os_error().map(Errno::from_raw);
    matches!(errno, Some(Errno::ENOSPC | Errno::EDQUOT | Errno::EFBIG | Errno::EIO | Errno::EROFS))
}

/// A regular file that takes lines at its end.
pub struct LineFile {
    file: File,
    /// What a sentence calls it.
    name: String,
    /// Whether its last line has no end: the next one begins with one.
    torn: bool,
    lost: u64,
    full: bool,
    /// Why the last line was lost; `None`: it was written.
    failure: Option<String>,
    /// When a loss was last reported, and whether its end is yet to be.
    reported: Option<Instant>,
    ongoing: bool,
    report: Option<String>,
}

impl LineFile {
    /// Lines into `file`, at its end or where it is written next; sentences call it `name`.
    #[must_use]
    pub fn new(file: File, name: &str) -> Self {
        // One that cannot be read is taken to be whole: an empty line at each start would be seen by every reader.
        let torn = is_torn(&file).unwrap_or(false);
        LineFile {
            file,
            name: name.to_owned(),
            torn,
            lost: 0,
            full: false,
            failure: None,
            reported: None,
            ongoing: false,
            report: None,
        }
    }

    /// Writes a line, which ends with a newline. A line that the disk does not take, or not all of, is lost and counted.
    ///
    /// # Errors
    /// write(2)'s, but those that [`is_survivable`] names.
    pub fn write_line(&mut self, line: &[u8], now: Instant) -> io::Result<()> {
        let whole;
        let bytes = if self.torn {
            whole = [b"\n", line].concat();
            &whole
        } else {
            line
        };
        match write_all(&mut self.file, bytes) {
            Ok(()) => {
                (self.torn, self.failure) = (false, None);
                if std::mem::take(&mut self.ongoing) {
                    let lost = counted(self.lost, "record was", "records were");
                    self.report = Some(format!("{} can be written again; {lost} lost", self.name));
                }
                Ok(())
            }
            Err((written, error)) => {
                self.torn |= written > 0;
                if !is_survivable(&error) {
                    return Err(error);
                }
                self.count_loss(&error, now);
                Ok(())
            }
        }
    }

    /// From now on lines go into another file, at its end; what was lost stays counted.
    pub fn replace(&mut self, file: File) {
        self.torn = is_torn(&file).unwrap_or(false);
        self.file = file;
    }

    /// Counts a line that was not written because of this error, such as of opening the file.
    pub fn count_loss(&mut self, error: &io::Error, now: Instant) {
        self.lost += 1;
        self.note_failure(error, now);
    }

    /// Notes, and reports, that lines are going to be lost because of this error.
    pub fn note_failure(&mut self, error: &io::Error, now: Instant) {
        self.full = error
            .raw_os_error()
            .map(Errno::from_raw)
            .is_some_and(|e| matches!(e, Errno::ENOSPC | Errno::EDQUOT));
        let lost = counted(self.lost, "record was", "records were");
        let failure = format!("{} cannot be written: {error}; {lost} lost", self.name);
        if self.reported.is_none_or(|reported| now.saturating_duration_since(reported) >= EVERY) {
            self.reported = Some(now);
            self.ongoing = true;
            self.report = Some(format!("{failure}, and the work goes on"));
        }
        self.failure = Some(failure);
    }

    /// Why the last line was lost, and how many were so far; `None`: it was written.
    #[must_use]
    pub fn failure(&self) -> Option<&str> {
        self.failure.as_deref()
    }

    /// Whether the line that was lost last was so because the disk, or a quota, is full.
    #[must_use]
    pub fn is_full(&self) -> bool {
        self.full
    }

    /// How many lines were lost.
    #[must_use]
    pub fn lost(&self) -> u64 {
        self.lost
    }

    /// The sentence that is to be printed now, if there is one: that lines are lost, at most once a minute, or no more.
    pub fn report(&mut self) -> Option<String> {
        self.report.take()
    }

    /// What is to be printed at the end: how many were lost, if any were.
    #[must_use]
    pub fn summary(&self) -> Option<String> {
        let lost = counted(self.lost, "record was", "records were");
        (self.lost > 0).then(|| format!("{lost} lost in all, for {} could not be written", self.name))
    }
}

impl AsFd for LineFile {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

/// Writes all of it; or says how many bytes were written before the error.
fn write_all(file: &mut File, mut bytes: &[u8]) -> Result<(), (usize, io::Error)> {
    let length = bytes.len();
    while !bytes.is_empty() {
        match file.write(bytes) {
            Ok(0) => return Err((length - bytes.len(), ErrorKind::WriteZero.into())),
            Ok(count) => bytes = bytes.get(count..).unwrap_or_default(),
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err((length - bytes.len(), error)),
        }
    }
    Ok(())
}

/// Whether the last line of a file has no end. It is opened anew, since a program's output is open for writing alone.
fn is_torn(file: &File) -> io::Result<bool> {
    if file.metadata()?.len() == 0 {
        return Ok(false);
    }
    let file = File::open(format!("/proc/self/fd/{}", file.as_raw_fd()))?;
    let mut last = [0];
    file.read_exact_at(&mut last, file.metadata()?.len().saturating_sub(1))?;
    Ok(last != *b"\n")
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn append(path: &std::path::Path) -> LineFile {
        LineFile::new(File::options().append(true).create(true).open(path).unwrap(), "the log")
    }

    #[test]
    fn a_line_that_an_earlier_run_cut_off_is_ended_first() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("log");
        append(&path).write_line(b"one\n", Instant::now()).unwrap();
        fs::write(&path, "one\ntw").unwrap();
        let mut file = append(&path);
        for line in ["three\n", "four\n"] {
            file.write_line(line.as_bytes(), Instant::now()).unwrap();
        }
        append(&path).write_line(b"five\n", Instant::now()).unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "one\ntw\nthree\nfour\nfive\n");
        assert_eq!((file.lost(), file.report(), file.summary()), (0, None, None));
    }

    #[test]
    fn losses_are_counted_and_reported_once_a_minute() {
        let full = File::options().write(true).open("/dev/full").unwrap();
        let mut file = LineFile::new(full, "the log");
        let start = Instant::now();
        let reports: Vec<_> = [0, 1, 59, 60, 61]
            .into_iter()
            .filter_map(|second| {
                file.write_line(b"line\n", start + Duration::from_secs(second)).unwrap();
                file.report()
            })
            .collect();
        let report = |lost| {
            format!(
                "the log cannot be written: No space left on device (os error 28); {lost} lost, and the work goes on"
            )
        };
        assert_eq!(reports, [report("1 record was"), report("4 records were")]);
        assert!(file.failure().unwrap().ends_with("; 5 records were lost"), "{:?}", file.failure());
        file.file = File::options().write(true).open("/dev/null").unwrap();
        file.write_line(b"line\n", start).unwrap();
        assert_eq!(file.report().unwrap(), "the log can be written again; 5 records were lost");
        file.write_line(b"line\n", start).unwrap();
        assert_eq!((file.report(), file.failure(), file.lost()), (None, None, 5));
        assert_eq!(file.summary().unwrap(), "5 records were lost in all, for the log could not be written");
    }

    #[test]
    fn an_error_that_is_no_disk_s_ends_it() {
        let mut file = LineFile::new(File::open("/dev/null").unwrap(), "the log");
        let error = file.write_line(b"line\n", Instant::now()).unwrap_err();
        assert_eq!((error.raw_os_error(), file.lost()), (Some(Errno::EBADF as i32), 0));
    }
}
