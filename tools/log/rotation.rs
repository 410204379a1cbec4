//! The names of the files of a log, as logrotate and auditd have them: FILE is written, FILE.1 is the one before it,
//! FILE.2 the one before that.
//!
//! A rotation only renames. Nothing is compressed: that takes time while a flood comes in, room while the disk is full,
//! and another file of the same records; and who follows the log finds each file by its inode until it is removed.

use std::ffi::OsString;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// The name of the file that was rotated so many times.
pub(crate) fn rotated(path: &Path, times: u32) -> PathBuf {
    let mut name = OsString::from(path);
    name.push(format!(".{times}"));
    PathBuf::from(name)
}

/// Renames FILE to FILE.1, FILE.1 to FILE.2, and so on, from the last one on. Where all `files` are there, the oldest is
/// replaced.
///
/// A missing number ends it: what is older stays as it is. So a rotation that was killed on its way, which leaves one number
/// missing, loses nothing, and the next one completes it.
///
/// # Errors
/// What rename(2) says.
pub(crate) fn rotate(path: &Path, files: u32) -> io::Result<()> {
    let last = files.saturating_sub(1).max(1);
    let free = (1..last).find(|&times| !exists(&rotated(path, times))).unwrap_or(last);
    for times in (1..free).rev() {
        fs::rename(rotated(path, times), rotated(path, times + 1))?;
    }
    fs::rename(path, rotated(path, 1))
}

/// Removes the oldest of the rotated files. `false`: there is none.
///
/// # Errors
/// What unlink(2) says.
pub(crate) fn remove_oldest(path: &Path, files: u32) -> io::Result<bool> {
    let oldest = (1..files).rev().map(|times| rotated(path, times)).find(|file| exists(file));
    oldest.map_or(Ok(false), |file| fs::remove_file(file).map(|()| true))
}

/// Removes the rotated files that are more than `files` allows, as after it was made less.
///
/// # Errors
/// What readdir(3) and unlink(2) say.
pub(crate) fn remove_surplus(path: &Path, files: u32) -> io::Result<()> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let Some(name) = path.file_name() else { return Ok(()) };
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        if times(name.as_encoded_bytes(), entry.file_name().as_encoded_bytes())
            .is_some_and(|times| times >= files)
        {
            fs::remove_file(entry.path())?;
        }
    }
    Ok(())
}

/// How many times the file of this name was rotated; `None`: it is no file of the log.
fn times(log: &[u8], name: &[u8]) -> Option<u32> {
    let digits = name.strip_prefix(log)?.strip_prefix(b".")?;
    let canonical = digits.iter().all(u8::is_ascii_digit) && !digits.starts_with(b"0");
    std::str::from_utf8(digits).ok().filter(|_| canonical)?.parse().ok()
}

fn exists(path: &Path) -> bool {
    path.symlink_metadata().is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A log whose files hold these texts, the one that is written first; "" is one that is missing.
    fn log(texts: &[&str]) -> (tempfile::TempDir, PathBuf) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("records.jsonl");
        for (times, text) in (0..).zip(texts) {
            let file = if times == 0 { path.clone() } else { rotated(&path, times) };
            if !text.is_empty() {
                fs::write(file, text).unwrap();
            }
        }
        (folder, path)
    }

    fn texts(path: &Path) -> Vec<String> {
        let rotated = (1..6).map(|times| rotated(path, times));
        std::iter::once(path.to_owned())
            .chain(rotated)
            .map(|file| fs::read_to_string(file).unwrap_or_default())
            .collect()
    }

    #[test]
    fn the_oldest_of_all_goes() {
        for (files, before, after) in [
            (3, ["a", "", "", "", "", ""], ["", "a", "", "", "", ""]),
            (3, ["b", "a", "", "", "", ""], ["", "b", "a", "", "", ""]),
            (3, ["c", "b", "a", "", "", ""], ["", "c", "b", "", "", ""]),
            (2, ["b", "a", "", "", "", ""], ["", "b", "", "", "", ""]),
            // A rotation was killed before one of its steps.
            (5, ["d", "c", "b", "", "a", ""], ["", "d", "c", "b", "a", ""]),
            (5, ["d", "c", "", "b", "a", ""], ["", "d", "c", "b", "a", ""]),
            (5, ["d", "", "c", "b", "a", ""], ["", "d", "c", "b", "a", ""]),
        ] {
            let (_folder, path) = log(&before);
            rotate(&path, files).unwrap();
            assert_eq!(texts(&path), after, "{files} {before:?}");
        }
    }

    #[test]
    fn what_is_too_much_is_removed_and_nothing_else() {
        let (folder, path) = log(&["d", "c", "b", "a", "9", "8"]);
        for other in [
            "records.jsonl-20261122-1",
            "records.jsonl.3.gz",
            "records.jsonl.03",
            "records.jsonl.",
            "other.7",
        ] {
            fs::write(folder.path().join(other), "o").unwrap();
        }
        remove_surplus(&path, 3).unwrap();
        assert_eq!(texts(&path), ["d", "c", "b", "", "", ""]);
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 8);
        assert!(remove_oldest(&path, 3).unwrap() && remove_oldest(&path, 3).unwrap());
        assert!(!remove_oldest(&path, 3).unwrap(), "the file that is written stays");
        assert_eq!(texts(&path), ["d", "", "", "", "", ""]);
    }
}
