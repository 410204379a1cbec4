//! A file that takes the place of another in one step: it is written beside it as a draft, and renamed. Whoever reads the
//! target, and whoever starts after a crash, finds the old contents or the new ones, and never half of them.
//!
//! It knows nothing of the contents, and takes no lock.

use std::ffi::OsString;
use std::fs::{self, File, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use tempfile::TempPath;

/// What a draft is called until it takes the place of its target. A process that is killed leaves its draft behind.
#[derive(Clone, Copy, Debug)]
pub enum DraftName<'a> {
    /// The target's name and `.new`, for a target that one process writes at a time: the draft that a killed one left is
    /// removed first, so that there is never more than one.
    Fixed,
    /// A dot, the target's name and random letters: several processes may write drafts of one target at once.
    Random,
    /// This prefix and random letters, so that the draft can be recognized by its name.
    Prefix(&'a str),
}

/// A draft that is to take the place of its target. Dropped before that, it removes the draft: half a file would keep a
/// full disk full.
#[derive(Debug)]
pub struct Replacement {
    draft: TempPath,
    target: PathBuf,
}

impl Replacement {
    /// Makes an empty draft beside `target`, of the caller's own and with this mode, less the umask. The file is open for
    /// appending, so that a journal may go on in it.
    ///
    /// # Errors
    /// open(2)'s, above all of the folder; and that `target` has no name of its own, such as `..`.
    pub fn create(target: &Path, name: DraftName<'_>, mode: u32) -> io::Result<(Self, File)> {
        let Some(own) = target.file_name() else {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "it is no name of a file"));
        };
        let with = |before: &str, after: &str| {
            let mut name = OsString::from(before);
            name.push(own);
            name.push(after);
            name
        };
        let prefix = match name {
            DraftName::Fixed => with("", ".new"),
            DraftName::Random => with(".", "."),
            DraftName::Prefix(prefix) => OsString::from(prefix),
        };
        let folder = folder_of(target);
        let mut builder = tempfile::Builder::new();
        builder.prefix(&prefix).append(true).permissions(Permissions::from_mode(mode));
        if matches!(name, DraftName::Fixed) {
            match fs::remove_file(folder.join(&prefix)) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
            builder.rand_bytes(0);
        }
        // With O_EXCL, so that no link of that name leads elsewhere.
        let (file, draft) = builder.tempfile_in(folder)?.into_parts();
        Ok((Replacement { draft, target: target.to_owned() }, file))
    }

    /// Where the draft is.
    #[must_use]
    pub fn draft(&self) -> &Path {
        &self.draft
    }

    /// Brings the draft onto the disk, puts it in the place of the target, and brings that onto the disk, too: it outlives
    /// a crash from here on. `file` is the draft as [`create`](Self::create) returned it.
    ///
    /// # Errors
    /// fsync(2)'s and rename(2)'s. If only the last fsync failed, the new contents are in place already.
    pub fn commit(self, file: &File) -> io::Result<()> {
        file.sync_all()?;
        let target = self.target.clone();
        self.rename()?;
        sync_folder(&target)
    }

    /// Puts the draft in the place of the target, and leaves it to the caller whether, and in which order, both are brought
    /// onto the disk.
    ///
    /// # Errors
    /// rename(2)'s.
    pub fn rename(self) -> io::Result<()> {
        self.draft.persist(&self.target).map_err(|error| error.error)
    }
}

/// Syncs to the disk which file has the name `path`.
///
/// # Errors
/// open(2)'s and fsync(2)'s.
pub fn sync_folder(path: &Path) -> io::Result<()> {
    File::open(folder_of(path))?.sync_all()
}

/// Replaces `target` by a file with these contents, of the caller's own and with mode 0600, which is on the disk when this
/// returns. Before it is written, `prepare` may give it another mode and owner.
///
/// # Errors
/// As of [`Replacement`]; the target is the old one then, but for an error of the last fsync.
pub fn replace_file(
    target: &Path,
    contents: &[u8],
    prepare: impl FnOnce(&File) -> io::Result<()>,
) -> io::Result<()> {
    let (replacement, mut file) = Replacement::create(target, DraftName::Random, 0o600)?;
    prepare(&file)?;
    file.write_all(contents)?;
    replacement.commit(&file)
}

