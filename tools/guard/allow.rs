//! The files of `--allow`: the addresses never to block, in the format that psentry-judge and psentry-trap read, too. They are
//! read again when they change.

use std::path::PathBuf;
use std::sync::Arc;

use psentry_records::{Ignore, IgnoreError, Prefix};
use psentry_stage::{IgnoreFiles, LastGood};

/// Whom never to block, as the files had it last.
pub(crate) struct Allow {
    files: IgnoreFiles,
    list: Arc<Ignore>,
    changed: bool,
}

impl Allow {
    /// Reads the files; copies of them are in `last_good`.
    ///
    /// # Errors
    /// The first file, or line, that cannot be used, where there is no copy of that file.
    pub(crate) fn read(files: &[PathBuf], last_good: LastGood) -> Result<Self, IgnoreError> {
        let files = IgnoreFiles::open(files, last_good)?;
        let list = Arc::new(files.prefixes().iter().copied().collect());
        Ok(Allow { files, list, changed: false })
    }

    /// Reads the files again if they have changed; whether they have.
    pub(crate) fn renew(&mut self) -> bool {
        let changed = self.files.follow();
        if changed {
            let list: Ignore = self.files.prefixes().iter().copied().collect();
            self.changed |= list != *self.list;
            self.list = Arc::new(list);
        }
        changed
    }

    /// What is wrong with them now, each as a sentence.
    pub(crate) fn wrong(&self) -> Vec<String> {
        self.files.wrong()
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
        self.files.files()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn a_change_counts_and_a_wrong_line_costs_no_other() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("allow");
        let write = |text: &str| {
            let next = folder.path().join("next");
            fs::write(&next, text).unwrap();
            fs::rename(next, &file).unwrap();
        };
        write("192.0.2.7 # office\n");
        let mut allow = Allow::read(std::slice::from_ref(&file), LastGood::default()).unwrap();
        let held = |allow: &Allow, addr: &str| allow.list.holds(addr.parse().unwrap());
        assert!(held(&allow, "192.0.2.7") && !held(&allow, "192.0.2.8"));
        assert!(!allow.renew());
        assert!(allow.changed().is_none());
        write("192.0.2.8\n");
        assert!(allow.renew() && allow.wrong().is_empty());
        assert!(held(&allow, "192.0.2.8") && !held(&allow, "192.0.2.7"));
        assert!(allow.changed().is_some_and(|list| list.holds("192.0.2.8".parse().unwrap())));
        write("192.0.2.9\nexample.org\n");
        assert!(allow.renew() && allow.wrong()[0].contains("line 2"));
        assert!(held(&allow, "192.0.2.9") && held(&allow, "192.0.2.8") && allow.changed().is_some());
        assert!(!allow.renew());
        fs::remove_file(&file).unwrap();
        assert!(allow.renew() && allow.wrong()[0].contains("cannot read"));
        assert!(held(&allow, "192.0.2.8") && !held(&allow, "192.0.2.9"));
    }
}
