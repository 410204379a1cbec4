//! Who changed the file: the kernel tells of every change in its directory by inotify(7), but not whose it is. A file of
//! psentry's is written under a name of psentry's and renamed, and both names are told. `edits.rs` reads them.
//!
//! Where the file is reached by a symbolic link, the directory of the link is watched, too. Directories that are
//! replaced are told of, and are to be watched anew.

use std::ffi::OsString;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify, InotifyEvent};
use tempfile::NamedTempFile;

use super::edits::{DRAFT, Edits, FLUSH, Told, edits, is_half_told, pending};
use crate::error::Error;

/// What replaces a directory, or ends the watch over it.
const LOST: AddWatchFlags = AddWatchFlags::IN_MOVE_SELF
    .union(AddWatchFlags::IN_DELETE_SELF)
    .union(AddWatchFlags::IN_IGNORED)
    .union(AddWatchFlags::IN_UNMOUNT);

/// How often it is read at once: more would be a flood.
const READINGS: usize = 64;

/// How long the second half of a renaming is waited for, in milliseconds. The kernel tells it right after the first one.
const PATIENCE: u8 = 20;

/// A watch over the directories of a file.
pub(super) struct Watch {
    inotify: Inotify,
    paths: Vec<PathBuf>,
    names: Vec<OsString>,
    /// First halves of renamings of which the second ones may still come.
    halves: Vec<Told>,
}

/// A file beside the one that it will replace; `flush`: to take everything away.
pub(super) fn draft(directory: &Path, flush: bool) -> io::Result<NamedTempFile> {
    tempfile::Builder::new().prefix(&own_prefix(flush)).tempfile_in(directory)
}

pub(super) fn own_prefix(flush: bool) -> String {
    format!("{}{}-", if flush { FLUSH } else { DRAFT }, std::process::id())
}

impl Watch {
    /// From now on changes are told of all of these paths, each of which leads to the file.
    pub(super) fn open(paths: &[PathBuf]) -> Result<Self, Error> {
        let wrong = |doing| move |errno: Errno| Error::system(doing)(errno.into());
        let inotify = Inotify::init(InitFlags::IN_CLOEXEC | InitFlags::IN_NONBLOCK)
            .map_err(wrong("watch hosts.deny"))?;
        let changes = AddWatchFlags::IN_MOVE
            | AddWatchFlags::IN_DELETE
            | AddWatchFlags::IN_CLOSE_WRITE
            | AddWatchFlags::IN_MOVE_SELF
            | AddWatchFlags::IN_DELETE_SELF;
        let mut names = Vec::new();
        for path in paths {
            let directory = path.parent().unwrap_or(Path::new("/"));
            let watched = inotify.add_watch(directory, changes);
            watched.map_err(|errno| Error::file(directory, "watch it")(errno.into()))?;
            names.push(path.file_name().unwrap_or_default().to_owned());
        }
        Ok(Watch { inotify, paths: paths.to_vec(), names, halves: Vec::new() })
    }

    /// Whether the file is still reached by these paths.
    pub(super) fn is_over(&self, paths: &[PathBuf]) -> bool {
        self.paths == paths
    }

    /// Who changed the file since the last call, apart from this process.
    pub(super) fn read(&mut self) -> Result<Edits, Error> {
        let mut told = std::mem::take(&mut self.halves);
        let kept = told.len();
        self.read_on(&mut told)?;
        if is_half_told(&self.names, &told) {
            let mut fds = [PollFd::new(self.inotify.as_fd(), PollFlags::POLLIN)];
            let _ = poll(&mut fds, PollTimeout::from(PATIENCE));
            self.read_on(&mut told)?;
        }
        let own = [own_prefix(false), own_prefix(true)];
        let edits = edits(&self.names, &own, told.get(kept..).unwrap_or_default(), &told);
        self.halves = pending(told);
        Ok(edits)
    }

    fn read_on(&mut self, told: &mut Vec<Told>) -> Result<(), Error> {
        for _ in 0..READINGS {
            match self.inotify.read_events() {
                Ok(events) => told.extend(events.into_iter().map(Told::from)),
                Err(Errno::EAGAIN | Errno::EINTR) => break,
                Err(errno) => return Err(Error::system("read what changed beside hosts.deny")(errno.into())),
            }
        }
        Ok(())
    }
}

impl AsFd for Watch {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.inotify.as_fd()
    }
}

impl From<InotifyEvent> for Told {
    fn from(event: InotifyEvent) -> Self {
        Told {
            overflow: event.mask.contains(AddWatchFlags::IN_Q_OVERFLOW),
            lost: event.mask.intersects(LOST),
            from: event.mask.contains(AddWatchFlags::IN_MOVED_FROM),
            cookie: event.cookie,
            name: event.name.unwrap_or_default(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    const PSENTRY: Edits = Edits { psentry: true, ..Edits::NONE };
    const OTHERS: Edits = Edits { others: true, ..Edits::NONE };

    #[test]
    fn whose_change_it_is_is_known() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("hosts.deny");
        let mut watch = Watch::open(std::slice::from_ref(&path)).unwrap();
        assert_eq!(watch.read().unwrap(), Edits::NONE);
        draft(directory.path(), false).unwrap().into_temp_path().persist(&path).unwrap();
        draft(directory.path(), true).unwrap().into_temp_path().persist(&path).unwrap();
        fs::write(directory.path().join("hosts.allow"), "x").unwrap();
        assert_eq!(watch.read().unwrap(), Edits::NONE, "our own, and another file");
        let rename = |from: &str, to: &str| {
            let [from, to] = [from, to].map(|name| directory.path().join(name));
            fs::write(&from, "x").unwrap();
            fs::rename(from, to).unwrap();
        };
        rename(".psentry-1-abc", "hosts.deny");
        assert_eq!(watch.read().unwrap(), PSENTRY);
        rename(".psentry-flush-1-abc", "hosts.deny");
        assert_eq!(watch.read().unwrap(), Edits { flush: true, ..Edits::NONE });
        rename("hosts.deny", ".psentry-1-abc");
        assert_eq!(watch.read().unwrap(), Edits { psentry: true, ..OTHERS }, "written, then taken away");
        for by_others in [&|| fs::write(&path, "y").unwrap(), &|| fs::remove_file(&path).unwrap(), &|| {
            rename("new", "hosts.deny");
        }] as [&dyn Fn(); 3]
        {
            by_others();
            assert_eq!(watch.read().unwrap(), OTHERS);
            assert_eq!(watch.read().unwrap(), Edits::NONE);
        }
        fs::rename(&path, directory.path().join(".psentry-1-abc")).unwrap();
        assert_eq!(watch.read().unwrap(), PSENTRY);
    }

    #[test]
    fn a_directory_that_is_replaced_and_a_link_that_is_replaced_are_told() {
        let root = tempfile::tempdir().unwrap();
        let [etc, real] = ["etc", "real"].map(|name| root.path().join(name));
        fs::create_dir(&etc).unwrap();
        fs::create_dir(&real).unwrap();
        let (link, file) = (etc.join("hosts.deny"), real.join("deny"));
        let mut watch = Watch::open(&[link.clone(), file.clone()]).unwrap();
        std::os::unix::fs::symlink(&file, etc.join("new")).unwrap();
        fs::rename(etc.join("new"), &link).unwrap();
        assert_eq!(watch.read().unwrap(), OTHERS);
        fs::rename(&etc, root.path().join("old")).unwrap();
        assert_eq!(watch.read().unwrap(), Edits { lost: true, ..Edits::NONE });
        fs::remove_dir(&real).unwrap();
        assert!(watch.read().unwrap().lost);
    }
}
