//! The administrator's files that are followed while psentry-trap runs: `/etc/psentry/ports`, which psentry-ports reads and of which
//! it has the same lines compiled in, and the files of `--allow`. A file that turned out wrong changes nothing.

use std::io;
use std::path::{Path, PathBuf};

use psentry_ports::{PortTable, PortsFileError};
use psentry_records::{IgnoreError, Prefix};
use psentry_stage::{FileStamp, FileWatch, file_stamp, read_ignore_files};

use crate::TrapError;

/// Files, and what they say together.
struct Followed<T, E> {
    paths: Vec<PathBuf>,
    stamps: Vec<FileStamp>,
    read: fn(&[PathBuf]) -> Result<T, E>,
    value: T,
}

impl<T, E> Followed<T, E> {
    fn open(paths: Vec<PathBuf>, read: fn(&[PathBuf]) -> Result<T, E>) -> Result<Self, E> {
        // From before they are read, so that a file that changes meanwhile is read once more.
        let stamps = stamps(&paths);
        let value = read(&paths)?;
        Ok(Followed { paths, stamps, read, value })
    }

    /// Reads them again if one of them has changed. An error is reported once for each change.
    fn follow(&mut self) -> Result<(), E> {
        let now = stamps(&self.paths);
        if now != self.stamps {
            self.stamps = now;
            self.value = (self.read)(&self.paths)?;
        }
        Ok(())
    }
}

fn stamps(paths: &[PathBuf]) -> Vec<FileStamp> {
    paths.iter().map(|path| file_stamp(path)).collect()
}

/// What the files say, as far as it was right.
pub(crate) struct ConfigFiles {
    ports: Followed<PortTable, PortsFileError>,
    allow: Followed<Vec<Prefix>, IgnoreError>,
}

impl ConfigFiles {
    /// Reads the files.
    ///
    /// # Errors
    /// One of them is wrong, or one of `--allow` cannot be read.
    pub(crate) fn open(ports: &Path, allow: &[PathBuf]) -> Result<Self, TrapError> {
        let read_ports = |paths: &[PathBuf]| match paths {
            [path] => PortTable::read(path),
            _ => Ok(PortTable::builtin()),
        };
        Ok(ConfigFiles {
            ports: Followed::open(vec![ports.to_owned()], read_ports)?,
            allow: Followed::open(allow.to_owned(), read_ignore_files).map_err(TrapError::Allow)?,
        })
    }

    pub(crate) fn ports(&self) -> &PortTable {
        &self.ports.value
    }

    /// Whom the rules leave alone.
    pub(crate) fn allow(&self) -> &[Prefix] {
        &self.allow.value
    }

    /// Reads again what has changed; what is wrong with it.
    pub(crate) fn follow(&mut self) -> Vec<TrapError> {
        let ports = self.ports.follow().map_err(TrapError::from);
        let allow = self.allow.follow().map_err(TrapError::Allow);
        [ports.err(), allow.err()].into_iter().flatten().collect()
    }

    /// A watch that tells when [`follow`](Self::follow) has something to read.
    ///
    /// # Errors
    /// inotify_init1(2)'s.
    pub(crate) fn watch(&self) -> io::Result<FileWatch> {
        FileWatch::open(&[&*self.ports.paths, &self.allow.paths].concat())
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use psentry_stage::{Exit, Failure};

    use super::*;

    #[test]
    fn a_change_is_followed_and_a_wrong_file_changes_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let [ports, allow] = ["ports", "allow"].map(|name| folder.path().join(name));
        // Another file in its place each time, as editors write it.
        let write = |path: &Path, text: &str| {
            let next = folder.path().join("next");
            fs::write(&next, text).unwrap();
            fs::rename(next, path).unwrap();
        };
        let allowed = std::slice::from_ref(&allow);
        let missing = ConfigFiles::open(&ports, allowed).err().unwrap();
        assert_eq!(missing.exit(), Exit::Config, "{missing}");
        write(&allow, "192.0.2.7\n");
        let mut files = ConfigFiles::open(&ports, allowed).unwrap();
        assert_eq!(*files.ports(), PortTable::builtin());

        write(&ports, "worm tcp/9\n");
        write(&allow, "192.0.2.7\n2001:db8::/32\n");
        assert!(files.follow().is_empty());
        assert_eq!((files.ports().worms.len(), files.allow().len()), (1, 2));

        write(&ports, "wurm tcp/9\n");
        write(&allow, "192.0.2.7\n2001:db8::/129\n");
        let wrong: Vec<String> = files.follow().iter().map(ToString::to_string).collect();
        assert!(wrong[0].contains("line 1: 'wurm'") && wrong[1].contains("--allow: "), "{wrong:?}");
        assert!(files.follow().is_empty(), "it is reported once");
        assert_eq!((files.ports().worms.len(), files.allow().len()), (1, 2));
        assert!(ConfigFiles::open(&ports, allowed).is_err());

        fs::remove_file(&ports).unwrap();
        fs::remove_file(&allow).unwrap();
        assert!(files.follow()[0].to_string().contains("--allow: "));
        assert_eq!(*files.ports(), PortTable::builtin());
        assert_eq!(files.allow().len(), 2, "a file that is gone may be about to be written");
    }
}