/// The folder in which a file is, or is to be.
pub(crate) fn folder_of(path: &Path) -> &Path {
    path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    /// What is in a folder, by name.
    fn names(folder: &Path) -> Vec<String> {
        let entries = fs::read_dir(folder).unwrap();
        let mut names: Vec<_> =
            entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).unwrap().permissions().mode() & 0o7777
    }

    #[test]
    fn a_file_is_made_and_replaced_and_nothing_is_left_beside_it() {
        let folder = tempfile::tempdir().unwrap();
        let target = folder.path().join("panic");
        replace_file(&target, b"one", |_| Ok(())).unwrap();
        assert_eq!((fs::read(&target).unwrap(), mode(&target)), (b"one".to_vec(), 0o600));
        replace_file(&target, b"two", |file| file.set_permissions(Permissions::from_mode(0o644))).unwrap();
        assert_eq!((fs::read(&target).unwrap(), mode(&target)), (b"two".to_vec(), 0o644));
        assert_eq!(names(folder.path()), ["panic"]);
    }

    #[test]
    fn the_old_file_stays_until_the_new_one_is_whole() {
        let folder = tempfile::tempdir().unwrap();
        let target = folder.path().join("state");
        fs::write(&target, "old").unwrap();
        for (name, draft) in [(DraftName::Fixed, "state.new"), (DraftName::Prefix("mine-"), "mine-")] {
            let (replacement, mut file) = Replacement::create(&target, name, 0o600).unwrap();
            file.write_all(b"half").unwrap();
            assert!(names(folder.path()).iter().any(|name| name.starts_with(draft)), "{draft}");
            assert_eq!(fs::read(&target).unwrap(), b"old");
            drop(replacement);
            assert_eq!(names(folder.path()), ["state"], "what is given up is removed");
        }
        let failed = replace_file(&target, b"new", |_| Err(io::Error::other("no owner")));
        assert_eq!(failed.unwrap_err().to_string(), "no owner");
        assert_eq!((fs::read(&target).unwrap(), names(folder.path()).len()), (b"old".to_vec(), 1));
    }

    #[test]
    fn what_is_written_after_the_replacement_is_appended() {
        let folder = tempfile::tempdir().unwrap();
        let target = folder.path().join("journal");
        let (replacement, mut file) = Replacement::create(&target, DraftName::Fixed, 0o600).unwrap();
        file.write_all(b"one ").unwrap();
        replacement.commit(&file).unwrap();
        // As another process does.
        fs::OpenOptions::new().append(true).open(&target).unwrap().write_all(b"two ").unwrap();
        file.write_all(b"three").unwrap();
        assert_eq!(fs::read(&target).unwrap(), b"one two three");
    }

    #[test]
    fn a_draft_that_a_killed_process_left_is_replaced_and_a_link_is_not_followed() {
        let folder = tempfile::tempdir().unwrap();
        let (target, elsewhere) = (folder.path().join("state"), folder.path().join("elsewhere"));
        fs::write(&elsewhere, "theirs").unwrap();
        symlink(&elsewhere, folder.path().join("state.new")).unwrap();
        let (replacement, mut file) = Replacement::create(&target, DraftName::Fixed, 0o600).unwrap();
        file.write_all(b"ours").unwrap();
        replacement.commit(&file).unwrap();
        assert_eq!(fs::read(&elsewhere).unwrap(), b"theirs");
        assert_eq!((fs::read(&target).unwrap(), names(folder.path()).len()), (b"ours".to_vec(), 2));
    }

    /// Root may write into any folder, so the ones that refuse are no folder at all, or the kernel's own.
    #[test]
    fn a_folder_that_takes_no_file_is_an_error() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("file");
        fs::write(&file, "").unwrap();
        for target in
            [file.join("panic"), folder.path().join("none/panic"), "/proc/panic".into(), "..".into()]
        {
            for name in [DraftName::Fixed, DraftName::Random, DraftName::Prefix("mine-")] {
                assert!(Replacement::create(&target, name, 0o600).is_err(), "{}", target.display());
            }
        }
        // A folder cannot be replaced by a file.
        fs::create_dir(folder.path().join("taken")).unwrap();
        replace_file(&folder.path().join("taken"), b"", |_| Ok(())).unwrap_err();
        assert_eq!(names(folder.path()), ["file", "taken"]);
    }
}
