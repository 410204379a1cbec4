//! Ignore files as a stage that runs reads them: followed as they change, and never a reason to run without a guard. A line that
//! is wrong costs no other line. While a file is wrong, unreadable or gone, what it said when all of it could last be used
//! counts, too: whom somebody allowed is not shut out by a slip of the pen.
//!
//! What it gives up: an address that is taken out while another line is wrong stays allowed until that line is mended.

use std::path::PathBuf;

use psentry_records::{Ignore, IgnoreError, Prefix};

use crate::safe_open::read_ignore_file;
use crate::{FileStamp, LastGood, file_stamp, wrong_setting};

/// The prefixes of all these ignore files, and what is wrong with them. They may be symbolic links.
///
/// # Errors
/// The first file, or line, that cannot be used, where there is no copy of that file.
pub fn read_ignore_files(
    files: &[PathBuf],
    last_good: &LastGood,
) -> Result<(Vec<Prefix>, Vec<IgnoreError>), IgnoreError> {
    let (mut prefixes, mut wrong) = (Vec::new(), Vec::new());
    for file in files {
        // An error is what is wrong, beside the prefixes that are right.
        let bytes = read_ignore_file(file).map_err(|error| (Vec::new(), vec![error]));
        let all_or_error = |bytes: &[u8]| {
            let (lines, errors) = Ignore::parse_lines(file, bytes);
            let prefixes: Vec<Prefix> = lines.into_iter().map(|(_, prefix)| prefix).collect();
            if errors.is_empty() { Ok(prefixes) } else { Err((prefixes, errors)) }
        };
        match last_good.read(file, bytes, all_or_error) {
            Ok((good, error)) => {
                let (right, errors) = error.unwrap_or_default();
                prefixes.extend([good, right].concat());
                wrong.extend(errors);
            }
            Err((_, errors)) => return errors.into_iter().next().map_or(Ok((prefixes, wrong)), Err),
        }
    }
    prefixes.sort_unstable();
    prefixes.dedup();
    Ok((prefixes, wrong))
}

/// Ignore files that are followed, and whom they name.
pub struct IgnoreFiles {
    files: Vec<PathBuf>,
    stamps: Vec<FileStamp>,
    last_good: LastGood,
    prefixes: Vec<Prefix>,
    wrong: Vec<IgnoreError>,
}

impl IgnoreFiles {
    /// Reads the files.
    ///
    /// # Errors
    /// [`read_ignore_files`]'.
    pub fn open(files: &[PathBuf], last_good: LastGood) -> Result<Self, IgnoreError> {
        // From before they are read, so that a file that changes meanwhile is read once more.
        let stamps = stamps(files);
        let (prefixes, wrong) = read_ignore_files(files, &last_good)?;
        Ok(IgnoreFiles { files: files.to_vec(), stamps, last_good, prefixes, wrong })
    }

    /// Reads them again if one of them has changed; whether one has.
    pub fn follow(&mut self) -> bool {
        let now = stamps(&self.files);
        let changed = now != self.stamps;
        if changed {
            self.stamps = now;
            match read_ignore_files(&self.files, &self.last_good) {
                Ok(read) => (self.prefixes, self.wrong) = read,
                Err(error) => self.wrong = vec![error],
            }
        }
        changed
    }

    /// Whom they name.
    #[must_use]
    pub fn prefixes(&self) -> &[Prefix] {
        &self.prefixes
    }

    /// What is wrong with them now, each as a sentence with file and line.
    #[must_use]
    pub fn wrong(&self) -> Vec<String> {
        self.wrong.iter().map(wrong_setting).chain(self.last_good.unwritten()).collect()
    }

    /// The files.
    #[must_use]
    pub fn files(&self) -> &[PathBuf] {
        &self.files
    }
}

fn stamps(files: &[PathBuf]) -> Vec<FileStamp> {
    files.iter().map(|file| file_stamp(file)).collect()
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::Path;

    use super::*;

    #[test]
    fn a_wrong_line_costs_no_other_line_and_the_last_good_copy_counts() {
        let folder = tempfile::tempdir().unwrap();
        let [state, file] = ["state", "ignore"].map(|name| folder.path().join(name));
        fs::create_dir(&state).unwrap();
        let write = |text: &str| {
            let next = folder.path().join("next");
            fs::write(&next, text).unwrap();
            fs::rename(next, &file).unwrap();
        };
        let open =
            |state: Option<&Path>| IgnoreFiles::open(std::slice::from_ref(&file), LastGood::of_state(state));
        let named = |files: &IgnoreFiles| {
            let mut named: Vec<String> = files.prefixes().iter().map(ToString::to_string).collect();
            named.sort();
            named
        };
        write("192.0.2.7\nexample.org\n");
        let error = open(Some(&state)).err().unwrap().to_string();
        assert!(error.contains("line 2"), "without a copy: {error}");
        write("192.0.2.7\n192.0.2.8\n");
        let mut files = open(Some(&state)).unwrap();
        assert!(!files.follow() && files.wrong().is_empty());
        // Another start, with a wrong line, and without the file.
        write("192.0.2.9\nexample.org\n192.0.2.8\n");
        for files in [open(Some(&state)).unwrap(), {
            files.follow();
            files
        }] {
            assert_eq!(files.wrong().len(), 1);
            assert_eq!(named(&files), ["192.0.2.7/32", "192.0.2.8/32", "192.0.2.9/32"]);
        }
        fs::remove_file(&file).unwrap();
        assert!(open(None).is_err());
        let mut files = open(Some(&state)).unwrap();
        assert!(files.wrong()[0].starts_with("cannot read"));
        assert_eq!(named(&files), ["192.0.2.7/32", "192.0.2.8/32"]);
        // Mended.
        write("192.0.2.10\n");
        assert!(files.follow() && files.wrong().is_empty());
        assert_eq!(named(&files), ["192.0.2.10/32"]);
    }
}
