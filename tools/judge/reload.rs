//! The policy and the lists of the ignored, read again when they change or when SIGHUP asks for it.

use std::fs;
use std::path::PathBuf;
use std::time::SystemTime;

use crate::{JudgeError, Policy, PolicyFlags};

/// What tells one content of a file from another.
type Stamp = Option<(SystemTime, u64)>;

/// The files that a policy came from, as they were when they were last read.
pub(crate) struct Watched {
    files: Vec<(PathBuf, Stamp)>,
}

fn stamp(path: &PathBuf) -> Stamp {
    let meta = fs::metadata(path).ok()?;
    Some((meta.modified().ok()?, meta.len()))
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
