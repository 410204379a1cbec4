//! The next line of a log, from file to file as they were rotated.
//!
//! What is open is read to its end before the next file is begun, and that is the one which is newer by one rotation. A rotation
//! while it is looked for moves all names: then it is looked for once more.

use std::collections::VecDeque;
use std::os::fd::BorrowedFd;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::cursor::Cursor;
use crate::files::{LogFile, files, open};
use crate::lines::{Found, Lines};
use crate::watch::Watch;
use crate::{FollowError, LONGEST_LINE};

/// How often the files are looked through while they are rotated all the time.
const TRIES: usize = 16;

/// What is said where files that a reader has not finished are gone.
const REMOVED: &str = "files were removed before they were read; lines may be missing";

/// Where to begin.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Start {
    /// With the oldest line that there is.
    Oldest,
    /// With what is written from now on.
    Now,
    /// Where a reader was before.
    At(Cursor),
}

/// What comes next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// A line, without its newline.
    Line(Vec<u8>),
    /// Lines are missing here, for this reason: a sentence.
    Missing(String),
    /// Nothing more was written yet.
    End,
}

/// A reader of a log.
pub struct Follower {
    log: PathBuf,
    watch: Watch,
    cursor: Cursor,
    /// The file in which the cursor is; `None` before the first line.
    lines: Option<Lines>,
    missing: VecDeque<String>,
}

impl Follower {
    /// Reads the log at this path from there on. It need not be there yet.
    ///
    /// # Errors
    /// A file of it cannot be read.
    pub fn open(log: &Path, start: Start) -> Result<Self, FollowError> {
        let (watch, missing) = (Watch::open(log), VecDeque::new());
        let mut follower =
            Follower { log: log.to_owned(), watch, cursor: Cursor::default(), lines: None, missing };
        match start {
            Start::Oldest => {}
            Start::Now => follower.go_to_end()?,
            Start::At(cursor) => follower.go_to(cursor)?,
        }
        Ok(follower)
    }

    /// Reads the log at this path from the beginning of the newest file whose first line `is_early`, or from its oldest line
    /// where no file has such a line: so whoever asks for what is new does not read all that is old.
    ///
    /// # Errors
    /// A file of it cannot be read.
    pub fn open_from(log: &Path, is_early: impl Fn(&str) -> bool) -> Result<Self, FollowError> {
        let mut follower = Self::open(log, Start::Oldest)?;
        for file in follower.files()? {
            let opened = open(&file.path).map_err(FollowError::of(&file.path))?;
            if let Some(opened) = opened.filter(|(_, first)| is_early(first)) {
                follower.enter(opened);
                break;
            }
        }
        Ok(follower)
    }

    /// Where it is: the next line is the first one behind.
    #[must_use]
    pub fn cursor(&self) -> &Cursor {
        &self.cursor
    }

    /// The next line, if there is one, without waiting.
    ///
    /// # Errors
    /// A file cannot be read. It may be tried again.
    pub fn step(&mut self) -> Result<Step, FollowError> {
        // Before the log is read, so that what is written from then on makes the watch readable.
        self.watch.reset();
        loop {
            if let Some(why) = self.missing.pop_front() {
                return Ok(Step::Missing(why));
            }
            if let Some(step) = self.read()? {
                return Ok(step);
            }
            if self.lines.is_some() {
                if self.is_written()? {
                    return Ok(Step::End);
                }
                // What was written between that read and the rotation.
                if let Some(step) = self.read()? {
                    return Ok(step);
                }
            }
            if !self.enter_next()? && self.missing.is_empty() {
                return Ok(Step::End);
            }
        }
    }

    /// Waits until something more may have been written, or for so long.
    pub fn wait(&self, most: Duration) {
        self.watch.wait(most);
    }

