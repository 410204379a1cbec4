//! Whether a panic holds, and each change of that. The file that says so is in [`psentry_stage::panic_file`]; this notices that
//! it changed, without waking up for anything else: by inotify(7), and by a look once a second only where that is not to be
//! had. It changes no rules: `monitor/rules.rs` does.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::Path;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify, WatchDescriptor};
use psentry_stage::panic_file::{Mark, Order, PanicFile};

/// How often to check where changes are not reported; and when to retry if the rules could not be changed.
const LOOK_INTERVAL: Duration = Duration::from_secs(1);

/// What may be a change of the file; and that the directory is another one, or that there is one at last.
const CHANGES: AddWatchFlags = AddWatchFlags::IN_CREATE
    .union(AddWatchFlags::IN_DELETE)
    .union(AddWatchFlags::IN_MOVE)
    .union(AddWatchFlags::IN_CLOSE_WRITE)
    .union(AddWatchFlags::IN_ATTRIB)
    .union(AddWatchFlags::IN_DELETE_SELF)
    .union(AddWatchFlags::IN_MOVE_SELF)
    .union(AddWatchFlags::IN_ONLYDIR);

/// What the rules are to be changed for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Change {
    /// A panic holds.
    Begun,
    /// It is over.
    Over,
    /// A panic began and was over between two looks.
    Passed,
}

/// The file, and what is known of it.
pub(crate) struct PanicWatch {
    file: PanicFile,
    seen: Mark,
    holds: Option<Order>,
    /// What the rules were not changed for yet.
    pending: Option<Change>,
    /// Whether it was reported that the file cannot be seen.
    unseen: bool,
    /// `None`: this process or this kernel may not have one more.
    inotify: Option<Inotify>,
    watched: Option<WatchDescriptor>,
    looked: Instant,
}

impl PanicWatch {
    /// Watches the file. A panic that holds already is nothing that the rules are to be *changed* for; neither is one of before.
    pub(crate) fn open(file: PanicFile, now: Instant) -> Self {
        let inotify = Inotify::init(InitFlags::IN_CLOEXEC | InitFlags::IN_NONBLOCK).ok();
        let (seen, holds) = (Mark::default(), None);
        let mut watch = PanicWatch {
            file,
            seen,
            holds,
            pending: None,
            unseen: false,
            inotify,
            watched: None,
            looked: now,
        };
        watch.rewatch();
        (watch.seen, watch.holds) = (watch.file.mark(), watch.file.holds());
        watch
    }

    /// The panic that holds.
    pub(crate) fn holds(&self) -> Option<&Order> {
        self.holds.as_ref()
    }

    /// Looks at the file: what the rules are to be changed for, until [`heeded`](Self::heeded) is called.
    ///
    /// # Errors
    /// It cannot be told whether a panic holds; once. What was so before still is.
    pub(crate) fn look(&mut self, now: Instant) -> io::Result<Option<Change>> {
        self.looked = now;
        self.drain();
        self.rewatch();
        if let Some(why) = self.file.unknown() {
            let reported = std::mem::replace(&mut self.unseen, true);
            let why = io::Error::new(why.kind(), format!("{}: {why}", self.file.path().display()));
            return if reported { Ok(self.pending) } else { Err(why) };
        }
        self.unseen = false;
        // Before it is read: a file that changes meanwhile is then read once more.
        let mark = self.file.mark();
        if mark != std::mem::replace(&mut self.seen, mark) {
            let last = self.file.last();
            let change = change(self.holds.is_some(), last.as_ref());
            self.holds = last.filter(|order| order.over.is_none());
            self.pending = change.or(self.pending);
        }
        Ok(self.pending)
    }

    /// The rules are as what the last look said demands.
    pub(crate) fn heeded(&mut self) {
        self.pending = None;
    }

    /// When to check although no change is reported.
    pub(crate) fn next_look(&self) -> Option<Instant> {
        (self.watched.is_none() || self.pending.is_some()).then(|| self.looked + LOOK_INTERVAL)
    }

    /// Readable when the file may have changed.
    pub(crate) fn as_fd(&self) -> Option<BorrowedFd<'_>> {
        self.inotify.as_ref().map(AsFd::as_fd)
    }

    /// Reads the events. What they say does not matter: the file is looked at.
    fn drain(&mut self) {
        let Some(inotify) = &self.inotify else { return };
        loop {
            match inotify.read_events() {
                Ok(_) | Err(Errno::EINTR) => {}
                Err(Errno::EAGAIN) => return,
                Err(_) => {
                    (self.inotify, self.watched) = (None, None);
                    return;
                }
            }
        }
    }

    /// Watches the directory of the file, or the nearest one above that is there: then it is told when the next one is made.
    fn rewatch(&mut self) {
        let Some(inotify) = &self.inotify else { return };
        let nearest = || self.file.path().ancestors().skip(1).find(|directory| directory.is_dir());
        let mut directory = nearest();
        // Until no directory was made before the one above it was watched.
        loop {
            // Of a directory that is watched already this is the same descriptor.
            let watch = |directory: &Path| inotify.add_watch(directory, CHANGES).ok();
            let watched = directory.and_then(watch);
            let before = std::mem::replace(&mut self.watched, watched);
            if let Some(before) = before.filter(|before| Some(*before) != watched) {
                // Of one that was deleted it is gone already.
                let _ = inotify.rm_watch(before);
            }
            let now = nearest();
            if watched.is_none() || now == directory {
                return;
            }
            directory = now;
        }
    }
}

