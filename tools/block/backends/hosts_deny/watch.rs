//! Who changed the file: the kernel tells of every change in its directory by inotify(7), but not whose it is. A file of
//! psentry's is written under a name of psentry's and renamed, and both names are told.

use std::ffi::{OsStr, OsString};
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::Path;

use nix::errno::Errno;
use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify, InotifyEvent};
use tempfile::NamedTempFile;

use crate::error::Error;

/// How the names of drafts begin, before the number of the process.
const DRAFT: &str = ".psentry-";

/// Who changed the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Edit {
    /// Another process of psentry.
    Psentry,
    /// Somebody else, or nobody knows who.
    Others,
}

/// A watch over the directory of a file.
pub(super) struct Watch {
    inotify: Inotify,
    name: OsString,
}

/// A file beside the one that it will replace.
pub(super) fn draft(directory: &Path) -> io::Result<NamedTempFile> {
    tempfile::Builder::new().prefix(&own_prefix()).tempfile_in(directory)
}

fn own_prefix() -> String {
    format!("{DRAFT}{}-", std::process::id())
}

impl Watch {
    /// From now on changes are told.
    pub(super) fn open(path: &Path, directory: &Path) -> Result<Self, Error> {
        let open = || -> nix::Result<Inotify> {
            let inotify = Inotify::init(InitFlags::IN_CLOEXEC | InitFlags::IN_NONBLOCK)?;
            let changes = AddWatchFlags::IN_MOVE | AddWatchFlags::IN_DELETE | AddWatchFlags::IN_CLOSE_WRITE;
            inotify.add_watch(directory, changes)?;
            Ok(inotify)
        };
        let inotify = open().map_err(|errno| Error::file(directory, "watch it")(errno.into()))?;
        Ok(Watch { inotify, name: path.file_name().unwrap_or_default().to_owned() })
    }

    /// Who changed the file since the last call, apart from this process.
    pub(super) fn read(&mut self) -> Result<Option<Edit>, Error> {
        match self.inotify.read_events() {
            Ok(events) => {
                Ok(edit(&self.name, &own_prefix(), &events.iter().map(Told::from).collect::<Vec<_>>()))
            }
            Err(Errno::EAGAIN | Errno::EINTR) => Ok(None),
            Err(errno) => Err(Error::system("read what changed beside hosts.deny")(errno.into())),
        }
    }
}

impl AsFd for Watch {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.inotify.as_fd()
    }
}

/// What of an event matters.
struct Told<'a> {
    overflow: bool,
    /// The same in both halves of a renaming, otherwise 0.
    cookie: u32,
    name: &'a OsStr,
}

impl<'a> From<&'a InotifyEvent> for Told<'a> {
    fn from(event: &'a InotifyEvent) -> Self {
        Told {
            overflow: event.mask.contains(AddWatchFlags::IN_Q_OVERFLOW),
            cookie: event.cookie,
            name: event.name.as_deref().unwrap_or_default(),
        }
    }
}

fn edit(file: &OsStr, own: &str, told: &[Told<'_>]) -> Option<Edit> {
    let begins = |name: &OsStr, prefix: &str| name.as_encoded_bytes().starts_with(prefix.as_bytes());
    let mut edit = None;
    for event in told {
        let other_half = || told.iter().find(|t| t.cookie == event.cookie && t.name != file);
        let by = match other_half().filter(|_| event.cookie != 0) {
            _ if event.overflow => Edit::Others,
            _ if event.name != file => continue,
            Some(half) if begins(half.name, own) => continue,
            Some(half) if begins(half.name, DRAFT) => Edit::Psentry,
            _ => Edit::Others,
        };
        edit = if edit == Some(Edit::Others) { edit } else { Some(by) };
    }
    edit
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn whose_change_it_is_is_known() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("hosts.deny");
        let mut watch = Watch::open(&path, directory.path()).unwrap();
        assert_eq!(watch.read().unwrap(), None);
        draft(directory.path()).unwrap().into_temp_path().persist(&path).unwrap();
        fs::write(directory.path().join("hosts.allow"), "x").unwrap();
        assert_eq!(watch.read().unwrap(), None, "our own, and another file");
        let rename = |from: &str, to: &str| {
            let [from, to] = [from, to].map(|name| directory.path().join(name));
            fs::write(&from, "x").unwrap();
            fs::rename(from, to).unwrap();
        };
        rename(".psentry-1-abc", "hosts.deny");
        assert_eq!(watch.read().unwrap(), Some(Edit::Psentry));
        rename("hosts.deny", ".psentry-1-abc");
        assert_eq!(watch.read().unwrap(), Some(Edit::Others), "written, then taken away");
        for by_others in [&|| fs::write(&path, "y").unwrap(), &|| fs::remove_file(&path).unwrap(), &|| {
            rename("new", "hosts.deny");
        }] as [&dyn Fn(); 3]
        {
            by_others();
            assert_eq!(watch.read().unwrap(), Some(Edit::Others));
            assert_eq!(watch.read().unwrap(), None);
        }
        fs::rename(&path, directory.path().join(".psentry-1-abc")).unwrap();
        assert_eq!(watch.read().unwrap(), Some(Edit::Psentry));
    }
}
