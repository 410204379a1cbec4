//! That something was written into the log, or that it was rotated, by inotify(7). Where that cannot be had, the log is read every
//! second.

use std::os::fd::{AsFd, BorrowedFd};
use std::path::Path;
use std::time::Duration;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify};

/// How often the log is read where changes are not reported.
const POLL_INTERVAL: Duration = Duration::from_secs(1);

/// How often it is read anyway: a directory may have been mounted over the one that is watched.
const LONGEST: Duration = Duration::from_secs(60);

/// A watch on the directory of a log.
pub(crate) struct Watch(Option<Inotify>);

impl Watch {
    /// Watches the directory in which that file is, or is going to be.
    pub(crate) fn open(path: &Path) -> Self {
        // Where the log is a link, what it leads to is written.
        let real = path.canonicalize().unwrap_or_else(|_| path.to_owned());
        let folder = real.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let flags = AddWatchFlags::IN_MODIFY | AddWatchFlags::IN_CREATE | AddWatchFlags::IN_MOVED_TO;
        let open = || {
            let inotify = Inotify::init(InitFlags::IN_CLOEXEC | InitFlags::IN_NONBLOCK)?;
            inotify.add_watch(folder, flags).map(|_| inotify)
        };
        Watch(open().ok())
    }

    /// Readable when something may have been written, where that is told.
    pub(crate) fn as_fd(&self) -> Option<BorrowedFd<'_>> {
        self.0.as_ref().map(AsFd::as_fd)
    }

    /// How long to wait at most before the log is read again.
    pub(crate) fn patience(&self) -> Duration {
        if self.0.is_some() { LONGEST } else { POLL_INTERVAL }
    }

    /// Waits until something may have been written, or for so long.
    pub(crate) fn wait(&self, most: Duration) {
        let most = most.min(self.patience()).saturating_add(Duration::from_millis(1));
        let mut fds: Vec<PollFd> =
            self.as_fd().map(|fd| PollFd::new(fd, PollFlags::POLLIN)).into_iter().collect();
        // Interrupted, the log is only read sooner.
        let _ = poll(&mut fds, PollTimeout::try_from(most).unwrap_or(PollTimeout::MAX));
    }

    /// Forgets what it told so far. What is written from now on makes it readable again.
    pub(crate) fn reset(&self) {
        if let Some(inotify) = &self.0 {
            while inotify.read_events().is_ok_and(|events| !events.is_empty()) {}
        }
    }
}
