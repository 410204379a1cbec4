//! That somebody may have changed the file, by inotify(7). The directories are watched in which a name of the file is: that of
//! the file itself, and that of a symbolic link that leads to it. A file that is a mount of its own is watched itself, too: what
//! is written into it is no event of the directory that it is mounted in.

use std::ffi::OsString;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify, InotifyEvent, WatchDescriptor};

use crate::error::Error;

/// What may change the file in its directory. When something is written, only the end of it counts.
const CHANGES: AddWatchFlags = AddWatchFlags::IN_MOVE
    .union(AddWatchFlags::IN_DELETE)
    .union(AddWatchFlags::IN_CLOSE_WRITE)
    .union(AddWatchFlags::IN_MOVE_SELF)
    .union(AddWatchFlags::IN_DELETE_SELF);

/// What replaces a directory, or ends the watch over it.
const LOST: AddWatchFlags = AddWatchFlags::IN_MOVE_SELF
    .union(AddWatchFlags::IN_DELETE_SELF)
    .union(AddWatchFlags::IN_IGNORED)
    .union(AddWatchFlags::IN_UNMOUNT);

/// The most reads in one call, so that it returns even under a flood of events; then more is left to read.
const MAX_READS: usize = 64;

/// A watch over a file.
pub(super) struct Watch {
    inotify: Inotify,
    paths: Vec<PathBuf>,
    names: Vec<OsString>,
    mounted: Option<WatchDescriptor>,
}

/// What has happened since the last call.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Seen {
    /// The file may have changed.
    pub(super) changed: bool,
    /// A directory was replaced: the file is not watched any more.
    pub(super) lost: bool,
}

impl Watch {
    /// Watches all of these paths, each of which leads to the file. `mounted`: the first of them is a mount of its own.
    pub(super) fn open(paths: &[PathBuf], mounted: bool) -> Result<Self, Error> {
        let inotify = Inotify::init(InitFlags::IN_CLOEXEC | InitFlags::IN_NONBLOCK)
            .map_err(|errno| Error::system("watch hosts.deny")(errno.into()))?;
        let watch = |path: &Path| {
            let watched = inotify.add_watch(path, CHANGES);
            watched.map_err(|errno| Error::file(path, "watch it")(errno.into()))
        };
        let mut names = Vec::new();
        for path in paths {
            watch(path.parent().unwrap_or(Path::new("/")))?;
            names.push(path.file_name().unwrap_or_default().to_owned());
        }
        let mounted = paths.first().filter(|_| mounted).map(|path| watch(path)).transpose()?;
        Ok(Watch { inotify, paths: paths.to_vec(), names, mounted })
    }

    /// Whether these are the paths that it watches.
    pub(super) fn covers(&self, paths: &[PathBuf]) -> bool {
        self.paths == paths
    }

    /// Reads the events that are there; whether one of them is about the file.
    pub(super) fn read(&mut self) -> Result<Seen, Error> {
        let mut seen = Seen::default();
        for _ in 0..MAX_READS {
            match self.inotify.read_events() {
                Ok(events) => {
                    for event in &events {
                        seen.lost |= event.mask.intersects(LOST);
                        seen.changed |= self.is_about_the_file(event);
                    }
                }
                Err(Errno::EAGAIN | Errno::EINTR) => break,
                Err(errno) => return Err(Error::system("read what changed beside hosts.deny")(errno.into())),
            }
        }
        seen.changed |= seen.lost;
        Ok(seen)
    }

    fn is_about_the_file(&self, event: &InotifyEvent) -> bool {
        // When the queue has overflowed, anything may have happened.
        event.mask.contains(AddWatchFlags::IN_Q_OVERFLOW)
            || self.mounted == Some(event.wd)
            || event.name.as_ref().is_some_and(|name| self.names.contains(name))
    }
}

impl AsFd for Watch {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.inotify.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    const CHANGED: Seen = Seen { changed: true, lost: false };

    #[test]
    fn changes_of_the_file_are_seen_and_of_its_neighbours_are_not() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("hosts.deny");
        let mut watch = Watch::open(std::slice::from_ref(&path), false).unwrap();
        assert_eq!(watch.read().unwrap(), Seen::default());
        fs::write(directory.path().join("hosts.allow"), "x").unwrap();
        assert_eq!(watch.read().unwrap(), Seen::default());
        let rename = || {
            let new = directory.path().join("new");
            fs::write(&new, "x").unwrap();
            fs::rename(new, &path).unwrap();
        };
        for change in [&rename as &dyn Fn(), &|| fs::write(&path, "y").unwrap(), &|| {
            fs::remove_file(&path).unwrap();
        }] {
            change();
            assert_eq!(watch.read().unwrap(), CHANGED);
            assert_eq!(watch.read().unwrap(), Seen::default());
        }
    }

    #[test]
    fn a_directory_that_is_replaced_and_a_link_that_is_replaced_are_seen() {
        let root = tempfile::tempdir().unwrap();
        let [etc, real] = ["etc", "real"].map(|name| root.path().join(name));
        fs::create_dir(&etc).unwrap();
        fs::create_dir(&real).unwrap();
        let (link, file) = (etc.join("hosts.deny"), real.join("deny"));
        let mut watch = Watch::open(&[link.clone(), file.clone()], false).unwrap();
        std::os::unix::fs::symlink(&file, etc.join("new")).unwrap();
        fs::rename(etc.join("new"), &link).unwrap();
        assert_eq!(watch.read().unwrap(), CHANGED);
        fs::rename(&etc, root.path().join("old")).unwrap();
        assert_eq!(watch.read().unwrap(), Seen { changed: true, lost: true });
        fs::remove_dir(&real).unwrap();
        assert!(watch.read().unwrap().lost);
    }

    /// Of one directory for all names the file itself is watched, too, if it is a mount.
    #[test]
    fn what_is_written_into_a_mount_is_seen_without_its_directory() {
        let directory = tempfile::tempdir().unwrap();
        let (path, same) = (directory.path().join("hosts.deny"), directory.path().join("elsewhere"));
        fs::write(&path, "x").unwrap();
        fs::hard_link(&path, &same).unwrap();
        for (mounted, want) in [(false, Seen::default()), (true, CHANGED)] {
            let mut watch = Watch::open(std::slice::from_ref(&path), mounted).unwrap();
            fs::write(&same, "y").unwrap();
            assert_eq!(watch.read().unwrap(), want);
        }
    }
}
