//! `/etc/psentry/ports`, followed as it changes. psentry-ports reads it; without a file it has the same lines compiled in.

use std::path::{Path, PathBuf};

use psentry_ports::{PortTable, PortsFileError};
use psentry_stage::{FileStamp, file_stamp};

/// The file, and what it says.
pub(crate) struct PortsFile {
    path: PathBuf,
    stamp: FileStamp,
    table: PortTable,
}

impl PortsFile {
    /// Reads the file.
    ///
    /// # Errors
    /// It is wrong.
    pub(crate) fn open(path: &Path) -> Result<Self, PortsFileError> {
        // From before it is read, so that a file that changes meanwhile is read once more.
        let stamp = file_stamp(path);
        Ok(PortsFile { path: path.to_owned(), stamp, table: PortTable::read(path)? })
    }

    /// What it says, as far as that was right.
    pub(crate) fn table(&self) -> &PortTable {
        &self.table
    }

    /// Reads it again if it has changed.
    ///
    /// # Errors
    /// It is wrong, and what it said before stays; told once for each change.
    pub(crate) fn follow(&mut self) -> Result<(), PortsFileError> {
        let now = file_stamp(&self.path);
        if now == self.stamp {
            return Ok(());
        }
        self.stamp = now;
        self.table = PortTable::read(&self.path)?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn a_change_is_followed_and_a_wrong_file_changes_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("ports");
        let mut file = PortsFile::open(&path).unwrap();
        assert_eq!(*file.table(), PortTable::builtin());
        // Another file in its place each time, as editors write it.
        let write = |text: &str| {
            let next = folder.path().join("next");
            fs::write(&next, text).unwrap();
            fs::rename(next, &path).unwrap();
        };
        write("worm tcp/9\n");
        file.follow().unwrap();
        assert_eq!(file.table().worms.len(), 1);
        write("wurm tcp/9\n");
        assert!(file.follow().unwrap_err().to_string().contains("line 1: 'wurm'"));
        assert!(file.follow().is_ok(), "it is said once");
        assert_eq!(file.table().worms.len(), 1);
        assert!(PortsFile::open(&path).is_err());
        fs::remove_file(&path).unwrap();
        file.follow().unwrap();
        assert_eq!(*file.table(), PortTable::builtin());
    }
}
