//! Whom to leave alone: the file that psentry-judge takes as `--ignore`. One address or prefix a line, `#` begins a
//! comment, host bits may be set.

use std::fs;
use std::path::{Path, PathBuf};

use psentry_records::Prefix;

use crate::TrapError;

/// The prefixes of all files.
///
/// # Errors
/// The first file, or line, that cannot be used.
pub(crate) fn read_all(files: &[PathBuf]) -> Result<Vec<Prefix>, TrapError> {
    let mut all = Vec::new();
    for file in files {
        let bytes = fs::read(file).map_err(|source| TrapError::AllowRead { file: file.clone(), source })?;
        all.append(&mut parse(file, &bytes)?);
    }
    Ok(all)
}

/// The prefixes of one file; `file` only names it.
fn parse(file: &Path, bytes: &[u8]) -> Result<Vec<Prefix>, TrapError> {
    let mut prefixes = Vec::new();
    for (line, bytes) in (1..).zip(bytes.split(|&byte| byte == b'\n')) {
        let text = String::from_utf8_lossy(bytes);
        // An editor on Windows begins a file with a byte order mark.
        let text = text.trim_start_matches('\u{feff}');
        let entry = text.split('#').next().unwrap_or_default().trim();
        if entry.is_empty() {
            continue;
        }
        let prefix = entry.parse().map_err(|_| {
            let shown = entry.chars().take(60).flat_map(char::escape_default).collect();
            TrapError::AllowLine { file: file.to_owned(), line, shown }
        })?;
        prefixes.push(prefix);
    }
    Ok(prefixes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_prefixes_and_comments_are_read() {
        let text =
            b"\xef\xbb\xbf192.0.2.7 # office\r\n\n# all of it\n2001:DB8::5/64\n::ffff:198.51.100.0/120";
        let prefixes = parse(Path::new("x"), text).unwrap();
        let shown: Vec<String> = prefixes.iter().map(ToString::to_string).collect();
        assert_eq!(shown, ["192.0.2.7/32", "2001:db8::/64", "198.51.100.0/24"]);
    }

    #[test]
    fn a_name_is_refused_with_its_line() {
        let error = parse(Path::new("/etc/allow"), b"192.0.2.7\nexample.org\n").unwrap_err().to_string();
        assert!(error.starts_with("/etc/allow, line 2: 'example.org'"), "{error}");
    }
}
