//! The files of a log: FILE is written, FILE.1 is the one before it, FILE.2 the one before that; any but the first may be
//! compressed, as FILE.2.gz or FILE.2.zst.

use std::fs::{self, File};
use std::io::{self, Seek};
use std::path::{Path, PathBuf};

use crate::lines::{Found, Lines};

/// One file of a log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct LogFile {
    /// How often it was rotated; 0 is the one that is written.
    pub(crate) times: u32,
    pub(crate) path: PathBuf,
}

/// The files that there are, the newest first.
///
/// # Errors
/// readdir(3)'s; that the directory is missing is none.
pub(crate) fn files(log: &Path) -> io::Result<Vec<LogFile>> {
    let folder = log.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let Some(name) = log.file_name() else { return Ok(Vec::new()) };
    let entries = match fs::read_dir(folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries?,
    };
    let mut files = Vec::new();
    for entry in entries {
        let entry = entry?.file_name();
        if let Some(times) = times(name.as_encoded_bytes(), entry.as_encoded_bytes()) {
            files.push(LogFile { times, path: folder.join(entry) });
        }
    }
    // While a file is compressed both are there: the whole one first.
    files.sort_by_key(|file| (file.times, file.path.as_os_str().len()));
    files.dedup_by_key(|file| file.times);
    Ok(files)
}

/// How many times the file of this name was rotated; `None`: it is no file of the log.
fn times(log: &[u8], name: &[u8]) -> Option<u32> {
    let rest = name.strip_prefix(log)?;
    if rest.is_empty() {
        return Some(0);
    }
    let digits = rest.strip_prefix(b".")?;
    let digits = [&b".gz"[..], b".zst"].iter().find_map(|end| digits.strip_suffix(*end)).unwrap_or(digits);
    let canonical = digits.iter().all(u8::is_ascii_digit) && !digits.starts_with(b"0");
    std::str::from_utf8(digits).ok().filter(|_| canonical)?.parse().ok()
}

/// The lines of a file, and the first of them; `None`: it is gone, or has no line yet.
///
/// # Errors
/// Those of open(2) and read(2), and that a compressed file is damaged.
pub(crate) fn open(path: &Path) -> io::Result<Option<(Lines, String)>> {
    let file = match File::open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        file => file?,
    };
    // The same file, whatever its name leads to by then.
    let mut again = file.try_clone()?;
    let mut lines = Lines::new(file)?;
    loop {
        match lines.next()? {
            Found::Line(first) => {
                again.rewind()?;
                return Ok(Some((Lines::new(again)?, String::from_utf8_lossy(&first).into_owned())));
            }
            Found::TooLong => {}
            Found::Nothing => return Ok(None),
        }
    }
}

/// The name of the file that was rotated so many times and is not compressed.
#[cfg(test)]
pub(crate) fn rotated(log: &Path, times: u32) -> PathBuf {
    let mut name = std::ffi::OsString::from(log);
    name.push(format!(".{times}"));
    name.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_files_of_a_log_are_those_and_no_others() {
        let folder = tempfile::tempdir().unwrap();
        let log = folder.path().join("records.jsonl");
        for name in ["", ".2", ".1", ".10.gz", ".3.zst", ".3", ".03", ".x", "-20261122", ".1.bak", "2"] {
            fs::write(folder.path().join(format!("records.jsonl{name}")), "").unwrap();
        }
        let found = files(&log).unwrap();
        let names: Vec<&str> = found
            .iter()
            .map(|file| file.path.to_str().unwrap().rsplit_once("records.jsonl").unwrap().1)
            .collect();
        assert_eq!(names, ["", ".1", ".2", ".3", ".10.gz"]);
        assert_eq!(files(&folder.path().join("missing/log")).unwrap(), []);
    }
}
