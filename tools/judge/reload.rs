//! The policy and the lists of the ignored, read again when they change or when SIGHUP asks for it.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::time::SystemTime;

use crate::{JudgeError, Policy, PolicyFlags};

/// What tells one content of a file from another: where every file has the same time, as in Nix's store, another file
/// in its place is another inode.
type Stamp = Option<(SystemTime, u64, u64, u64)>;

/// The files that a policy came from, as they were when they were last read.
pub(crate) struct Watched {
    files: Vec<(PathBuf, Stamp)>,
}

fn stamp(path: &PathBuf) -> Stamp {
    let meta = fs::metadata(path).ok()?;
    Some((meta.modified().ok()?, meta.len(), meta.dev(), meta.ino()))
}

impl Watched {
    /// The files of that policy.
    pub(crate) fn of(policy: &Policy) -> Self {
        Watched { files: policy.files.iter().map(|path| (path.clone(), stamp(path))).collect() }
    }

    /// Of the policy that the flags describe, and that policy.
    ///
    /// # Errors
    /// It cannot be used.
    pub(crate) fn start(flags: &PolicyFlags) -> Result<(Self, Policy), JudgeError> {
        let mut watched = Watched::of(&Policy::from_flags(flags)?);
        let policy = watched.read(flags)?;
        Ok((watched, policy))
    }

    /// Whether there are any.
    pub(crate) fn any(&self) -> bool {
        !self.files.is_empty()
    }

    /// Whether any of them has changed since it was last looked at.
    pub(crate) fn changed(&mut self) -> bool {
        let mut changed = false;
        for (path, before) in &mut self.files {
            let now = stamp(path);
            changed |= now != *before;
            *before = now;
        }
        changed
    }

    /// Reads the policy again.
    ///
    /// # Errors
    /// The new one cannot be used; the old one is to stay.
    pub(crate) fn read(&mut self, flags: &PolicyFlags) -> Result<Policy, JudgeError> {
        let policy = Policy::from_flags(flags)?;
        // A file that changed while it was read keeps the stamp of before, and is read once more.
        let before = std::mem::take(&mut self.files);
        *self = Watched::of(&policy);
        for (path, now) in &mut self.files {
            if let Some((_, stamp)) = before.iter().find(|(known, _)| known == path) {
                *now = *stamp;
            }
        }
        Ok(policy)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_file_of_the_same_time_and_length_is_noticed() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        let time = SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(1);
        for (name, text) in [("policy", "[test]\ntrigger = 5\n"), ("next", "[test]\ntrigger = 6\n")] {
            fs::write(path(name), text).unwrap();
            fs::File::options().write(true).open(path(name)).unwrap().set_modified(time).unwrap();
        }
        let flags = PolicyFlags { policy: Some(path("policy")), ..PolicyFlags::default() };
        let (mut watched, _) = Watched::start(&flags).unwrap();
        assert!(!watched.changed());
        fs::rename(path("next"), path("policy")).unwrap();
        assert!(watched.changed() && !watched.changed());
    }
}
