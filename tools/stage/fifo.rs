//! Writing records into another stage's FIFO without ever waiting for it: what finds no room waits a moment, and is then given up.
//! For what a stage tells beside its output, such as that somebody was released.

use std::collections::VecDeque;
use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use nix::fcntl::OFlag;
use nix::unistd::geteuid;
use psentry_records::Record;

/// How long a reader that does not read is waited for, how often it is tried meanwhile, and how many records may wait.
const PATIENCE: Duration = Duration::from_secs(5);
const PAUSE: Duration = Duration::from_millis(100);
const WAITING: usize = 1000;

/// A FIFO, and what is still to be written into it.
pub struct FifoWriter {
    path: PathBuf,
    waiting: VecDeque<(Instant, Vec<u8>)>,
    given_up: usize,
}

impl FifoWriter {
    /// The one at this path. It need not be there, and nobody need read it.
    #[must_use]
    pub fn at(path: PathBuf) -> Self {
        FifoWriter { path, waiting: VecDeque::new(), given_up: 0 }
    }

    /// Whether somebody reads there.
    #[must_use]
    pub fn is_read(&self) -> bool {
        open(&self.path).is_ok()
    }

    /// Writes a record there, as soon as there is room; whether somebody reads there.
    pub fn write(&mut self, record: &Record) -> bool {
        let mut line = Vec::new();
        if record.encode(&mut line).is_err() || !self.is_read() {
            return false;
        }
        self.waiting.push_back((Instant::now() + PATIENCE, line));
        self.write_waiting();
        true
    }

    /// Writes what waits, as far as there is room.
    pub fn write_waiting(&mut self) {
        let Ok(mut fifo) = open(&self.path) else {
            self.given_up += std::mem::take(&mut self.waiting).len();
            return;
        };
        // A line is written as a whole or not at all (pipe(7), PIPE_BUF).
        while let Some((_, line)) = self.waiting.front() {
            match fifo.write(line) {
                Ok(_) => drop(self.waiting.pop_front()),
                Err(why) if why.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => break,
            }
        }
        let now = Instant::now();
        let before = self.waiting.len();
        self.waiting.retain(|(deadline, _)| *deadline > now);
        self.waiting.truncate(WAITING);
        self.given_up += before - self.waiting.len();
    }

    /// Whether something waits for room.
    #[must_use]
    pub fn waits(&self) -> bool {
        !self.waiting.is_empty()
    }

    /// How many records were given up since this was asked last, for the reader does not read.
    pub fn take_given_up(&mut self) -> usize {
        std::mem::take(&mut self.given_up)
    }

    /// When it is to be tried again.
    #[must_use]
    pub fn next_try(&self, now: Instant) -> Option<Instant> {
        self.waits().then(|| now + PAUSE)
    }
}

/// The FIFO, if somebody reads there; nothing else, nor what anybody may have put there.
fn open(path: &Path) -> io::Result<File> {
    let flags = (OFlag::O_NONBLOCK | OFlag::O_NOFOLLOW).bits();
    let file = OpenOptions::new().write(true).custom_flags(flags).open(path)?;
    let meta = file.metadata()?;
    let ours = meta.uid() == 0 || meta.uid() == geteuid().as_raw();
    let closed = meta.mode() & 0o002 == 0;
    if meta.file_type().is_fifo() && ours && closed {
        Ok(file)
    } else {
        Err(io::ErrorKind::InvalidInput.into())
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use nix::sys::stat::Mode;
    use nix::unistd::mkfifo;

    use super::*;

    fn record() -> Record {
        let line = r#"{"timestamp":"2026-11-22T15:04:05Z","event_type":"outcome","outcome":{"action":"unblock","scope":"192.0.2.7/32","result":"released"}}"#;
        Record::parse(line).unwrap()
    }

    fn fifo(name: &str, mode: Mode) -> (tempfile::TempDir, FifoWriter) {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join(name);
        mkfifo(&path, mode).unwrap();
        (directory, FifoWriter::at(path))
    }

    fn reader(fifo: &FifoWriter) -> File {
        OpenOptions::new().read(true).custom_flags(OFlag::O_NONBLOCK.bits()).open(&fifo.path).unwrap()
    }

    #[test]
    fn a_judge_that_reads_hears_it_and_one_that_does_not_is_not_waited_for() {
        let (_directory, mut fifo) = fifo("events", Mode::S_IRUSR | Mode::S_IWUSR);
        let record = record();
        assert!(!fifo.write(&record), "nobody reads");
        let mut judge = reader(&fifo);
        assert!(fifo.write(&record) && fifo.waiting.is_empty());
        let mut text = [0; 4096];
        let got = judge.read(&mut text).unwrap();
        let line = std::str::from_utf8(&text[..got]).unwrap();
        assert_eq!(Record::parse(line.trim()).unwrap(), record);
        // It reads nothing for a while: what does not fit waits.
        while fifo.waiting.len() < 3 {
            assert!(fifo.write(&record));
        }
        assert!(fifo.next_try(Instant::now()).is_some());
        let mut all = String::new();
        let _ = judge.read_to_string(&mut all);
        fifo.write_waiting();
        assert_eq!((fifo.take_given_up(), fifo.waits()), (0, false));
        while fifo.waiting.len() < 2 {
            assert!(fifo.write(&record));
        }
        fifo.waiting.iter_mut().for_each(|(deadline, _)| *deadline = Instant::now());
        fifo.write_waiting();
        assert_eq!((fifo.take_given_up(), fifo.waits()), (2, false), "it is given up");
        while fifo.waiting.len() < 2 {
            assert!(fifo.write(&record));
        }
        drop(judge);
        fifo.write_waiting();
        assert_eq!(fifo.take_given_up(), 2, "the judge is gone");
    }

    #[test]
    fn nothing_is_said_where_anybody_may_have_put_something() {
        let (_directory, mut open) = fifo("events", Mode::empty());
        let record = record();
        let set = |open: &FifoWriter, mode| {
            std::fs::set_permissions(&open.path, std::os::unix::fs::PermissionsExt::from_mode(mode)).unwrap();
        };
        set(&open, 0o622);
        let _judge = reader(&open);
        assert!(!open.write(&record), "whoever may write may have made it");
        set(&open, 0o620);
        assert!(open.write(&record));
        let link = open.path.with_file_name("link");
        std::os::unix::fs::symlink(&open.path, &link).unwrap();
        let file = open.path.with_file_name("file");
        std::fs::write(&file, "").unwrap();
        for path in [link, file.clone(), open.path.with_file_name("absent")] {
            open.path = path;
            assert!(!open.write(&record));
        }
        assert_eq!(std::fs::read(file).unwrap(), b"");
    }
}