    /// Readable when something more may have been written; `None` where nothing tells, and [`patience`](Self::patience) is all.
    #[must_use]
    pub fn as_fd(&self) -> Option<BorrowedFd<'_>> {
        self.watch.as_fd()
    }

    /// How long to wait at most before the next step.
    #[must_use]
    pub fn patience(&self) -> Duration {
        self.watch.patience()
    }

    /// The next line of the file that is open.
    fn read(&mut self) -> Result<Option<Step>, FollowError> {
        let Some(lines) = &mut self.lines else { return Ok(None) };
        let found = lines.next().map_err(FollowError::of(&self.log))?;
        self.cursor.offset = lines.offset();
        Ok(match found {
            Found::Line(line) => Some(Step::Line(line)),
            Found::TooLong => Some(Step::Missing(format!(
                "{}: a line of more than {LONGEST_LINE} bytes is passed over",
                self.log.display()
            ))),
            Found::Nothing => None,
        })
    }

    /// Whether the file that is open is the one that is written. One that was emptied begins anew.
    fn is_written(&mut self) -> Result<bool, FollowError> {
        let Some(file) = self.lines.as_ref().and_then(Lines::plain) else { return Ok(false) };
        let is = file.metadata().map_err(FollowError::of(&self.log))?;
        let named = self.log.metadata().ok().map(|meta| (meta.dev(), meta.ino()));
        if named != Some((is.dev(), is.ino())) {
            return Ok(false);
        }
        if is.len() < self.cursor.offset {
            self.lose("it was emptied, and what was written just before may be missing");
            return Ok(false);
        }
        Ok(true)
    }

    /// Lines are missing, and the next one is the oldest that there is.
    fn lose(&mut self, why: &str) {
        self.missing.push_back(format!("{}: {why}", self.log.display()));
        // The cursor stays until there is a line: whoever goes on from it hears the same.
        self.lines = None;
    }

    fn enter(&mut self, (lines, first_line): (Lines, String)) {
        self.cursor = Cursor { first_line, offset: lines.offset() };
        self.lines = Some(lines);
    }

    /// Begins the file after the one that is open, or the oldest one; `false`: there is none yet, or it has no line yet.
    fn enter_next(&mut self) -> Result<bool, FollowError> {
        for _ in 0..TRIES {
            let found = self.files()?;
            let next = if self.lines.is_none() {
                first_with_a_line(found.iter().rev())?
            } else if let Some(at) = position(&found, &self.cursor.first_line)? {
                let next = first_with_a_line(found.iter().take(at).rev())?;
                // Was it rotated meanwhile, the names lead to other files by now.
                if position(found.get(at).map_or(&[], std::slice::from_ref), &self.cursor.first_line)?
                    .is_none()
                {
                    continue;
                }
                next
            } else {
                self.lose(REMOVED);
                return Ok(false);
            };
            return Ok(next.map(|next| self.enter(next)).is_some());
        }
        Ok(false)
    }

    fn files(&self) -> Result<Vec<LogFile>, FollowError> {
        files(&self.log).map_err(FollowError::of(&self.log))
    }

    fn go_to(&mut self, cursor: Cursor) -> Result<(), FollowError> {
        for _ in 0..TRIES {
            let found = self.files()?;
            let Some(file) = position(&found, &cursor.first_line)?.and_then(|at| found.get(at)) else {
                break;
            };
            let failed = FollowError::of(&file.path);
            let Some((mut lines, first)) = open(&file.path).map_err(FollowError::of(&file.path))? else {
                continue;
            };
            // It was rotated meanwhile.
            if first != cursor.first_line {
                continue;
            }
            if !lines.skip_to(cursor.offset).map_err(failed)? {
                self.missing.push_back(format!("{}: it is shorter than it was", file.path.display()));
            }
            self.enter((lines, first));
            return Ok(());
        }
        if !cursor.first_line.is_empty() {
            self.cursor = cursor;
            self.lose(REMOVED);
        }
        Ok(())
    }

    /// Behind the last line of the newest file that has one.
    fn go_to_end(&mut self) -> Result<(), FollowError> {
        if let Some((mut lines, first)) = first_with_a_line(self.files()?.iter())? {
            while lines.next().map_err(FollowError::of(&self.log))? != Found::Nothing {}
            self.enter((lines, first));
        }
        Ok(())
    }
}

/// Which of these files begins with that line.
fn position(files: &[LogFile], first_line: &str) -> Result<Option<usize>, FollowError> {
    for (at, file) in files.iter().enumerate() {
        let opened = open(&file.path).map_err(FollowError::of(&file.path))?;
        if opened.is_some_and(|(_, first)| first == first_line) {
            return Ok(Some(at));
        }
    }
    Ok(None)
}

fn first_with_a_line<'a>(
    files: impl Iterator<Item = &'a LogFile>,
) -> Result<Option<(Lines, String)>, FollowError> {
    for file in files {
        if let Some(opened) = open(&file.path).map_err(FollowError::of(&file.path))? {
            return Ok(Some(opened));
        }
    }
    Ok(None)
}

#[cfg(test)]
#[path = "follower_tests.rs"]
mod tests;
