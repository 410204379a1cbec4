//! New contents for a file that others own and read: its owner and its mode stay. It is replaced in one step, so that whoever reads it
//! finds the old contents or the new ones. A file that is a mount of its own, as container runtimes make them, cannot be replaced
//! (rename(2): EBUSY): it is written in place.

use std::fs::{self, File, OpenOptions, Permissions};
use std::io::{self, Write};
use std::os::fd::AsRawFd;
use std::os::unix::fs::{MetadataExt, PermissionsExt, fchown};
use std::path::Path;

use crate::replace_file::{folder_of, replace_file};
use crate::safe_open::own_like_directory;

/// What is in a file; `None`: there is none.
///
/// # Errors
/// read(2)'s.
pub fn read_if_there(path: &Path) -> io::Result<Option<Vec<u8>>> {
    match fs::read(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        read => read.map(Some),
    }
}

/// Removes a file, if it is there.
///
/// # Errors
/// unlink(2)'s.
pub fn remove_if_there(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        removed => removed,
    }
}

/// Whether a file is a mount of its own, because it is on another one than its directory. Without /proc it is not known, and the
/// rename says what is wrong.
#[must_use]
pub fn is_mount(path: &Path) -> bool {
    let mount_id = |path: &Path| {
        let file = File::open(path).ok()?;
        let info = fs::read_to_string(format!("/proc/self/fdinfo/{}", file.as_raw_fd())).ok()?;
        let id = info.lines().find_map(|line| line.strip_prefix("mnt_id:"))?;
        Some(id.trim().to_owned())
    };
    matches!((mount_id(path), mount_id(folder_of(path))), (Some(file), Some(folder)) if file != folder)
}

/// Replaces `target` in one step, by a file with the owner and the mode of `like`; where there is no such file, with the owner of the
/// directory and `mode`.
///
/// # Errors
/// As of [`replace_file`].
pub fn replace_file_like(target: &Path, like: &Path, mode: u32, contents: &[u8]) -> io::Result<()> {
    replace_file(target, contents, |file| match fs::metadata(like) {
        Ok(meta) => {
            // Whoever gives a file away may not change its mode afterwards without one more right.
            file.set_permissions(Permissions::from_mode(meta.mode() & 0o7777))?;
            fchown(file, Some(meta.uid()), Some(meta.gid()))
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            file.set_permissions(Permissions::from_mode(mode))?;
            own_like_directory(file, folder_of(target));
            Ok(())
        }
        Err(error) => Err(error),
    })
}

/// Replaces a file of settings as [`replace_file_like`] does, and keeps its owner and its mode; where it is a link, the file that it
/// leads to.
///
/// # Errors
/// As of [`replace_file_like`].
pub fn replace_settings(path: &Path, contents: &str) -> io::Result<()> {
    let path = &fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
    replace_file_like(path, path, 0o644, contents.as_bytes())
}

/// Writes new contents over those of a file, which are lost if the machine crashes meanwhile.
///
/// # Errors
/// open(2)'s, write(2)'s and fsync(2)'s.
pub fn write_in_place(path: &Path, contents: &[u8]) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).open(path)?;
    // What is too long is cut off at the end, so that whoever reads meanwhile finds as much of the new contents as there can be.
    file.write_all(contents)?;
    file.set_len(u64::try_from(contents.len()).unwrap_or(u64::MAX))?;
    file.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mount_differs_from_a_file() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("hosts.deny");
        fs::write(&path, "x").unwrap();
        assert!(!is_mount(&path));
        assert!(is_mount(Path::new("/proc")));
        assert!(!is_mount(Path::new("/nonexistent")));
    }

    #[test]
    fn what_is_written_in_place_is_the_same_file_and_what_is_kept_has_its_mode() {
        let directory = tempfile::tempdir().unwrap();
        let [path, backup] = ["hosts.deny", "backup"].map(|name| directory.path().join(name));
        fs::write(&path, "much longer").unwrap();
        fs::set_permissions(&path, Permissions::from_mode(0o640)).unwrap();
        let inode = fs::metadata(&path).unwrap().ino();
        replace_file_like(&backup, &path, 0o644, b"much longer").unwrap();
        write_in_place(&path, b"short").unwrap();
        assert_eq!(
            (fs::read(&path).unwrap(), fs::metadata(&path).unwrap().ino()),
            (b"short".to_vec(), inode)
        );
        assert_eq!(read_if_there(&backup).unwrap().as_deref(), Some(&b"much longer"[..]));
        assert_eq!(fs::metadata(&backup).unwrap().mode() & 0o777, 0o640);
        remove_if_there(&backup).unwrap();
        remove_if_there(&backup).unwrap();
        assert_eq!(read_if_there(&backup).unwrap(), None);
    }
}
