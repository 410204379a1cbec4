//! The files of `--allow`: whom never to block, in the format that psentry-judge and psentry-trap read, too. They are
//! read again when they change.

use std::path::PathBuf;
use std::sync::Arc;

use psentry_records::{Ignore, IgnoreError, Prefix};
use psentry_stage::{FileStamp, file_stamp, read_ignore_files};

/// Whom never to block, as the files had it last.
#[derive(Default)]
pub(crate) struct Allow {
    files: Vec<PathBuf>,
    stamps: Vec<FileStamp>,
    list: Arc<Ignore>,
    changed: bool,
}

impl Allow {
    /// Reads the files.
    ///
    /// # Errors
    /// The first file, or line, that cannot be used.
    pub(crate) fn read(files: &[PathBuf]) -> Result<Self, IgnoreError> {
        // From before they are read, so that a file that changes meanwhile is read once more.
        let stamps = stamps(files);
        let list = Arc::new(read_ignore_files(files)?.into_iter().collect());
        Ok(Allow { files: files.to_vec(), stamps, list, changed: false })
    }

    /// Reads the files again if they have changed.
    ///
    /// # Errors
    /// What cannot be used, once for each change; then it stays as it was.
    pub(crate) fn renew(&mut self) -> Result<(), IgnoreError> {
        let stamps = stamps(&self.files);
        if stamps == self.stamps {
            return Ok(());
        }
        self.stamps = stamps;
        self.list = Arc::new(read_ignore_files(&self.files)?.into_iter().collect());
        self.changed = true;
        Ok(())
    }

    /// Why `scope` must not be blocked; `None`: it may.
    pub(crate) fn refusal(&self, scope: Prefix) -> Option<String> {
        let verb = if scope.is_host() { "is" } else { "holds" };
        self.list.touches(scope).then(|| format!("{scope} {verb} an address that --allow names"))
    }

    /// Whom never to block, if that has changed since this was last asked.
    pub(crate) fn changed(&mut self) -> Option<Arc<Ignore>> {
        std::mem::take(&mut self.changed).then(|| Arc::clone(&self.list))
    }

    /// The files.
    pub(crate) fn files(&self) -> &[PathBuf] {
        &self.files
    }
}

fn stamps(files: &[PathBuf]) -> Vec<FileStamp> {
    files.iter().map(|path| file_stamp(path)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn a_change_counts_and_a_broken_one_leaves_all_as_it_was() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("allow");
        let write = |text: &str| {
            let next = folder.path().join("next");
            fs::write(&next, text).unwrap();
            fs::rename(next, &file).unwrap();
        };
        write("192.0.2.7 # office\n");
        let mut allow = Allow::read(std::slice::from_ref(&file)).unwrap();
        let held = |allow: &Allow, addr: &str| allow.list.holds(addr.parse().unwrap());
        assert!(held(&allow, "192.0.2.7") && !held(&allow, "192.0.2.8"));
        allow.renew().unwrap();
        assert!(allow.changed().is_none());
        write("192.0.2.8\n");
        allow.renew().unwrap();
        assert!(held(&allow, "192.0.2.8") && !held(&allow, "192.0.2.7"));
        assert!(allow.changed().is_some_and(|list| list.holds("192.0.2.8".parse().unwrap())));
        write("192.0.2.9\nexample.org\n");
        let said = allow.renew().unwrap_err().to_string();
        assert!(said.contains("line 2"), "{said}");
        allow.renew().unwrap();
        fs::remove_file(&file).unwrap();
        assert!(allow.renew().unwrap_err().to_string().contains("cannot read"));
        assert!(held(&allow, "192.0.2.8"));
        assert!(allow.changed().is_none());
    }
}
