//! `/etc/psentry/ports`, followed as it changes. psentry-ports reads it; without a file it has the same lines compiled in.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use psentry_ports::{PortTable, PortsFileError};

/// What two contents of a file differ in, without reading it: where every file has the same time, as in Nix's store,
/// another file in its place is another inode.
type Stamp = Option<(SystemTime, u64, u64, u64)>;

/// The file, and what it says.
pub(crate) struct PortsFile {
    path: PathBuf,
    stamp: Stamp,
    table: PortTable,
}

impl PortsFile {
    /// Reads the file.
    ///
    /// # Errors
    /// It is wrong.
    pub(crate) fn open(path: &Path) -> Result<Self, PortsFileError> {
        // From before it is read, so that a file that changes meanwhile is read once more.
        let stamp = stamp(path);
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
        let now = stamp(&self.path);
        if now == self.stamp {
            return Ok(());
        }
        self.stamp = now;
        self.table = PortTable::read(&self.path)?;
        Ok(())
    }
}

fn stamp(path: &Path) -> Stamp {
    let meta = fs::metadata(path).ok()?;
    Some((meta.modified().ok()?, meta.len(), meta.dev(), meta.ino()))
}

#[cfg(test)]
mod tests {
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