/// What a change of the file means where a panic `held` before, and this is what it says now; `None`: there is no file.
fn change(held: bool, last: Option<&Order>) -> Option<Change> {
    match (held, last.map(|order| order.over.is_none())) {
        (false, Some(true)) => Some(Change::Begun),
        (true, Some(false) | None) => Some(Change::Over),
        (false, Some(false)) => Some(Change::Passed),
        (true, Some(true)) | (false, None) => None,
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
    use psentry_records::Timestamp;

    use super::*;

    fn open(path: &Path) -> PanicWatch {
        PanicWatch::open(PanicFile::at(path), Instant::now())
    }

    /// What it says to whoever waits for it, and is woken up. That another directory is watched wakes it up once more.
    fn woken(watch: &mut PanicWatch) -> Option<Change> {
        for _ in 0..3 {
            let fd = watch.as_fd().unwrap();
            if poll(&mut [PollFd::new(fd, PollFlags::POLLIN)], PollTimeout::ZERO) == Ok(0) {
                break;
            }
            watch.look(Instant::now()).unwrap();
        }
        let fd = watch.as_fd().unwrap();
        assert_eq!(poll(&mut [PollFd::new(fd, PollFlags::POLLIN)], PollTimeout::ZERO), Ok(0));
        watch.pending.take()
    }

    #[test]
    fn each_change_wakes_it_also_where_the_directory_is_not_there_yet() {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join("lib/psentry/panic");
        let file = PanicFile::at(&path);
        let mut watch = open(&path);
        assert_eq!((watch.next_look(), woken(&mut watch)), (None, None));
        for directory in ["lib", "lib/psentry"] {
            fs::create_dir(root.path().join(directory)).unwrap();
            assert_eq!(woken(&mut watch), None);
        }
        fs::write(&path, "").unwrap();
        assert_eq!(woken(&mut watch), Some(Change::Begun));
        assert!(watch.holds().is_some());
        let over = Order { over: Some(Timestamp::now()), ..file.holds().unwrap() };
        file.write(&over).unwrap();
        assert_eq!((woken(&mut watch), watch.holds()), (Some(Change::Over), None));
        file.write(&Order::now(None)).unwrap();
        file.write(&over).unwrap();
        assert_eq!(woken(&mut watch), Some(Change::Passed));
        fs::remove_dir_all(root.path().join("lib")).unwrap();
        assert_eq!(woken(&mut watch), None);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, "").unwrap();
        assert_eq!(woken(&mut watch), Some(Change::Begun));
        fs::remove_file(&path).unwrap();
        assert_eq!((woken(&mut watch), watch.next_look()), (Some(Change::Over), None));
    }

    #[test]
    fn what_was_so_at_the_start_is_no_change() {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join("panic");
        fs::write(&path, "").unwrap();
        let mut watch = open(&path);
        assert!(watch.holds().is_some());
        assert_eq!(watch.look(Instant::now()).unwrap(), None);
    }

    /// Without inotify, or until the rules are changed, it looks each second.
    #[test]
    fn a_change_stays_until_it_is_heeded() {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join("panic");
        let mut watch = open(&path);
        fs::write(&path, "").unwrap();
        let now = Instant::now();
        for _ in 0..2 {
            assert_eq!(watch.look(now).unwrap(), Some(Change::Begun));
            assert_eq!(watch.next_look(), Some(now + LOOK_INTERVAL));
        }
        watch.heeded();
        assert_eq!((watch.look(now).unwrap(), watch.next_look()), (None, None));
        (watch.inotify, watch.watched) = (None, None);
        fs::remove_file(&path).unwrap();
        assert_eq!(watch.next_look(), Some(now + LOOK_INTERVAL));
        assert_eq!(watch.look(now).unwrap(), Some(Change::Over));
    }

    #[test]
    fn that_it_cannot_be_seen_is_reported_once_and_ends_no_panic() {
        let root = tempfile::tempdir().unwrap();
        let [directory, aside] = ["psentry", "aside"].map(|name| root.path().join(name));
        fs::create_dir(&directory).unwrap();
        fs::write(directory.join("panic"), "").unwrap();
        let mut watch = open(&directory.join("panic"));
        fs::rename(&directory, aside).unwrap();
        std::os::unix::fs::symlink(&directory, &directory).unwrap();
        assert!(watch.look(Instant::now()).is_err_and(|why| why.to_string().contains("psentry/panic")));
        assert_eq!(watch.look(Instant::now()).unwrap(), None);
        assert!(watch.holds().is_some());
    }
}
