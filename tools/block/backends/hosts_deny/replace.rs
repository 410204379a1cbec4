//! How the file gets new contents. It is replaced in one step by a rename, so that whoever reads it finds the old contents or
//! the new ones. A file that is a mount of its own, as container runtimes make them, cannot be replaced (rename(2): EBUSY): it is
//! written in place, once its old contents are kept in a backup beside it, for an administrator whose machine crashes meanwhile.

use std::ffi::OsString;
use std::fs::{self, File, OpenOptions, Permissions};
use std::io::{self, Write};
use std::os::fd::AsRawFd;
use std::os::unix::fs::{MetadataExt, PermissionsExt, fchown};
use std::path::{Path, PathBuf};

use psentry_stage::{own_like_directory, replace_file, sync_folder};

use crate::error::Error;

/// The mode of a file that is made: every service has to read it.
pub(super) const MODE: u32 = 0o644;

/// What the name of a backup ends with.
const BACKUP: &str = ".psentry-backup";

/// Whether a file is a mount of its own, because it is on another one than its directory. Without /proc it is not known, and the
/// rename says what is wrong.
pub(super) fn is_mount(path: &Path, directory: &Path) -> bool {
    let mount_id = |path: &Path| {
        let file = File::open(path).ok()?;
        let info = fs::read_to_string(format!("/proc/self/fdinfo/{}", file.as_raw_fd())).ok()?;
        let id = info.lines().find_map(|line| line.strip_prefix("mnt_id:"))?;
        Some(id.trim().to_owned())
    };
    matches!((mount_id(path), mount_id(directory)), (Some(file), Some(directory)) if file != directory)
}

/// Where the old contents of a mounted file are kept.
pub(super) fn backup_of(path: &Path) -> PathBuf {
    let mut name = OsString::from(path);
    name.push(BACKUP);
    PathBuf::from(name)
}

/// Puts a new file in the place of the old one, with its owner and mode, or the contents of a new one where there was none.
pub(super) fn replace(path: &Path, contents: &[u8]) -> Result<(), Error> {
    copy_to(path, path, contents).map_err(Error::file(path, "replace it"))
}

/// Removes the file.
pub(super) fn remove(path: &Path) -> Result<(), Error> {
    fs::remove_file(path).and_then(|()| sync_folder(path)).map_err(Error::file(path, "remove it"))
}

/// Writes new contents over those of a mounted file, which are kept beside it.
pub(super) fn write_in_place(path: &Path, old: &[u8], contents: &[u8]) -> Result<(), Error> {
    let backup = backup_of(path);
    let kept = copy_to(&backup, path, old);
    kept.map_err(Error::file(&backup, "write it, and without a backup the file is not written in place"))?;
    let write = || -> io::Result<()> {
        let mut file = OpenOptions::new().write(true).open(path)?;
        // What is too long is cut off at the end, so that services which read meanwhile find as many blocks as there can be.
        file.write_all(contents)?;
        file.set_len(u64::try_from(contents.len()).unwrap_or(u64::MAX))?;
        file.sync_all()
    };
    write().map_err(Error::file(path, "write it in place"))
}

/// Replaces `target` in one step, by a file with the owner and the mode of `like`.
fn copy_to(target: &Path, like: &Path, contents: &[u8]) -> io::Result<()> {
    replace_file(target, contents, |file| match fs::metadata(like) {
        Ok(meta) => {
            // Whoever gives a file away may not change its mode afterwards without one more right.
            file.set_permissions(Permissions::from_mode(meta.mode() & 0o7777))?;
            fchown(file, Some(meta.uid()), Some(meta.gid()))
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            file.set_permissions(Permissions::from_mode(MODE))?;
            own_like_directory(file, target.parent().unwrap_or(Path::new("/")));
            Ok(())
        }
        Err(error) => Err(error),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mount_differs_from_a_file() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("hosts.deny");
        fs::write(&path, "x").unwrap();
        assert!(!is_mount(&path, directory.path()));
        assert!(is_mount(Path::new("/proc"), Path::new("/")));
        assert!(!is_mount(Path::new("/nonexistent"), Path::new("/")));
    }

    #[test]
    fn what_is_written_in_place_is_kept_before() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("hosts.deny");
        fs::write(&path, "much longer").unwrap();
        fs::set_permissions(&path, Permissions::from_mode(0o640)).unwrap();
        let inode = fs::metadata(&path).unwrap().ino();
        write_in_place(&path, b"much longer", b"short").unwrap();
        assert_eq!(
            (fs::read(&path).unwrap(), fs::metadata(&path).unwrap().ino()),
            (b"short".to_vec(), inode)
        );
        let backup = backup_of(&path);
        assert_eq!(fs::read(&backup).unwrap(), b"much longer");
        assert_eq!(fs::metadata(&backup).unwrap().mode() & 0o777, 0o640);
    }

    #[test]
    fn without_a_backup_nothing_is_written() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("hosts.deny");
        fs::write(&path, "old").unwrap();
        fs::create_dir(backup_of(&path)).unwrap();
        let error = write_in_place(&path, b"old", b"new").unwrap_err().to_string();
        assert!(
            error.contains("hosts.deny.psentry-backup: cannot write it, and without a backup"),
            "{error}"
        );
        assert_eq!(fs::read(&path).unwrap(), b"old");
    }
}
