//! Settings as they could last be used, in the folder of a stage's state: a stage that starts beside a file that is wrong,
//! unreadable or gone goes on with the copy, and says so, in place of leaving the machine without a guard.
//!
//! It knows nothing of what a file says. A copy is made of what a stage could use, and of nothing else.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fmt::Display;
use std::fs::{self, DirBuilder};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use crate::replace_file;

/// The folder of the copies in that of the state.
const FOLDER: &str = "last-good";

/// The copies: in memory and, where there is a folder, on the disk.
#[derive(Debug, Default)]
pub struct LastGood {
    folder: Option<PathBuf>,
    /// What was read by this program.
    kept: RefCell<BTreeMap<PathBuf, Kept>>,
}

/// What a file said.
#[derive(Debug)]
struct Kept {
    bytes: Vec<u8>,
    /// Why it is not on the disk.
    unwritten: Option<io::Error>,
}

impl LastGood {
    /// The copies in the folder of a stage's state. Without one they last as long as the program runs.
    #[must_use]
    pub fn of_state(state: Option<&Path>) -> Self {
        LastGood { folder: state.map(|state| state.join(FOLDER)), ..Self::default() }
    }

    /// What `parse` makes of a file that says `bytes`, of which a copy is made. Where that is an error, what `parse` makes of
    /// the last copy, and the error.
    ///
    /// # Errors
    /// That error, where there is no copy that can be used.
    pub fn read<T, E>(
        &self,
        file: &Path,
        bytes: Result<Vec<u8>, E>,
        parse: impl Fn(&[u8]) -> Result<T, E>,
    ) -> Result<(T, Option<E>), E> {
        let error = match bytes.and_then(|bytes| Ok((parse(&bytes)?, bytes))) {
            Ok((value, bytes)) => {
                let unwritten = self.write(file, &bytes).err();
                self.kept.borrow_mut().insert(file.to_owned(), Kept { bytes, unwritten });
                return Ok((value, None));
            }
            Err(error) => error,
        };
        let copy = self.kept.borrow().get(file).map(|kept| kept.bytes.clone());
        match copy.or_else(|| self.on_disk(file)).map(|copy| parse(&copy)) {
            Some(Ok(value)) => Ok((value, Some(error))),
            _ => Err(error),
        }
    }

    /// Of which files no copy could be written, each as a sentence.
    #[must_use]
    pub fn unwritten(&self) -> Vec<String> {
        let kept = self.kept.borrow();
        let failures = kept.iter().filter_map(|(file, kept)| Some((file, kept.unwritten.as_ref()?)));
        let folder = self.folder.as_deref().unwrap_or(Path::new("")).display();
        let sentence = |(file, why): (&PathBuf, &io::Error)| {
            let file = file.display();
            format!(
                "no copy of {file} can be kept in {folder} ({why}), so that a start takes the file only if all of it is right"
            )
        };
        failures.map(sentence).collect()
    }

    fn on_disk(&self, file: &Path) -> Option<Vec<u8>> {
        fs::read(self.folder.as_ref()?.join(name(file))).ok()
    }

    fn write(&self, file: &Path, bytes: &[u8]) -> io::Result<()> {
        let Some(folder) = &self.folder else { return Ok(()) };
        // A file of Nix's store never changes, and has another path in each generation: copies would only gather.
        if file.starts_with("/nix/store") || self.on_disk(file).is_some_and(|copy| copy == bytes) {
            return Ok(());
        }
        DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
        replace_file(&folder.join(name(file)), bytes, |_| Ok(()))
    }
}

/// What is said of a setting that is wrong where a copy counts in its place.
#[must_use]
pub fn wrong_setting(error: &impl Display) -> String {
    format!("{error}; what was last right counts until that is mended")
}

/// The name of a copy: the file's path, in which `/` is `-` and what else is neither letter nor digit is escaped.
fn name(file: &Path) -> String {
    let file = std::path::absolute(file).unwrap_or_else(|_| file.to_owned());
    let bytes = file.as_os_str().as_bytes().iter();
    bytes
        .map(|&byte| match byte {
            b'/' => "-".to_owned(),
            b'.' | b'_' => char::from(byte).to_string(),
            _ if byte.is_ascii_alphanumeric() => char::from(byte).to_string(),
            _ => format!("\\x{byte:02x}"),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is made of a file that says `now`: it is to begin with "good".
    fn read(copies: &LastGood, file: &str, now: &str) -> Result<(String, Option<String>), String> {
        copies.read(Path::new(file), Ok(now.as_bytes().to_vec()), |bytes| {
            let text = String::from_utf8_lossy(bytes).into_owned();
            if text.starts_with("good") { Ok(text) } else { Err(text) }
        })
    }

    #[test]
    fn a_copy_outlives_its_file_and_the_program() {
        let folder = tempfile::tempdir().unwrap();
        let open = || LastGood::of_state(Some(folder.path()));
        let (file, other) = ("/etc/psentry/ignore", "/etc-psentry/ignore");
        assert_eq!(read(&open(), file, "bad"), Err("bad".to_owned()), "without a copy");
        assert_eq!(read(&open(), file, "good 1"), Ok(("good 1".to_owned(), None)));
        assert_eq!(read(&open(), other, "good 2"), Ok(("good 2".to_owned(), None)));
        let copies = open();
        assert_eq!(read(&copies, file, "bad"), Ok(("good 1".to_owned(), Some("bad".to_owned()))));
        assert_eq!(read(&copies, other, "bad"), Ok(("good 2".to_owned(), Some("bad".to_owned()))));
        assert!(copies.unwritten().is_empty());
        read(&copies, "/nix/store/abc-psentry-ignore", "good").unwrap();
        assert_eq!(fs::read_dir(folder.path().join(FOLDER)).unwrap().count(), 2);
    }

    #[test]
    fn where_none_can_be_written_it_is_said_and_lasts_as_long_as_the_program() {
        let folder = tempfile::tempdir().unwrap();
        let state = folder.path().join("state");
        fs::write(&state, "no folder").unwrap();
        let copies = LastGood::of_state(Some(&state));
        read(&copies, "/etc/psentry/ports", "good").unwrap();
        assert_eq!(
            read(&copies, "/etc/psentry/ports", "bad"),
            Ok(("good".to_owned(), Some("bad".to_owned())))
        );
        let said = copies.unwritten().join("\n");
        assert!(
            said.starts_with("no copy of /etc/psentry/ports can be kept in ")
                && said.contains("Not a directory"),
            "{said}"
        );
        fs::remove_file(&state).unwrap();
        read(&copies, "/etc/psentry/ports", "good").unwrap();
        assert!(copies.unwritten().is_empty());
        let none = LastGood::default();
        read(&none, "/etc/psentry/ports", "good").unwrap();
        assert!(none.unwritten().is_empty());
    }
}
