//! The administrator's files that are followed while psentry-trap runs: `/etc/psentry/ports`, which psentry-ports reads and of which
//! it has the same lines compiled in, and the files of `--allow`. While one is wrong, what it last said right counts.

use std::io;
use std::path::{Path, PathBuf};

use psentry_ports::{PortTable, PortsFileError};
use psentry_records::Prefix;
use psentry_stage::{FileStamp, FileWatch, IgnoreFiles, LastGood, file_stamp, wrong_setting};

use crate::TrapError;

/// What the files say, as far as it was right.
pub(crate) struct ConfigFiles {
    ports_path: PathBuf,
    ports_stamp: FileStamp,
    ports_last_good: LastGood,
    ports: PortTable,
    /// What is wrong with the file of ports, so that its copy counts.
    ports_wrong: Option<PortsFileError>,
    allow: IgnoreFiles,
}

impl ConfigFiles {
    /// Reads the files; copies of them are in the folder `state`.
    ///
    /// # Errors
    /// One of them is wrong or cannot be read, and `state` has no copy of it.
    pub(crate) fn open(ports: &Path, allow: &[PathBuf], state: Option<&Path>) -> Result<Self, TrapError> {
        // From before it is read, so that a file that changes meanwhile is read once more.
        let ports_stamp = file_stamp(ports);
        let ports_last_good = LastGood::of_state(state);
        let (table, ports_wrong) = read_ports(ports, &ports_last_good)?;
        let allow = IgnoreFiles::open(allow, LastGood::of_state(state)).map_err(TrapError::Allow)?;
        Ok(ConfigFiles {
            ports_path: ports.to_owned(),
            ports_stamp,
            ports_last_good,
            ports: table,
            ports_wrong,
            allow,
        })
    }

    pub(crate) fn ports(&self) -> &PortTable {
        &self.ports
    }

    /// Whom the rules leave alone.
    pub(crate) fn allow(&self) -> &[Prefix] {
        self.allow.prefixes()
    }

    /// Reads again what has changed; whether anything has.
    pub(crate) fn follow(&mut self) -> bool {
        let now = file_stamp(&self.ports_path);
        let ports_changed = now != self.ports_stamp;
        if ports_changed {
            self.ports_stamp = now;
            match read_ports(&self.ports_path, &self.ports_last_good) {
                Ok(read) => (self.ports, self.ports_wrong) = read,
                Err(error) => self.ports_wrong = Some(error),
            }
        }
        self.allow.follow() || ports_changed
    }

    /// What is wrong with the files now, so that copies count, each as a sentence.
    pub(crate) fn wrong(&self) -> Vec<String> {
        let ports = self.ports_wrong.iter().map(wrong_setting).chain(self.ports_last_good.unwritten());
        ports.chain(self.allow.wrong()).collect()
    }

    /// A watch that tells when [`follow`](Self::follow) has something to read.
    ///
    /// # Errors
    /// inotify_init1(2)'s.
    pub(crate) fn watch(&self) -> io::Result<FileWatch> {
        FileWatch::open(&[std::slice::from_ref(&self.ports_path), self.allow.files()].concat())
    }
}

/// The table of ports, and what is wrong with its file, so that a copy counts.
fn read_ports(
    file: &Path,
    last_good: &LastGood,
) -> Result<(PortTable, Option<PortsFileError>), PortsFileError> {
    last_good.read(file, PortTable::bytes(file), |bytes| PortTable::parse(file, bytes))
}

#[cfg(test)]
mod tests {
    use std::fs;

    use psentry_stage::{Exit, Failure};

    use super::*;

    #[test]
    fn a_change_is_followed_and_beside_a_wrong_file_its_copy_counts() {
        let folder = tempfile::tempdir().unwrap();
        let [ports, allow] = ["ports", "allow"].map(|name| folder.path().join(name));
        // Another file in its place each time, as editors write it.
        let write = |path: &Path, text: &str| {
            let next = folder.path().join("next");
            fs::write(&next, text).unwrap();
            fs::rename(next, path).unwrap();
        };
        let allowed = std::slice::from_ref(&allow);
        let missing = ConfigFiles::open(&ports, allowed, None).err().unwrap();
        assert_eq!(missing.exit(), Exit::Config, "{missing}");
        write(&allow, "192.0.2.7\n");
        let mut files = ConfigFiles::open(&ports, allowed, Some(folder.path())).unwrap();
        assert_eq!(*files.ports(), PortTable::builtin());

        write(&ports, "worm tcp/9\n");
        write(&allow, "192.0.2.7\n2001:db8::/32\n");
        assert!(files.follow() && files.wrong().is_empty());
        assert_eq!((files.ports().worms.len(), files.allow().len()), (1, 2));

        write(&ports, "wurm tcp/9\n");
        write(&allow, "192.0.2.7\n2001:db8::/129\n");
        assert!(files.follow() && !files.follow());
        let wrong = files.wrong();
        assert!(wrong[0].contains("line 1: 'wurm'") && wrong[1].contains("allow, line 2: "), "{wrong:?}");
        assert_eq!((files.ports().worms.len(), files.allow().len()), (1, 2));
        assert!(ConfigFiles::open(&ports, allowed, None).is_err());
        let again = ConfigFiles::open(&ports, allowed, Some(folder.path())).unwrap();
        assert_eq!((again.ports().worms.len(), again.allow().len(), again.wrong().len()), (1, 2, 2));

        fs::remove_file(&ports).unwrap();
        fs::remove_file(&allow).unwrap();
        assert!(files.follow() && files.wrong()[0].contains("allow: No such file"));
        assert_eq!(*files.ports(), PortTable::builtin());
        assert_eq!(files.allow().len(), 2, "a file that is gone may be about to be written");
    }
}
