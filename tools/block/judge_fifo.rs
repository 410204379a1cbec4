//! The FIFO that the judge reads probes from. Whom somebody released is said there, so that the judge forgets the conviction and
//! new evidence counts at once: else it would say nothing of that source until the conviction had ended. Nobody waits for it.

use std::collections::VecDeque;
use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use nix::fcntl::OFlag;
use nix::unistd::geteuid;
use psentry_records::{Action, Common, Outcome, OutcomeBody, OutcomeResult, Prefix, Record, Timestamp};

use crate::outcomes::body;

/// Where psentry-events.socket has it.
pub(crate) const EVENTS: &str = "/run/psentry/events";

/// How long a judge that does not read is waited for, how often it is tried meanwhile, and how many records may wait.
const PATIENCE: Duration = Duration::from_secs(5);
const PAUSE: Duration = Duration::from_millis(100);
const WAITING: usize = 1000;

/// Why everybody counts as released once a panic is over: then the judge forgets whom it convicted before and meanwhile.
pub(crate) const PANIC_OVER: &str = "a panic is over: whoever was convicted before is judged anew";

/// All addresses: no block is as wide, so that they stand for everybody who is blocked.
const EVERYBODY: [&str; 2] = ["0.0.0.0/0", "::/0"];

/// The FIFO, and what is still to be said there.
pub(crate) struct JudgeFifo {
    path: PathBuf,
    waiting: VecDeque<(Instant, Vec<u8>)>,
    given_up: usize,
}

impl JudgeFifo {
    /// The one of the services.
    pub(crate) fn new() -> Self {
        Self::at(PathBuf::from(EVENTS))
    }

    /// Another one.
    pub(crate) fn at(path: PathBuf) -> Self {
        JudgeFifo { path, waiting: VecDeque::new(), given_up: 0 }
    }

    /// Whether a judge reads there.
    pub(crate) fn is_read(&self) -> bool {
        open(&self.path).is_ok()
    }

    /// Says something there, as soon as there is room; whether a judge reads there.
    pub(crate) fn tell(&mut self, record: &Record) -> bool {
        let mut line = Vec::new();
        if record.encode(&mut line).is_err() || !self.is_read() {
            return false;
        }
        self.waiting.push_back((Instant::now() + PATIENCE, line));
        self.write();
        true
    }

    /// Writes what waits, as far as there is room.
    pub(crate) fn write(&mut self) {
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
    pub(crate) fn waits(&self) -> bool {
        !self.waiting.is_empty()
    }

    /// How much was given up since this was asked last, for the judge does not read.
    pub(crate) fn given_up(&mut self) -> usize {
        std::mem::take(&mut self.given_up)
    }

    /// When it is to be tried again.
    pub(crate) fn next(&self, now: Instant) -> Option<Instant> {
        self.waits().then(|| now + PAUSE)
    }
}

/// That a block was released.
pub(crate) fn released(scope: Prefix) -> OutcomeBody {
    body(Action::Unblock, scope, None, OutcomeResult::Released)
}

/// An outcome of now as a record, in the name of `host`.
pub(crate) fn outcome(body: OutcomeBody, host: Option<&str>) -> Record {
    let common = Common { host: host.map(str::to_owned), ..Common::at(Timestamp::now()) };
    Record::Outcome(Outcome { common, body })
}

/// That everybody was released; why.
pub(crate) fn everybody(why: &str) -> impl Iterator<Item = OutcomeBody> {
    let scopes = EVERYBODY.into_iter().filter_map(|scope| scope.parse().ok());
    scopes.map(move |scope| OutcomeBody {
        error: Some(why.to_owned()),
        ..body(Action::Unblock, scope, None, OutcomeResult::Released)
    })
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

    fn fifo(name: &str, mode: Mode) -> (tempfile::TempDir, JudgeFifo) {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join(name);
        mkfifo(&path, mode).unwrap();
        (directory, JudgeFifo::at(path))
    }

    fn reader(fifo: &JudgeFifo) -> File {
        OpenOptions::new().read(true).custom_flags(OFlag::O_NONBLOCK.bits()).open(&fifo.path).unwrap()
    }

    #[test]
    fn a_judge_that_reads_hears_it_and_one_that_does_not_is_not_waited_for() {
        let (_directory, mut fifo) = fifo("events", Mode::S_IRUSR | Mode::S_IWUSR);
        let record = outcome(released("192.0.2.7".parse().unwrap()), Some("guard"));
        assert!(!fifo.tell(&record), "nobody reads");
        let mut judge = reader(&fifo);
        assert!(fifo.tell(&record) && fifo.waiting.is_empty());
        let mut text = [0; 4096];
        let got = judge.read(&mut text).unwrap();
        let line = std::str::from_utf8(&text[..got]).unwrap();
        assert_eq!(Record::parse(line.trim()).unwrap(), record);
        // It reads nothing for a while: what does not fit waits.
        while fifo.waiting.len() < 3 {
            assert!(fifo.tell(&record));
        }
        assert!(fifo.next(Instant::now()).is_some());
        let mut all = String::new();
        let _ = judge.read_to_string(&mut all);
        fifo.write();
        assert_eq!((fifo.given_up(), fifo.waits()), (0, false));
        while fifo.waiting.len() < 2 {
            assert!(fifo.tell(&record));
        }
        fifo.waiting.iter_mut().for_each(|(deadline, _)| *deadline = Instant::now());
        fifo.write();
        assert_eq!((fifo.given_up(), fifo.waits()), (2, false), "it is given up");
        while fifo.waiting.len() < 2 {
            assert!(fifo.tell(&record));
        }
        drop(judge);
        fifo.write();
        assert_eq!(fifo.given_up(), 2, "the judge is gone");
    }

    #[test]
    fn nothing_is_said_where_anybody_may_have_put_something() {
        let (_directory, mut open) = fifo("events", Mode::empty());
        let record = outcome(released("192.0.2.7".parse().unwrap()), None);
        let set = |open: &JudgeFifo, mode| {
            std::fs::set_permissions(&open.path, std::os::unix::fs::PermissionsExt::from_mode(mode)).unwrap();
        };
        set(&open, 0o622);
        let _judge = reader(&open);
        assert!(!open.tell(&record), "whoever may write may have made it");
        set(&open, 0o620);
        assert!(open.tell(&record));
        let link = open.path.with_file_name("link");
        std::os::unix::fs::symlink(&open.path, &link).unwrap();
        let file = open.path.with_file_name("file");
        std::fs::write(&file, "").unwrap();
        for path in [link, file.clone(), open.path.with_file_name("absent")] {
            open.path = path;
            assert!(!open.tell(&record));
        }
        assert_eq!(std::fs::read(file).unwrap(), b"");
    }

    #[test]
    fn everybody_is_all_addresses() {
        let scopes: Vec<String> = everybody("x").map(|body| body.scope.to_string()).collect();
        assert_eq!(scopes, EVERYBODY);
    }
}
